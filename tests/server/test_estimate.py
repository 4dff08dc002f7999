"""What a gateway believes of a worker: reports, what was sent since, what time works off, what is overdue."""

import pytest

from routing.cost import Cost
from server.estimate import HOP_HALF_LIFE_S, LASTING_HOP_MS, MAX_HOP_MS, Estimate
from server.wire import Costs, Load, Share, Shares, Unloaded

TICKET = "t" * 64


@pytest.fixture
def estimate() -> Estimate:
    """Of a worker that holds TICKET, 1 ms a row, from second 0."""
    estimate = Estimate("w1", 0.0)
    estimate.costs(Costs({TICKET: Cost(0.5, 1.0, 0.0)}))
    return estimate


def send(estimate: Estimate, ask_id: int, rows: int = 10, tenant: str = "acme", now: float = 0.0) -> float | None:
    return estimate.sent(ask_id, ticket=TICKET, tenant=tenant, rows=rows, row_bytes=20, service_ms=3.0, now=now)


def test_tickets_come_and_go_and_a_view_that_was_taken_stays_as_it_was(estimate: Estimate) -> None:
    before = estimate.view(0.0)
    estimate.costs(Costs({"u" * 64: Cost(1.0, 1.0, 1.0)}))
    assert set(estimate.view(0.0).costs) == {TICKET, "u" * 64}
    estimate.unloaded(Unloaded([TICKET, "never held"]))
    assert set(estimate.view(0.0).costs) == {"u" * 64}
    assert set(before.costs) == {TICKET}


def test_what_runs_ends_by_itself_and_then_the_queue_shortens(estimate: Estimate) -> None:
    estimate.load(Load(4.0, 10.0, {"acme": 10.0}, 1.0, 0.9), 0.0)
    for ms, running_ms, queued_ms in ((0, 4, 10), (3, 1, 10), (6, 0, 8), (100, 0, 0)):
        view = estimate.view(ms / 1000)
        assert [view.running_ms, view.queued_ms] == pytest.approx([running_ms, queued_ms])
    assert view.busy == 0.9


def test_what_was_sent_counts_on_top_of_the_report_until_the_worker_has_seen_it(estimate: Estimate) -> None:
    estimate.load(Load(0.0, 5.0, {"rival": 5.0}, 2.0), 0.0)
    assert send(estimate, 1) == 15.0  # it runs when what waits has run
    view = estimate.view(0.0)
    assert (view.queued_ms, view.tenants, view.active_weight) == (15.0, {"rival": 5.0, "acme": 10.0}, 3.0)
    estimate.load(Load(0.0, 7.0, {"rival": 7.0}, 2.0, 0.5, 9), 0.0)
    assert estimate.view(0.0).tenants == {"rival": 7.0}


def test_a_report_that_has_not_seen_the_last_asks_does_not_forget_them(estimate: Estimate) -> None:
    """A burst that is still in the socket when the worker reports would otherwise be sent twice over."""
    for ask_id in (1, 2, 3):
        send(estimate, ask_id)
    estimate.load(Load(0.0, 10.0, {"acme": 10.0}, 1.0, 0.0, seen=1), 0.0)
    view = estimate.view(0.0)
    assert (view.queued_ms, view.tenants, view.active_weight) == (30.0, {"acme": 30.0}, 1.0)


def test_what_ends_before_it_was_reported_counts_no_more(estimate: Estimate) -> None:
    send(estimate, 1)
    send(estimate, 2, rows=3)
    estimate.ended(1, was_warm=True, is_settled=True)
    view = estimate.view(0.0)
    assert [view.queued_ms, view.tenants["acme"]] == pytest.approx([3.0, 3.0])


def test_a_tenants_weight_counts_as_its_share_says(estimate: Estimate) -> None:
    estimate.shares(Shares(1, {"acme": Share(4.0)}))
    send(estimate, 1)
    assert estimate.view(0.0).active_weight == 4.0


