"""Rendezvous placement: who moves when workers come and go."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from routing.placement import place_of, ranked

names = st.lists(st.text(max_size=8), min_size=1, max_size=8, unique=True)


@given(st.text(max_size=70), names, st.randoms(use_true_random=False))
def test_the_rank_is_a_permutation_that_does_not_depend_on_the_order_of_asking(
    ticket: str, workers: list[str], chance: random.Random
) -> None:
    shuffled = list(workers)
    chance.shuffle(shuffled)
    assert ranked(ticket, shuffled) == ranked(ticket, workers)
    assert sorted(ranked(ticket, workers)) == sorted(workers)


@given(st.text(max_size=70), names, st.data())
def test_a_worker_that_goes_leaves_the_rank_of_the_others_as_it_was(
    ticket: str, workers: list[str], data: st.DataObject
) -> None:
    """So only the tickets that ranked it first move, each to the worker it ranks second."""
    lost = data.draw(st.sampled_from(workers))
    left = [worker for worker in workers if worker != lost]
    assert ranked(ticket, left) == [worker for worker in ranked(ticket, workers) if worker != lost]


def test_tickets_spread_evenly_and_few_move_to_a_newcomer() -> None:
    """Of 1,000 tickets on four workers a fifth moves to the fifth worker, and none between the four."""
    tickets = [f"{i:064x}" for i in range(1000)]
    before = {ticket: ranked(ticket, ["a", "b", "c", "d"])[0] for ticket in tickets}
    after = {ticket: ranked(ticket, ["a", "b", "c", "d", "e"])[0] for ticket in tickets}
    assert all(200 < count < 300 for count in Counter(before.values()).values())
    moved = [ticket for ticket in tickets if before[ticket] != after[ticket]]
    assert {after[ticket] for ticket in moved} == {"e"}
    assert 150 < len(moved) < 250


def test_the_successor_of_a_worker_is_preferred_by_the_same_tickets() -> None:
    """A rolling restart moves no ticket; while both live, they stand beside each other in every ranking."""
    for ticket in ("a" * 64, "b" * 64, "c" * 64):
        order = ranked(ticket, ["worker-0", "worker-1", "worker-2"])
        assert ranked(ticket, ["worker-0", "worker-1.12", "worker-2"]) == [
            name.replace("worker-1", "worker-1.12") for name in order
        ]
        both = ranked(ticket, ["worker-0", "worker-1", "worker-1.1", "worker-2"])
        assert abs(both.index("worker-1") - both.index("worker-1.1")) == 1


def test_names_that_only_look_like_a_successors_are_places_of_their_own() -> None:
    assert [place_of(name) for name in ("gpu.1", "worker-a.1", "worker-1.b", "worker-1.2.3")] == [
        "gpu.1", "worker-a.1", "worker-1.b", "worker-1.2.3",
    ]  # fmt: skip
