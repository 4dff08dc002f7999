"""What callers are told of their limits: the RateLimit headers and the words of refusals."""

import pytest

from routing.account import Limits
from routing.limits import Grant, Limit, Now
from server.errors import RateLimited
from server.meter import FREE, Meter

NOW = 50.0


def meter(limits: Limits, *, left: float = 0.0, day_left: int = 0) -> Meter:
    """A meter whose share has been told what is left."""
    made = Meter("t", limits, NOW)
    told = made.share.report("t", NOW)
    answer = Grant(rate=0, rate_left=left, places=0, places_aim=0, places_free=0, day=0, day_left=day_left)
    made.share.settle(told, answer, Now(gateways=1, day=1, day_left_s=600.0), NOW)
    return made


def headers(made: Meter) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in made.headers()}


def refusal(made: Meter, limit: Limit) -> tuple[RateLimited, dict[str, str]]:
    error = made.refusal(limit, NOW)
    return error, {name.decode(): value.decode() for name, value in error.headers}


@pytest.mark.parametrize(
    ("limits", "policy"),
    [
        (Limits(rate_per_s=10.0), "10;w=1;burst=10"),
        (Limits(rate_per_s=0.5, burst=3), "1;w=2;burst=3"),
        (Limits(rate_per_s=2.5, burst=3), "9000;w=3600;burst=3"),
        (Limits(rate_per_s=0.3), "1080;w=3600;burst=1"),
        (Limits(daily_requests=1000), "1000;w=86400"),
        (Limits(rate_per_s=10.0, burst=20, daily_requests=1000), "10;w=1;burst=20, 1000;w=86400"),
    ],
)
def test_the_policy_names_every_limit_that_has_a_window(limits: Limits, policy: str) -> None:
    assert headers(meter(limits))["ratelimit-policy"] == policy


def test_what_is_left_of_the_rate_and_when_it_is_whole_again() -> None:
    told = headers(meter(Limits(rate_per_s=10.0, burst=40), left=25.0))
    assert (told["ratelimit-limit"], told["ratelimit-remaining"], told["ratelimit-reset"]) == ("40", "25", "2")


def test_the_limit_that_is_nearest_to_its_end_is_told() -> None:
    limits = Limits(rate_per_s=10.0, burst=40, daily_requests=1000)
    assert headers(meter(limits, left=25.0, day_left=700))["ratelimit-limit"] == "40"
    told = headers(meter(limits, left=25.0, day_left=7))
    assert (told["ratelimit-limit"], told["ratelimit-remaining"]) == ("1000", "7")


def test_concurrency_alone_has_no_window_and_is_told_in_refusals_only() -> None:
    made = meter(Limits(concurrency=3))
    assert headers(made) == {}
    error, told = refusal(made, "concurrency")
    assert told == {"ratelimit-limit": "3", "ratelimit-remaining": "0", "ratelimit-reset": "1"}
    assert error.message.startswith("3 requests are in flight already")


def test_a_refusal_names_its_limit_and_when_to_come_back() -> None:
    made = meter(Limits(rate_per_s=0.25, burst=2, daily_requests=9))
    error, told = refusal(made, "rate")
    assert error.message == "the rate of 0.25 requests per second (burst 2) is used up (limit: rate)"
    assert (error.retry_after_s, told["ratelimit-reset"], told["ratelimit-limit"]) == (4.0, "4", "2")
    error, told = refusal(made, "day")
    assert error.message.endswith("the next day begins at midnight UTC (limit: day)")
    assert (error.retry_after_s, told["ratelimit-reset"], told["ratelimit-limit"]) == (600.0, "600", "9")


def test_changed_limits_are_told_at_once() -> None:
    made = meter(Limits(rate_per_s=10.0), left=10.0)
    made.use(Limits(daily_requests=50))
    assert headers(made)["ratelimit-policy"] == "50;w=86400"


def test_no_limits_say_nothing() -> None:
    assert FREE.headers() == []
