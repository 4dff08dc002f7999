"""The scheduler by examples: deadlines first among those whose turn it may be, within the budget."""

import copy
import gc
import sys

import pytest

from routing.cost import FAIR_LEAD_MS, Cost
from server.batch import Batch, Entry
from server.profile import PRIOR, Profiles
from server.scheduler import Scheduler

BUDGET = 64
ROW_MS = Cost(0.0, 1.0, 0.0, 0.1)
"""A row takes a millisecond, whatever its length."""


def entry(
    number: int,
    ticket: str = "a",
    *,
    tenant: str = "acme",
    deadline: float = 10.0,
    texts: int = 1,
    longest: int = 8,
    priority: int = 2,
) -> Entry:
    return Entry(
        id=number, ticket=ticket, tenant=tenant, deadline=deadline, texts=texts, longest=longest, priority=priority
    )


def ids(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [piece.entry.id for piece in batch.slices]


def scheduler(
    *entries: Entry, batch_tokens: int = BUDGET, queue_texts: int = 1000, costs: dict[str, Cost] | None = None
) -> Scheduler:
    profiles = Profiles()
    for ticket, cost in (costs or {}).items():
        profiles.know(ticket, cost)
    made = Scheduler(profiles, batch_tokens=batch_tokens, queue_texts=queue_texts)
    for one in entries:
        assert made.push(one) == []
    return made


def run_all(made: Scheduler, now: float = 0.0) -> list[Batch]:
    batches = []
    while (batch := made.take(now)) is not None:
        batches.append(batch)
        made.finished(batch, now + batch.predicted_ms / 1000)
    return batches


def rows(batches: list[Batch]) -> list[list[tuple[int, int, int]]]:
    return [[(piece.entry.id, piece.start, piece.stop) for piece in batch.slices] for batch in batches]


ORDERS = {
    "nothing waits, nothing runs": ([], []),
    "the earliest deadline chooses the ticket and fills the batch with its entries": (
        [entry(1, "a", deadline=5), entry(2, "b", deadline=3), entry(3, "b", deadline=9), entry(4, "a", deadline=4)],
        [[2, 3], [4, 1]],
    ),
    "equal deadlines run in order of arrival across tickets": (
        [entry(i, "ab"[i % 2], longest=BUDGET) for i in range(6)],
        [[0], [1], [2], [3], [4], [5]],
    ),
    "a text longer than the budget runs alone": ([entry(1, longest=500), entry(2, longest=500)], [[1], [2]]),
    "a batch counts padded tokens: three times 20, but not four": (
        [entry(1, longest=8, deadline=1), entry(2, longest=20, deadline=2), entry(3), entry(4)],
        [[1, 2, 3], [4]],
    ),
    "tenants share a batch of their ticket": (
        [entry(1, tenant="x", deadline=2), entry(2, tenant="y", deadline=1), entry(3, tenant="x", deadline=0.5)],
        [[3, 2, 1]],
    ),
    "a priority goes before a deadline": (
        [entry(1, priority=3, deadline=1), entry(2, priority=2, deadline=2), entry(3, priority=1, deadline=3)],
        [[3, 2, 1]],
    ),
    "a priority does not push other tenants": (
        [
            entry(1, "a", tenant="x", priority=1, deadline=3),
            entry(2, "b", tenant="y", priority=3, deadline=2),
        ],
        [[2], [1]],
    ),
    "nothing rides along while its tenant has something more important for another ticket": (
        [
            entry(1, "a", tenant="x", priority=2, deadline=1),
            entry(2, "b", tenant="x", priority=1, deadline=9),
            entry(3, "a", tenant="y", deadline=2),
        ],
        [[3], [2], [1]],
    ),
}


@pytest.mark.parametrize(("entries", "batches"), ORDERS.values(), ids=ORDERS)
def test_what_runs_in_which_order(entries: list[Entry], batches: list[list[int]]) -> None:
    made = scheduler(*map(copy.copy, entries))  # running changes them
    assert [ids(batch) for batch in run_all(made)] == batches


def test_an_entry_larger_than_the_budget_is_cut_and_others_come_between_by_deadline() -> None:
    made = scheduler(entry(1, texts=20, longest=8, deadline=5.0))
    first = made.take(0.0)
    assert first is not None
    assert [(piece.start, piece.stop, piece.is_first, piece.is_last) for piece in first.slices] == [(0, 8, True, False)]
    made.finished(first, 0.001)
    assert made.push(entry(2, "b", deadline=1.0)) == []
    assert rows(run_all(made)) == [[(2, 0, 1)], [(1, 8, 16)], [(1, 16, 20)]]


def test_a_tenant_that_is_ahead_by_the_lead_waits_for_those_behind_whatever_its_deadlines() -> None:
    """Both have a long backlog; the flood's deadlines are all earlier. It gets its lead, then half."""
    flood = [entry(i, "a", tenant="flood", deadline=1.0, longest=BUDGET) for i in range(40)]
    quiet = [entry(100 + i, "a", tenant="quiet", deadline=9.0, longest=BUDGET) for i in range(20)]
    made = scheduler(*flood, *quiet, costs={"a": ROW_MS})
    order = ["flood" if ids(batch)[0] < 100 else "quiet" for batch in run_all(made)]
    lead = int(FAIR_LEAD_MS) + 1
    assert order[:lead] == ["flood"] * lead
    assert order[lead : lead + 10].count("quiet") == 5
    assert order[-1] == "flood"


def test_a_tenant_of_twice_the_weight_gets_twice_the_service() -> None:
    made = scheduler(
        *(entry(i, tenant="single", longest=BUDGET) for i in range(100)),
        *(entry(100 + i, tenant="double", longest=BUDGET) for i in range(100)),
        costs={"a": ROW_MS},
    )
    made.weigh({"double": 2.0})
    served = ["double" if ids(batch)[0] >= 100 else "single" for batch in run_all(made)[:90]]
    assert 60 - 15 <= served.count("double") <= 60 + 15


def test_costs_are_charged_not_rows() -> None:
    """One tenant's ticket takes five times as long: it gets a fifth of the batches."""
    made = scheduler(
        *(entry(i, "slow", tenant="s", longest=BUDGET) for i in range(200)),
        *(entry(500 + i, "fast", tenant="f", longest=BUDGET) for i in range(200)),
        costs={"slow": Cost(0.0, 5.0, 0.0, 0.1), "fast": ROW_MS},
    )
    served = [batch.ticket for batch in run_all(made)[:120]]
    assert 100 - 15 <= served.count("fast") <= 100 + 15


def test_expired_entries_come_back_and_never_run() -> None:
    made = scheduler(entry(1, deadline=1.0), entry(2, deadline=3.0), entry(3, "b", deadline=2.0))
    assert sorted(one.id for one in made.expired(2.0)) == [1, 3]
    assert [ids(batch) for batch in run_all(made, 2.0)] == [[2]]
    assert made.texts == 0


def test_what_could_not_finish_in_time_is_dropped_before_its_deadline() -> None:
    made = scheduler(entry(1, deadline=0.010), entry(2, deadline=0.100), costs={"a": Cost(20.0, 1.0, 0.0, 0.1)})
    assert [one.id for one in made.expired(0.0)] == [1]
    assert [one.id for one in made.expired(0.080)] == []
    assert [one.id for one in made.expired(0.084)] == [2]


def test_a_guess_drops_nothing_before_its_deadline() -> None:
    made = scheduler(entry(1, "unknown", deadline=0.0001, longest=1000))
    assert made.expired(0.0) == []
    assert len(made.expired(0.0001)) == 1


def test_what_has_run_in_part_is_hopeless_only_by_what_is_left() -> None:
    cost = Cost(0.0, 10.0, 0.0, 0.1)
    made = scheduler(entry(1, texts=8, longest=BUDGET, deadline=0.120), costs={"a": cost})
    for step in range(7):
        now = step * 0.010
        assert made.expired(now) == []
        batch = made.take(now)
        assert batch is not None
        made.finished(batch, now + 0.010)
    assert made.expired(0.111) == []
    assert len(made.expired(0.113)) == 1


def test_a_cancelled_entry_comes_back_once_and_never_runs() -> None:
    made = scheduler(entry(1), entry(2))
    cancelled = made.cancel(1)
    assert cancelled is not None
    assert cancelled.id == 1
    assert made.cancel(1) is None
    assert made.cancel(99) is None
    assert [ids(batch) for batch in run_all(made)] == [[2]]
    assert made.cancel(2) is None


def test_a_full_queue_refuses_but_an_empty_one_takes_any_entry() -> None:
    made = scheduler(entry(1, texts=50), queue_texts=10)
    late = entry(2)
    assert made.push(late) == [late]
    run_all(made)
    assert made.push(entry(3)) == []


def test_a_full_queue_displaces_the_newest_of_who_has_most_for_who_has_less() -> None:
    flood = [entry(i, tenant="flood", deadline=1.0) for i in range(10)]
    made = scheduler(*flood, queue_texts=10)
    assert made.push(entry(20, tenant="quiet", texts=2)) == [flood[9], flood[8]]
    again = entry(21, tenant="flood")
    assert made.push(again) == [again]
    assert made.texts == 10
    assert sorted(one for batch in run_all(made) for one in ids(batch)) == [0, 1, 2, 3, 4, 5, 6, 7, 20]


def test_dead_entries_do_not_pile_up_in_memory() -> None:
    made = scheduler(entry(0, priority=1, deadline=1.0))
    for number in range(1, 1000):
        made.push(entry(number))
        made.cancel(number)
    queues = made._queues
    for heap in (queues.by_time, queues.backlogs["acme"].heap, queues.queues["a"].lanes["acme"].heap):
        assert len(heap.items) < 200


def test_nothing_is_left_to_the_garbage_collector() -> None:
    """Work that has run is freed at once, with all that its payload refers to."""
    made = scheduler(batch_tokens=16)
    gc.collect()
    gc.disable()
    try:
        for number in range(50):
            made.push(entry(number, deadline=10.0 + number))
        run_all(made)
        assert made.expired(100.0) == []
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_the_predicted_wait_is_what_waits_by_the_costs_and_what_runs() -> None:
    made = scheduler(costs={"a": Cost(2.0, 1.0, 0.1, 0.1)})
    assert made.wait_ms(0.0) == 0.0
    made.push(entry(1, longest=10))
    assert made.wait_ms(0.0) == pytest.approx(2.0 + 1.0 + 10 * 0.1)
    batch = made.take(0.0)
    assert batch is not None
    assert made.wait_ms(0.001) == pytest.approx(3.0)
    made.finished(batch, 0.004)
    assert made.wait_ms(0.004) == 0.0


def test_what_is_overdue_looks_busier_and_busier() -> None:
    made = scheduler(entry(1), costs={"a": Cost(0.0, 4.0, 0.0, 0.1)})
    made.take(0.0)
    assert [round(made.load(now).running_ms) for now in (0.0, 0.003, 0.004, 0.010, 5.0)] == [4, 1, 0, 6, 4996]


def test_load_tells_what_each_tenant_has_waiting() -> None:
    made = scheduler(
        entry(1, "a", tenant="x", texts=3),
        entry(2, "b", tenant="x"),
        entry(3, "a", tenant="y"),
        costs={"a": Cost(1.0, 2.0, 0.0, 0.1), "b": Cost(5.0, 1.0, 0.0, 0.1)},
    )
    made.weigh({"x": 4.0})
    load = made.load(0.0)
    assert load.queued_ms == pytest.approx((1 + 4 * 2) + (5 + 1))
    assert load.tenants == {"x": pytest.approx((1 + 3 * 2) + (5 + 1)), "y": pytest.approx(1 + 2)}
    assert load.active_weight == 5.0
    assert load.running_ms == load.busy == 0.0
    run_all(made)
    assert made.load(1.0).tenants == {}
    assert made.load(1.0).queued_ms == made.load(1.0).active_weight == 0.0


def test_load_tells_of_the_tenants_with_most_and_sums_over_all() -> None:
    made = scheduler(*(entry(i, tenant=f"t{i}", texts=1 + i) for i in range(100)), queue_texts=10_000)
    load = made.load(0.0)
    assert set(load.tenants) == {f"t{i}" for i in range(68, 100)}
    assert load.active_weight == 100.0


def test_busy_is_the_fraction_of_the_last_second_or_so() -> None:
    made = scheduler(costs={"a": ROW_MS})
    now = 0.0
    for number in range(5000):
        made.push(entry(number, deadline=1e9))
        batch = made.take(now)
        assert batch is not None
        made.finished(batch, now + 0.001)
        now += 0.004
    assert made.load(now).busy == pytest.approx(0.25, abs=0.01)
    assert made.load(now + 10).busy < 0.001


def test_predictions_follow_what_batches_really_take() -> None:
    made = scheduler(costs={"a": ROW_MS})
    ratios = []
    for number in range(60):
        made.push(entry(number, deadline=1e9))
        batch = made.take(number)
        assert batch is not None
        ratios.append(made.finished(batch, number + 0.003))
    assert ratios[0] == pytest.approx(3.0)
    assert ratios[-1] == pytest.approx(1.0, abs=0.05)


def test_a_failed_batch_and_an_unknown_ticket_teach_nothing() -> None:
    profiles = Profiles()
    profiles.know("a", ROW_MS)
    made = Scheduler(profiles, batch_tokens=BUDGET, queue_texts=10)
    for ticket, is_sample in (("a", False), ("unknown", True)):
        made.push(entry(1, ticket, deadline=1e9))
        batch = made.take(0.0)
        assert batch is not None
        assert made.finished(batch, 1.0, is_sample=is_sample) is None
    assert profiles.cost("a") == ROW_MS
    assert profiles.cost("unknown") == PRIOR


def test_a_batch_takes_no_more_steps_when_more_waits() -> None:
    """Of 20 tenants and tickets, 20,000 entries that wait or 2,000: the calls made to choose a batch are counted."""

    def most_calls(entries: int) -> int:
        made = scheduler(queue_texts=10**6, costs={f"k{i}": ROW_MS for i in range(20)})
        for i in range(entries):
            made.push(entry(i, f"k{i % 20}", tenant=f"t{i % 21}", deadline=float(i % 997)))
        most = 0
        for _ in range(50):
            calls = 0

            def count(frame: object, event: str, argument: object) -> None:
                nonlocal calls
                calls += 1

            sys.setprofile(count)
            batch = made.take(0.0)
            sys.setprofile(None)
            assert batch is not None
            made.finished(batch, 0.001)
            most = max(most, calls)
        return most

    assert most_calls(20_000) < 1.5 * most_calls(2_000)
