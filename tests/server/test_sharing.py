"""Sharing: equal contents are one object, for as long as somebody holds it."""

import gc

from server.sharing import Parts, Shared


class Thing:
    """Something that can be told apart from its like."""


def test_equal_contents_are_one_object_and_others_are_not() -> None:
    shared = Shared()
    one, two = Parts(shared), Parts(shared)
    first = one.take("thing", b"content", Thing)
    assert two.take("thing", b"content", Thing) is first
    assert two.take("thing", b"another", Thing) is not first
    assert two.take("other", b"content", Thing) is not first
    assert len(shared) == 3


def test_a_part_goes_with_its_last_holder() -> None:
    shared = Shared()
    one, two = Parts(shared), Parts(shared)
    for parts in (one, two):
        parts.take("thing", b"content", Thing)
    held = list(two.taken.values())
    del one, two, parts
    gc.collect()
    assert len(shared) == 1
    held.clear()
    gc.collect()
    assert len(shared) == 0


def test_only_who_makes_a_part_is_charged_with_making_it() -> None:
    sizes = iter([100, 350])
    shared = Shared(heap=lambda: next(sizes))
    one, two = Parts(shared), Parts(shared)
    one.take("thing", b"content", Thing)
    two.take("thing", b"content", Thing)
    assert (one.made_bytes, two.made_bytes) == (250, 0)
    assert [part.bytes for part in two.taken.values()] == [250]


def test_a_part_within_a_part_counts_once() -> None:
    sizes = iter([100, 120, 150, 400])
    parts = Parts(Shared(heap=lambda: next(sizes)))
    parts.take("outer", b"", lambda: parts.take("inner", b"", Thing))
    assert sorted(part.bytes for part in parts.taken.values()) == [30, 270]
    assert parts.made_bytes == 300


def test_a_known_size_is_not_measured() -> None:
    parts = Parts(Shared(heap=lambda: 1 // 0))
    parts.take("thing", b"content", Thing, size=7)
    assert parts.made_bytes == 7


def test_peeking_takes_nothing() -> None:
    shared = Shared()
    one, two = Parts(shared), Parts(shared)
    assert one.peek("thing") is None
    thing = one.take("thing", b"", Thing)
    assert two.peek("thing") is thing
    assert not two.taken
