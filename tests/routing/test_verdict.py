"""The verdict on a canary: what it says of given counts, how often it is wrong, and how soon it is right."""

import random
import statistics
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.canary import Arm, Counts, is_drawn
from routing.sequential import BINS
from routing.verdict import Thresholds, Verdict, judge

SHARE = 0.1


class World:
    """What canary and current ticket do, as probabilities of each ask."""

    def __init__(
        self, errors: float = 0.0, late: float = 0.0, agreement: float = 0.97, shift: float = 0.06,
        current_errors: float = 0.0, current_late: float = 0.0,
    ) -> None:  # fmt: skip
        self.canary, self.current = (errors, late), (current_errors, current_late)
        self.agreement, self.shift = agreement, shift

    def judged(self, seed: int, asks: int, look_every: int = 5) -> tuple[Verdict, Counts]:
        """The first verdict other than "running", looking again and again; the last one where there is none."""
        dice, counts = random.Random(seed), Counts()
        for number in range(asks):
            is_canary = is_drawn(number + seed * 1_000_003, SHARE)
            errors, late = self.canary if is_canary else self.current
            is_error = dice.random() < errors
            is_late = not is_error and dice.random() < late
            name = "canary" if is_canary else "current"
            arm = getattr(counts, name).plus(1, int(is_error), int(is_late))
            counts = msgspec.structs.replace(counts, **{name: arm})
            if is_canary and not is_error:
                counts = counts.compared(float(dice.random() < self.agreement), dice.uniform(0, 2 * self.shift))
            if is_canary and counts.canary.asks % look_every == 0:
                verdict = judge(counts)
                if verdict.outcome != "running":
                    return verdict, counts
        return judge(counts), counts


def test_it_is_never_wrong_about_a_canary_that_is_as_good_in_long_runs_with_looks_all_the_time() -> None:
    """Both fail on 2 % and are late on 5 %. Allowed: 5 % of the runs."""
    world = World(0.02, 0.05, 0.95, 0.08, 0.02, 0.05)
    outcomes = [world.judged(seed, 6_000, look_every=10)[0].outcome for seed in range(12)]
    assert "bad" not in outcomes


def test_a_good_one_passes_within_some_hundred_asks_of_its_own() -> None:
    found = [World().judged(seed, 10_000) for seed in range(10)]
    assert {verdict.outcome for verdict, _ in found} == {"passed"}
    assert statistics.median(counts.canary.asks for _, counts in found) < 400


@pytest.mark.parametrize(
    ("world", "test", "within"),
    [
        (World(errors=1.0), "errors", 10),
        (World(errors=0.1), "errors", 250),
        (World(late=1.0), "late", 10),
        (World(late=0.2), "late", 150),
        (World(agreement=0.33), "agreement", 30),
        (World(agreement=0.7), "agreement", 250),
        (World(shift=0.4), "shift", 60),
    ],
)
def test_a_bad_one_is_found_out_soon_and_the_words_say_by_what(world: World, test: str, within: int) -> None:
    found = [world.judged(seed, 10_000, look_every=2) for seed in range(5)]
    for verdict, _ in found:
        assert verdict.outcome == "bad"
        assert [one.name for one in verdict.tests if one.is_bad] == [test]
    assert statistics.median(counts.canary.asks for _, counts in found) <= within


def counts(**changes: Any) -> Counts:
    """Of a trial that has gone well."""
    good = Counts(
        canary=Arm(asks=600), current=Arm(asks=5400), agreement=(10, *(0,) * (BINS - 1), 590),
        shift=(590, 10, *(0,) * (BINS - 1)),
    )  # fmt: skip
    return msgspec.structs.replace(good, **changes)


def test_the_words_say_what_was_seen_and_how_strong_the_evidence_is() -> None:
    verdict = judge(counts(canary=Arm(asks=600, errors=60)))
    assert verdict.outcome == "bad"
    assert verdict.words.startswith("60 of 600 asks of the canary failed, 0 of 5400 of the current ticket")
    assert "(at most 0.020 are allowed; evidence 1e+12, 160 is proof)" in verdict.words
    assert judge(counts()).words.startswith("all tests passed: 0 of 600 asks")
    assert judge(Counts()).words == "not proven yet after 0 asks: errors, late, agreement"


def test_tickets_that_say_no_confidence_pass_without_it() -> None:
    assert judge(counts(shift=(0,) * (BINS + 1))).outcome == "passed"


def test_without_comparisons_nothing_passes() -> None:
    assert judge(counts(agreement=(0,) * (BINS + 1))).outcome == "running"


def test_it_is_not_judged_before_it_is_known_how_the_current_one_does() -> None:
    """Everything fails: the canary is no worse for that."""
    assert judge(Counts(canary=Arm(asks=500, errors=500), current=Arm())).outcome == "running"
    broken = Counts(canary=Arm(asks=500, errors=500), current=Arm(asks=5000, errors=5000))
    assert judge(broken).outcome == "running"


def test_so_many_asks_it_must_have_answered_whatever_they_prove() -> None:
    assert judge(counts(), Thresholds(min_asks=601)).outcome == "running"
    assert judge(counts(), Thresholds(min_asks=601)).words.endswith("after 600 asks: 601 asks")


arms = st.builds(Arm, asks=st.integers(0, 10**6), errors=st.integers(0, 300), late=st.integers(0, 300)).map(
    lambda arm: msgspec.structs.replace(arm, asks=arm.asks + arm.errors + arm.late)
)
histograms = st.lists(st.integers(0, 10**5), min_size=BINS + 1, max_size=BINS + 1).map(tuple)
any_counts = st.builds(Counts, canary=arms, current=arms, agreement=histograms, shift=histograms)


@given(any_counts)
def test_it_is_total_and_can_be_told(found: Counts) -> None:
    verdict = judge(found)
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
    assert (verdict.outcome == "bad") == any(test.is_bad for test in verdict.tests)


@given(any_counts, any_counts)
def test_counts_of_gateways_add_up_in_any_order(one: Counts, other: Counts) -> None:
    assert one.plus(other) == other.plus(one)
    assert one.plus(Counts()) == one


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_each_comparison_is_counted_once(values: Sequence[int]) -> None:
    found = Counts()
    for value in values:
        found = found.compared(value / 20, None)
    assert [found.agreement[value] for value in range(21)] == [values.count(value) for value in range(21)]
    assert sum(found.shift) == 0


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_the_draw_takes_its_share_whatever_the_rhythm(share: float) -> None:
    """Of all requests, and of every seventh."""
    for step in (1, 7):
        drawn = sum(is_drawn(number * step, share) for number in range(20_000))
        assert abs(drawn / 20_000 - share) < 0.01
    assert not any(is_drawn(number, 0.0) for number in range(1000))
