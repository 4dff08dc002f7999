"""One gateway's share, without any Redis: what it decides, reports and does alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.account import Limits
from routing.limits import (
    DAY_GRACE_S,
    DAY_S,
    HORIZON_S,
    UNKNOWN_GATEWAYS,
    Grant,
    Now,
    burst_of,
    credit_of,
    day_credit_of,
    is_limited,
)
from routing.share import Share

NOW = 100.0
STATE = Now(gateways=2, day=20_000, day_left_s=3600.0)
NOTHING = Grant(rate=0, rate_left=0.0, places=0, places_aim=0, places_free=0, day=0, day_left=0)


def grant(**changes: float) -> Grant:
    fields = {name: getattr(NOTHING, name) for name in NOTHING.__struct_fields__}
    return Grant(**(fields | changes))


def settled(limits: Limits, answer: Grant, state: Now = STATE) -> Share:
    """A share whose first report has been answered."""
    share = Share(limits, NOW, NOW + DAY_S)
    share.settle(share.report("t", NOW), answer, state, NOW)
    return share


def let_in(share: Share, now: float, count: int = 1000) -> int:
    return sum(share.take(now) is None for _ in range(count))


def test_limits_of_other_things_are_no_limits_of_requests() -> None:
    assert not is_limited(Limits(tickets=3, burst=7))
    assert is_limited(Limits(daily_requests=1))


@pytest.mark.parametrize(
    ("limits", "burst"),
    [
        (Limits(rate_per_s=5.0), 5),
        (Limits(rate_per_s=0.2), 1),
        (Limits(rate_per_s=5.0, burst=50), 50),
        (Limits(rate_per_s=1000.0, burst=1), round(1000 * HORIZON_S)),
    ],
)
def test_the_bucket_holds_the_burst_or_what_reports_are_too_rare_to_split(limits: Limits, burst: int) -> None:
    assert burst_of(limits) == burst


def test_before_the_first_answer_exactly_the_credit_is_let_in() -> None:
    limits = Limits(rate_per_s=200.0, burst=300)
    share = Share(limits, NOW, NOW + DAY_S)
    assert let_in(share, NOW) == credit_of(limits) == 10
    assert share.hopes("rate", NOW)
    share.waiting = 300
    assert not share.hopes("rate", NOW)


def test_a_credit_is_told_and_paid_before_there_is_another() -> None:
    limits = Limits(rate_per_s=1.0, burst=50)
    share = Share(limits, NOW, NOW + DAY_S)
    assert let_in(share, NOW) == 1
    first = share.report("t", NOW)
    assert (first.rate_used, first.rate_fresh, first.rate_held) == (1, 1, 0)
    assert let_in(share, NOW) == 0  # not answered yet
    share.settle(first, grant(rate_left=1.0), STATE, NOW)
    assert let_in(share, NOW) == 0  # two gateways' credits are more than the bucket has
    assert let_in(share, NOW + 1.0) == 1


def test_a_lost_answer_is_told_again_and_nothing_twice() -> None:
    share = settled(Limits(rate_per_s=10.0, burst=50), grant(rate=20, rate_left=30.0))
    assert let_in(share, NOW, 5) == 5
    lost = share.report("t", NOW + 0.1)
    assert let_in(share, NOW, 2) == 2
    again = share.report("t", NOW + 0.2)
    assert (lost.rate_fresh, again.rate_fresh, again.rate_used) == (5, 7, 7)
    assert again.serial == lost.serial + 1
    share.settle(again, grant(rate_left=1.0), STATE, NOW + 0.2)
    assert share.report("t", NOW + 0.3).rate_fresh == 0


def test_what_is_not_wanted_is_given_up_when_it_is_told_not_when_it_is_answered() -> None:
    share = settled(Limits(rate_per_s=10.0, burst=50), grant(rate=40, rate_left=-1000.0))  # no credit for long
    later = share.report("t", NOW + 5.0)
    assert (later.rate_held, later.rate_want) == (0, 0)
    assert let_in(share, NOW + 5.0) == 0


def test_a_quiet_share_says_so_and_wakes_with_the_next_request() -> None:
    share = settled(Limits(rate_per_s=10.0, burst=50), grant(rate_left=50.0))
    before = share.is_quiet
    assert share.take(NOW) is None
    assert (before, share.is_quiet, share.is_hungry) == (True, False, True)


@given(held=st.integers(0, 20), aim=st.integers(0, 20))
def test_places_come_down_to_the_aim_as_requests_end(held: int, aim: int) -> None:
    share = settled(Limits(concurrency=20), grant(places=held, places_aim=held, places_free=20))
    in_flight = let_in(share, NOW, 20)
    told = share.report("t", NOW + 0.1)
    assert told.places_held >= in_flight
    share.settle(told, grant(places=told.places_held, places_aim=aim), STATE, NOW + 0.1)
    if aim <= in_flight:
        assert let_in(share, NOW + 0.1) == 0
    for _ in range(in_flight):
        share.release()
    assert let_in(share, NOW + 0.1) == min(aim, told.places_held)


def test_the_day_ends_what_was_given_for_it() -> None:
    share = settled(Limits(daily_requests=100_000), grant(day=30, day_left=900))
    assert let_in(share, NOW, 5) == 5
    next_day = NOW + STATE.day_left_s
    assert let_in(share, next_day) == day_credit_of(share.limits)
    assert share.day == STATE.day + 1
    assert share.day_ends == next_day + DAY_S


def test_an_answer_about_yesterday_gives_nothing_today() -> None:
    share = settled(Limits(daily_requests=100_000), grant(day=0, day_left=0))
    assert share.take(NOW) == "day"
    told = share.report("t", NOW)
    next_day = NOW + STATE.day_left_s
    credit = let_in(share, next_day)
    share.settle(told, grant(day=30, day_left=900), STATE, next_day)
    assert let_in(share, next_day) == 0
    assert share.report("t", next_day).day_fresh == credit


def test_alone_it_goes_on_with_its_part_of_everything() -> None:
    limits = Limits(rate_per_s=10.0, burst=20, concurrency=7, daily_requests=1000)
    share = settled(limits, grant(rate=4, rate_left=3.0, places=2, places_aim=2, day=4, day_left=400))
    share.cut_off(NOW)
    assert let_in(share, NOW) == 3  # a third place would be another gateway's
    for _ in range(3):
        share.release()
    assert let_in(share, NOW) == 1  # of the four tokens that lay here
    share.release()
    admitted = 0
    for tick in range(1, 101):  # ten seconds
        admitted += let_in(share, NOW + tick / 10, 5)
        while share.in_flight:
            share.release()
    assert admitted == pytest.approx(10.0 / 2 * 10, abs=2)
    assert not share.hopes("rate", NOW + 10)


def test_alone_the_day_goes_on_for_its_grace_with_its_part_of_what_was_left() -> None:
    share = settled(Limits(daily_requests=1000), grant(day=4, day_left=400))
    share.cut_off(NOW)
    assert let_in(share, NOW, 100) == 100
    assert share.take(NOW + DAY_GRACE_S + 1) == "day"
    other = settled(Limits(daily_requests=1000), grant(day=4, day_left=400))
    other.cut_off(NOW)
    assert let_in(other, NOW) == 4 + 400 // 2


def test_a_gateway_that_has_never_reached_redis_believes_in_several() -> None:
    share = Share(Limits(rate_per_s=0.001, burst=100, concurrency=40), NOW, NOW + DAY_S)
    share.cut_off(NOW)
    assert let_in(share, NOW) == 1
    share.release()
    assert let_in(share, NOW + 1e9) == 40 // UNKNOWN_GATEWAYS


def test_what_was_let_in_alone_is_told_once() -> None:
    share = settled(Limits(rate_per_s=10.0, burst=20), grant(rate=4))
    share.cut_off(NOW)
    assert let_in(share, NOW) == 4
    told = share.report("t", NOW + 1)
    assert (told.rate_alone, told.rate_held, told.rate_fresh) == (4, 0, 0)
    share.settle(told, grant(rate=2), STATE, NOW + 1)
    assert not share.is_alone
    assert let_in(share, NOW + 1) == 2
    assert share.report("t", NOW + 2).rate_alone == 0


def test_new_limits_hold_from_the_next_request_and_keep_what_is_in_flight() -> None:
    share = settled(Limits(rate_per_s=100.0, burst=500), grant(rate=500, rate_left=0.0))
    assert let_in(share, NOW, 50) == 50
    share.use(Limits(rate_per_s=100.0, burst=20, concurrency=60))
    assert let_in(share, NOW) <= 20
    assert share.in_flight >= 50


def test_new_limits_hold_while_alone() -> None:
    share = settled(Limits(rate_per_s=100.0), grant(rate=5))
    share.cut_off(NOW)
    share.use(Limits(concurrency=8, daily_requests=10))
    assert let_in(share, NOW) == 4


def test_a_share_is_forgotten_only_when_a_new_one_would_be_the_same() -> None:
    share = settled(Limits(rate_per_s=0.001, burst=1), grant(rate_left=0.0))
    assert share.is_quiet
    assert not share.is_forgettable(NOW + 200.0, 100.0)  # its next credit is due later
    assert share.is_forgettable(NOW + 2000.0, 100.0)
