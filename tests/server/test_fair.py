"""Fairness: nobody with work waiting gets further ahead than the lead and one service, whatever happens."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.fair import Fair
from server.room import Room

LEAD = 10.0


def test_idleness_banks_no_credit() -> None:
    fair = Fair(LEAD)
    fair.join("busy")
    for _ in range(100):
        fair.charge("busy", 5.0)
    fair.join("late")
    assert fair.counters["late"] == fair.counters["busy"] == 500.0


def test_who_was_ahead_when_it_left_is_still_ahead_when_it_comes_back() -> None:
    fair = Fair(LEAD)
    fair.join("a")
    fair.join("b")
    fair.charge("a", 12.0)
    fair.leave("a")
    fair.join("a")
    assert fair.counters["a"] == 12.0 > fair.limit() == LEAD


def test_a_service_counts_by_weight() -> None:
    fair = Fair(LEAD)
    fair.weigh({"heavy": 4.0})
    fair.join("heavy")
    fair.join("light")
    fair.charge("heavy", 8.0)
    fair.charge("light", 8.0)
    assert (fair.counters["heavy"], fair.counters["light"]) == (2.0, 8.0)


def test_when_nothing_waits_or_runs_everybody_starts_level_again() -> None:
    fair = Fair(LEAD)
    fair.join("a")
    fair.charge("a", 500.0)
    fair.leave("a")
    fair.rest()
    fair.join("b")
    fair.join("a")
    assert fair.counters["a"] == fair.counters["b"]


@pytest.mark.parametrize("seed", range(30))
def test_the_bound_holds_at_every_moment_whoever_comes_and_goes(seed: int) -> None:
    """Served are only those within the limit, in whatever order; joined and left at random; with weights."""
    dice = random.Random(seed)
    names = [f"t{i}" for i in range(dice.randint(2, 8))]
    weights = {name: dice.choice([0.25, 1.0, 1.0, 3.0]) for name in names}
    largest = dice.choice([0.5, 5.0, 40.0])
    favourite = dice.choice(names)  # the order among the eligible is against everybody but this one
    fair = Fair(LEAD)
    fair.weigh(weights)
    waiting: set[str] = set()
    for _ in range(2000):
        name = dice.choice(names)
        if name not in waiting:
            fair.join(name)
            waiting.add(name)
        elif dice.random() < 0.1 and len(waiting) > 1:
            fair.leave(name)
            waiting.discard(name)
        eligible = [one for one in sorted(waiting) if fair.counters[one] <= fair.limit()]
        assert eligible, "somebody may always be served"
        served = favourite if favourite in eligible else dice.choice(eligible)
        fair.charge(served, dice.uniform(0.0, largest))
        for one in waiting:
            for other in waiting:
                ahead = fair.counters[one] - fair.counters[other]
                assert ahead <= LEAD + largest / weights[one] + 1e-9


def test_memory_is_bounded_by_those_that_wait_and_those_that_are_ahead() -> None:
    fair = Fair(LEAD)
    fair.join("steady")
    for number in range(10_000):
        fair.join(f"t{number}")
        fair.charge(f"t{number}", 1.0)
        fair.leave(f"t{number}")
        fair.charge("steady", 1.0)
    assert len(fair.counters) < 300
    assert len(fair._heap) < 300


def test_a_full_room_makes_place_for_whoever_holds_less() -> None:
    room: Room[int] = Room(10)
    for thing in range(10):
        assert room.make("flood", 1) == []
        room.enter("flood", thing, 1)
    assert room.make("flood", 1) is None
    assert room.make("quiet", 2) == [9, 8]
    assert room.make("quiet", 6) is None  # it would hold more than the one it pushes out


def test_an_empty_room_takes_anything() -> None:
    room: Room[int] = Room(3)
    assert room.make("a", 100) == []
    room.enter("a", 1, 100)
    assert room.make("b", 1) is None  # one that large does not go for one that small to come


def test_a_full_room_is_shared_by_weight() -> None:
    room: Room[int] = Room(12, lambda tenant: 2.0 if tenant == "heavy" else 1.0)
    held = {"heavy": 0, "light": 0}
    owner: dict[int, str] = {}
    for thing in range(100):
        tenant = ("light", "heavy")[thing % 2]
        out = room.make(tenant, 1)
        if out is None:
            continue
        for gone in out:
            room.leave(owner[gone], gone)
            held[owner[gone]] -= 1
        room.enter(tenant, thing, 1)
        owner[thing] = tenant
        held[tenant] += 1
    assert held == {"heavy": 8, "light": 4}


events = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 6), st.booleans()), max_size=200)


@given(events)
def test_a_room_is_never_overfull_and_nobody_below_the_fair_share_is_refused(
    events: list[tuple[str, int, bool]],
) -> None:
    room: Room[int] = Room(20)
    inside: dict[int, tuple[str, int]] = {}
    for thing, (tenant, amount, leaves) in enumerate(events):
        if leaves and inside:
            gone = next(iter(inside))
            room.leave(inside.pop(gone)[0], gone)
            continue
        held = {name: sum(size for owner, size in inside.values() if owner == name) for name in "abcd"}
        out = room.make(tenant, amount)
        if out is None:
            largest = max(held.values())
            assert sum(held.values()) + amount > 20
            assert held[tenant] + amount > largest - amount - 6  # the last thing put out may be as large as 6
            continue
        for one in out:
            owner, _ = inside.pop(one)
            assert owner != tenant
            room.leave(owner, one)
        room.enter(tenant, thing, amount)
        inside[thing] = (tenant, amount)
        assert room.used == sum(size for _, size in inside.values()) <= 20
