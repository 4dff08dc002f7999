"""The scheduler: deadlines first, within the budget, everything exactly once."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.scheduler import PRIOR_MS_PER_TOKEN, Batch, Entry, Scheduler

BUDGET = 64


def entry(number: int, ticket: str = "a", *, deadline: float = 10.0, texts: int = 1, longest: int = 8) -> Entry:
    return Entry(id=number, ticket=ticket, tenant="acme", deadline=deadline, texts=texts, longest=longest)


def ids(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [piece.entry.id for piece in batch.slices]


def scheduler(*entries: Entry, batch_tokens: int = BUDGET, queue_texts: int = 1000) -> Scheduler:
    made = Scheduler(batch_tokens=batch_tokens, queue_texts=queue_texts)
    for one in entries:
        assert made.push(one)
    return made


def run_all(made: Scheduler, now: float = 0.0) -> list[Batch]:
    batches = []
    while (batch := made.take(now)) is not None:
        batches.append(batch)
        made.finished(batch, 1.0)
    return batches


def test_nothing_waits_nothing_runs() -> None:
    assert scheduler().take(0.0) is None


def test_the_earliest_deadline_chooses_the_ticket_and_fills_the_batch_with_its_entries() -> None:
    made = scheduler(
        entry(1, "a", deadline=5.0),
        entry(2, "b", deadline=3.0),
        entry(3, "b", deadline=9.0),
        entry(4, "a", deadline=4.0),
    )
    assert [ids(batch) for batch in run_all(made)] == [[2, 3], [4, 1]]


def test_equal_deadlines_run_in_order_of_arrival_across_tickets() -> None:
    made = scheduler(*(entry(i, "ab"[i % 2], longest=BUDGET) for i in range(6)))
    assert [ids(batch) for batch in run_all(made)] == [[0], [1], [2], [3], [4], [5]]


def test_a_batch_counts_padded_tokens() -> None:
    """Three texts of 8 tokens fit 64; beside one of 20 tokens, only two more fit (3 x 20)."""
    made = scheduler(entry(1, longest=8, deadline=1.0), entry(2, longest=20, deadline=2.0), entry(3), entry(4))
    batch = made.take(0.0)
    assert ids(batch) == [1, 2, 3]
    assert batch is not None
    assert batch.tokens == 60


def test_an_entry_larger_than_the_budget_is_cut_and_others_come_between_by_deadline() -> None:
    made = scheduler(entry(1, texts=20, longest=8, deadline=5.0))
    first = made.take(0.0)
    assert first is not None
    assert [(piece.start, piece.stop, piece.is_first, piece.is_last) for piece in first.slices] == [(0, 8, True, False)]
    made.finished(first, 1.0)
    assert made.push(entry(2, "b", deadline=1.0))
    assert [[(p.entry.id, p.start, p.stop) for p in b.slices] for b in run_all(made)] == [
        [(2, 0, 1)],
        [(1, 8, 16)],
        [(1, 16, 20)],
    ]


def test_a_text_longer_than_the_budget_runs_alone() -> None:
    made = scheduler(entry(1, longest=500), entry(2, longest=500))
    assert [ids(batch) for batch in run_all(made)] == [[1], [2]]


def test_expired_entries_come_back_and_never_run() -> None:
    made = scheduler(entry(1, deadline=1.0), entry(2, deadline=3.0), entry(3, "b", deadline=2.0))
    assert sorted(one.id for one in made.expired(2.0)) == [1, 3]
    assert [ids(batch) for batch in run_all(made, 2.0)] == [[2]]
    assert made.texts == 0


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
    assert not made.push(entry(2))
    run_all(made)
    assert made.push(entry(3))


def test_cancelled_entries_do_not_pile_up_in_memory() -> None:
    made = scheduler(entry(0))
    for number in range(1, 1000):
        made.push(entry(number))
        made.cancel(number)
    assert len(made._queues["a"].heap) < 200


def test_the_predicted_wait_is_queued_tokens_at_the_measured_rate_and_the_rest_of_the_running_batch() -> None:
    made = scheduler(entry(1, longest=10))
    assert made.wait_ms(0.0) == 10 * PRIOR_MS_PER_TOKEN
    batch = made.take(0.0)
    assert batch is not None
    made.finished(batch, 5.0)
    assert made.wait_ms(0.0) == 0.0
    made.push(entry(2, longest=10))
    assert made.wait_ms(0.0) == 5.0
    assert made.take(1.0) is not None
    assert made.wait_ms(1.002) == pytest.approx(3.0)
    assert made.wait_ms(9.0) == 0.0


deadlines = st.integers(1, 6).map(float)
entries = st.lists(
    st.tuples(st.sampled_from("abc"), deadlines, st.integers(1, 40), st.integers(1, 80)), min_size=1, max_size=30
)


@given(entries, st.data())
def test_every_row_of_every_entry_leaves_exactly_once(
    specs: list[tuple[str, float, int, int]], data: st.DataObject
) -> None:
    """Whatever mixes of pushes, cancels, passing time and batches: run, expired, cancelled or refused, once."""
    made = Scheduler(batch_tokens=BUDGET, queue_texts=200)
    rows: Counter[int] = Counter()
    ended: Counter[int] = Counter()
    pending = [
        entry(i, ticket, deadline=deadline, texts=texts, longest=longest)
        for i, (ticket, deadline, texts, longest) in enumerate(specs)
    ]
    sizes = {one.id: one.texts for one in pending}
    now = 0.0
    while pending or len(made):
        match data.draw(st.sampled_from(["push", "push", "take", "cancel", "time"])):
            case "push" if pending:
                one = pending.pop()
                ended[one.id] += not made.push(one)
            case "cancel":
                gone = made.cancel(data.draw(st.sampled_from(sorted(sizes))))
                if gone is not None:
                    ended[gone.id] += 1
            case "time":
                now += 0.5
                for late in made.expired(now):
                    assert late.deadline <= now
                    ended[late.id] += 1
            case _:
                batch = made.take(now)
                if batch is not None:
                    for piece in batch.slices:
                        assert piece.start == rows[piece.entry.id]
                        rows[piece.entry.id] = piece.stop
                        ended[piece.entry.id] += piece.is_last
                    made.finished(batch, 1.0)
    assert ended == Counter(dict.fromkeys(sizes, 1))
    assert made.texts == 0
    assert made.wait_ms(now) == 0.0


@given(entries)
def test_batches_keep_to_one_ticket_the_budget_and_the_order_of_deadlines(
    specs: list[tuple[str, float, int, int]],
) -> None:
    made = Scheduler(batch_tokens=BUDGET, queue_texts=10_000)
    waiting = {}
    for i, (ticket, deadline, texts, longest) in enumerate(specs):
        waiting[i] = entry(i, ticket, deadline=deadline, texts=texts, longest=longest)
        made.push(waiting[i])
    for batch in run_all(made):
        first = batch.slices[0].entry
        assert (first.deadline, first.id) == min((one.deadline, one.id) for one in waiting.values())
        assert {piece.entry.ticket for piece in batch.slices} == {batch.ticket}
        order = [(piece.entry.deadline, piece.entry.id) for piece in batch.slices]
        assert order == sorted(order)
        padded = batch.texts * max(piece.entry.longest for piece in batch.slices)
        assert padded <= BUDGET or batch.texts == 1
        assert batch.texts == sum(piece.stop - piece.start for piece in batch.slices) >= 1
        for piece in batch.slices:
            if piece.is_last:
                del waiting[piece.entry.id]
    assert not waiting


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_no_ticket_starves_when_deadlines_are_equal(tickets: list[str]) -> None:
    """When an entry runs, nothing that came before it still waits, its own ticket's neighbours apart."""
    made = scheduler(*(entry(i, ticket) for i, ticket in enumerate(tickets)))
    left = dict(enumerate(tickets))
    for batch in run_all(made):
        assert ids(batch)[0] == min(left)
        for number in ids(batch):
            del left[number]
    assert not left
