"""Which state of Redis a process follows: decided by stamps alone, without any Redis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.redis.stamp import Followed, Verdict, read_stamp


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        (b"1700000000000-3", (1700000000000, 3)), (b"0-0", (0, 0)), (b"9-10", (9, 10)), (b"", None), (None, None),
        (b"-", None), (b"1-", None), (b"-1", None), (b"1-2-3", None), (b"1-x", None), (b"5f0e", None), (b"1.5-2", None),
    ],
)  # fmt: skip
def test_a_stamp_is_two_numbers_and_nothing_else_is(text: bytes | None, stamp: tuple[int, int] | None) -> None:
    assert read_stamp(text) == stamp


def walk(*states: bytes | None) -> list[Verdict]:
    """The verdicts on one state of Redis after another."""
    followed, verdicts = Followed(), []
    for standing in states:
        verdict = followed.look(standing)
        followed = followed.after(standing, verdict)
        verdicts.append(verdict)
    return verdicts


@pytest.mark.parametrize(
    ("what", "states", "verdicts"),
    [
        ("an empty store says nothing", [None, None], ["same", "same"]),
        ("each change once", [b"1-0", b"1-0", b"1-1", b"2-0"], ["newer", "same", "newer", "newer"]),
        ("numbers, not letters", [b"9-0", b"10-0"], ["newer", "newer"]),
        ("a flush is noticed once and forgets nothing", [b"5-0", None, None], ["newer", "vanished", "same"]),
        ("a new life is followed", [b"5-0", None, b"7-0"], ["newer", "vanished", "newer"]),
        ("the same life may come back", [b"5-0", None, b"5-0", None], ["newer", "vanished", "same", "vanished"]),
        ("a stale replica is passed over once", [b"5-0", b"4-0", b"4-0"], ["newer", "older", "same"]),
        ("what is made upon it is followed", [b"5-0", b"3-0", b"4-0"], ["newer", "older", "newer"]),
        ("an even staler one is not", [b"5-0", b"3-0", b"2-0"], ["newer", "older", "older"]),
        ("what was in use comes back", [b"5-0", b"3-0", b"5-0", b"6-0"], ["newer", "older", "same", "newer"]),
        ("one without a stamp is not older", [b"5-0", b"strange", b"6-0"], ["newer", "newer", "newer"]),
    ],
)
def test_what_is_followed(what: str, states: list[bytes | None], verdicts: list[Verdict]) -> None:
    assert walk(*states) == verdicts, what


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3)), min_size=1))
def test_along_one_history_every_change_is_followed_and_only_once(stamps: list[tuple[int, int]]) -> None:
    history = [b"%d-%d" % stamp for stamp in sorted(set(stamps))]
    assert walk(*[state for state in history for _ in range(2)]) == ["newer", "same"] * len(history)


@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1))
def test_whatever_happens_no_two_looks_at_one_state_act_twice(times: list[int | None]) -> None:
    followed = Followed()
    for time in times:
        standing = None if time is None else b"%d-0" % time
        followed = followed.after(standing, followed.look(standing))
        assert followed.look(standing) == "same"