def test_a_ticket_that_is_not_held_costs_what_the_table_says(estimate: Estimate) -> None:
    assert None is estimate.sent(1, ticket="x", tenant="acme", rows=2, row_bytes=9, service_ms=3.0, now=0.0)
    assert estimate.view(0.0).queued_ms == 6.0


def test_a_worker_that_should_be_done_and_is_not_looks_busier_and_busier(estimate: Estimate) -> None:
    send(estimate, 1)
    assert estimate.view(0.005).running_ms == 0.0
    assert estimate.view(0.030).running_ms == pytest.approx(20.0)
    assert estimate.view(0.200).running_ms == pytest.approx(190.0)
    estimate.ended(1, was_warm=True, is_settled=True)
    assert estimate.view(0.200).running_ms == 0.0


def test_a_worker_that_was_idle_is_not_late_with_work_that_it_has_just_got(estimate: Estimate) -> None:
    send(estimate, 1, now=100.0)
    assert estimate.view(100.0).running_ms == 0.0
    assert estimate.view(100.0).queued_ms == pytest.approx(10.0)


def test_loading_a_ticket_makes_no_worker_late(estimate: Estimate) -> None:
    """It takes as long as it takes, on a thread of its own: the others' batches run meanwhile."""
    estimate.sent(1, ticket="x", tenant="acme", rows=1, row_bytes=9, service_ms=1.0, now=0.0)
    assert estimate.view(0.5).running_ms == 0.0


def test_a_report_that_grows_while_nothing_is_answered_is_not_worked_off_by_time(estimate: Estimate) -> None:
    """A stuck runtime: its event loop reports on, and what it reports grows."""
    send(estimate, 1)
    estimate.load(Load(100.0, 0.0), 0.1)
    estimate.load(Load(350.0, 0.0), 0.35)
    assert estimate.view(0.55).running_ms == pytest.approx(550.0)
    estimate.ended(1, was_warm=True, is_settled=True)
    estimate.load(Load(0.0, 0.0), 0.6)
    assert estimate.view(0.6).running_ms == 0.0


def test_the_way_there_and_back_is_learned_and_bounded(estimate: Estimate) -> None:
    """It delays whatever is sent, however idle the worker."""
    for _ in range(200):
        estimate.took(0.75, 0.0)
    assert estimate.view(0.0).running_ms == 0.75
    estimate.took(5.0, 0.0)
    assert estimate.view(0.0).running_ms == 1.5  # up faster than down
    for _ in range(200):
        estimate.took(1e6, 0.0)
    assert MAX_HOP_MS - 1 < estimate.view(0.0).running_ms <= MAX_HOP_MS


def test_a_long_way_is_forgotten_unless_answers_confirm_it(estimate: Estimate) -> None:
    """It may have become so long that nothing is sent any more, and so nothing confirms anything."""
    for _ in range(200):
        estimate.took(40.0, 0.0)
    assert estimate.view(HOP_HALF_LIFE_S).running_ms == pytest.approx(20.0, rel=0.05)
    assert estimate.view(1.0).running_ms == LASTING_HOP_MS
    for ms in range(1000):
        estimate.took(40.0, ms / 1000)
    assert estimate.view(1.0).running_ms > 35.0


def test_an_ask_that_was_given_up_shows_that_the_way_is_at_least_so_long(estimate: Estimate) -> None:
    """Otherwise only those that made their deadlines would be counted."""
    for _ in range(100):
        estimate.took(20.0, 0.0, at_least=True)
    assert estimate.view(0.0).running_ms == pytest.approx(20.0, rel=0.05)
    estimate.took(0.0, 0.0, at_least=True)
    assert estimate.view(0.0).running_ms == pytest.approx(20.0, rel=0.05)


def test_a_silent_worker_looks_as_busy_as_it_is_silent(estimate: Estimate) -> None:
    assert estimate.view(0.0, silent_ms=900.0).running_ms == 900.0
