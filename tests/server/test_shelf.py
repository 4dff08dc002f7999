"""The shelf: the budget holds, reservations hold, and who leaves is worth least."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.shelf import Shelf


def shelf(capacity: int, *tickets: str, size: int = 10, **fields: Any) -> Shelf:
    made = Shelf(capacity)
    for ticket in tickets:
        made.put(ticket, own_bytes=size, parts={}, **({"reload_ms": 1.0} | fields))
    return made


def test_among_equals_the_least_recently_used_leaves() -> None:
    made = shelf(30, "a", "b", "c")
    made.use("a")
    assert made.make_room(10) == ["b"]
    assert made.used_bytes == 20


def test_what_is_quick_to_load_again_leaves_before_what_is_slow() -> None:
    made = shelf(30)
    made.put("slow", own_bytes=10, parts={}, reload_ms=100.0)
    made.put("quick", own_bytes=10, parts={}, reload_ms=1.0)
    assert made.make_room(15) == ["quick"]


def test_a_large_ticket_leaves_before_a_small_one_of_the_same_price() -> None:
    made = shelf(100)
    made.put("large", own_bytes=60, parts={}, reload_ms=10.0)
    made.put("small", own_bytes=10, parts={}, reload_ms=10.0)
    assert made.make_room(40) == ["large"]


def test_what_is_never_used_leaves_in_the_end_however_slow_it_is_to_load() -> None:
    """The worth of those who leave is the floor of those who come."""
    made = shelf(30)
    made.put("dear", own_bytes=10, parts={}, reload_ms=10.0)
    for number in range(40):
        made.make_room(10)
        made.put(f"t{number}", own_bytes=10, parts={}, reload_ms=1.0)
    assert "dear" not in made
    assert made.used_bytes <= 30


def test_nothing_changes_where_not_enough_may_leave() -> None:
    made = shelf(30, "a", "b")
    assert made.make_room(31) is None
    assert made.make_room(25, keep="a") is None
    assert "a" in made
    assert "b" in made
    assert made.used_bytes == 20


def test_what_several_share_counts_once_and_goes_with_the_last_of_them() -> None:
    made = Shelf(100)
    for ticket in ("a", "b"):
        made.put(ticket, own_bytes=10, parts={"table": 50}, reload_ms=1.0)
    assert made.used_bytes == 70
    assert made.make_room(40) == ["a"]
    assert made.used_bytes == 60
    assert made.make_room(60) == ["b"]
    assert made.used_bytes == 0


def test_others_do_not_push_a_tenant_out_of_what_it_has_reserved_but_itself_does() -> None:
    made = shelf(30, "a1", "a2", tenant="a")
    made.put("b1", own_bytes=10, parts={}, reload_ms=100.0, tenant="b")
    made.reserve({"a": 20})
    assert made.make_room(20, tenant="c") is None
    assert made.make_room(10, tenant="b") == ["b1"]
    assert made.make_room(20, tenant="a") == ["a1"]


def test_a_reservation_covers_the_tickets_that_are_worth_most_and_no_more() -> None:
    made = shelf(40, "a1", "a2", "a3", tenant="a")
    made.use("a1", "a")
    made.reserve({"a": 25})
    assert made.reserved("a") == ["a1", "a3"]
    assert made.make_room(20) == ["a2"]


def test_a_ticket_belongs_to_who_used_it_last() -> None:
    made = shelf(20, "t", tenant="a")
    made.reserve({"a": 10, "b": 10})
    made.use("t", "b")
    made.use("t")
    assert made.reserved("a") == []
    assert made.reserved("b") == ["t"]


def test_a_reservation_that_is_taken_back_protects_nothing() -> None:
    made = shelf(10, "t", tenant="a")
    made.reserve({"a": 10})
    made.reserve({})
    assert made.make_room(10) == ["t"]


@pytest.mark.parametrize("seed", range(20))
def test_random_lives_of_a_shelf(seed: int) -> None:
    """Whatever happens: the accounts agree, the budget holds, reservations hold, and no more leave than must."""
    rng = random.Random(seed)
    capacity = rng.randrange(50, 400)
    made = Shelf(capacity)
    here: dict[str, tuple[int, dict[str, int]]] = {}
    tenants = ["", "a", "b", "c"]

    def used() -> int:
        parts = {part: size for _, shared in here.values() for part, size in shared.items()}
        return sum(own for own, _ in here.values()) + sum(parts.values())

    for step in range(300):
        action = rng.random()
        if action < 0.1:
            made.reserve({tenant: rng.randrange(0, capacity) for tenant in rng.sample(tenants[1:], 2)})
        elif action < 0.5 and here:
            made.use(rng.choice(list(here)), rng.choice(tenants))
        else:
            tenant = rng.choice(tenants)
            parts = {part: 8 * (ord(part) - 96) for part in rng.sample("abcdef", rng.randrange(3))}
            own = rng.randrange(1, 60)
            size = own + sum(parts.values())
            protected = {ticket for other in tenants[1:] if other != tenant for ticket in made.reserved(other)}
            gone = made.make_room(size, tenant=tenant)
            if gone is None:
                rest = {part for ticket in protected for part in here[ticket][1]}
                least = sum(here[ticket][0] for ticket in protected) + sum(8 * (ord(part) - 96) for part in rest)
                assert least + size > capacity
                continue
            assert not set(gone) & protected
            last = here[gone[-1]] if gone else None
            for ticket in gone:
                del here[ticket]
            if last is not None:
                here["last"] = last
                assert used() + size > capacity  # without the last of them it would not have fitted
                del here["last"]
            here[f"t{step}"] = (own, parts)
            made.put(f"t{step}", own_bytes=own, parts=parts, reload_ms=rng.uniform(0, 50), tenant=tenant)
        assert made.used_bytes == used() <= capacity
        assert len(made) == len(here)


@settings(max_examples=200)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(0, 200), st.integers(0, 11))
def test_a_ticket_just_asked_for_is_not_the_victim(sizes: list[int], need: int, which: int) -> None:
    made = Shelf(200)
    for number, size in enumerate(sizes):
        if made.fits(size):
            made.put(str(number), own_bytes=size, parts={}, reload_ms=0.0)
    keep = str(which % len(sizes))
    gone = made.make_room(need, keep=keep)
    assert gone is None or keep not in gone
