"""The search against all structures there are, and what it does when the host disagrees with the table."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

from hypothesis import given, settings
from hypothesis import strategies as st

from tickets.factory.encoder import Shape
from tickets.factory.fisher import Scores
from tickets.factory.latency import Cell, CellCosts, LatencyTable
from tickets.factory.search import TooFast, correct_and_search, search
from tickets.factory.search_program import Options, best_choice
from tickets.factory.shrink import Kept

pytestmark = [pytest.mark.torch]

GROUP, HEADS, GROUPS, HIDDEN = 4, 3, 3, 64
US = 1e-3


def shape_of(heads: tuple[int, ...], neurons: tuple[int, ...]) -> Shape:
    return Shape(
        vocabulary=200, hidden=HIDDEN, head_size=32, heads=heads, neurons=neurons, sources=tuple(range(len(heads))),
        positions=16,
    )  # fmt: skip


def table_of(base_us: int, attention_us: list[int], ffn_us: list[int]) -> LatencyTable:
    """A table of one cell, in whole microseconds."""
    costs = CellCosts(
        Cell(8, 1, 1.0), base_us * US, (0.0, *(us * US for us in attention_us)), (0.0, *(us * US for us in ffn_us))
    )
    return LatencyTable(
        layers=2, hidden=HIDDEN, head_size=32, rank=0, activation="gelu", classes=3, vocabulary=200, group=GROUP,
        host="", runtime="", cells=(costs,), yardstick_ms=1.0,
    )  # fmt: skip


TABLE = table_of(10, [30, 40, 55], [20, 28, 31])
SHAPE = shape_of((3, 3), (12, 12))


def scores_of(shape: Shape, seed: int) -> Scores:
    random = np.random.default_rng(seed)
    return Scores(
        tuple(random.exponential(size=h) for h in shape.heads),
        tuple(random.exponential(size=n) / 3 for n in shape.neurons),
        random.exponential(size=(shape.layers, 2)),
        np.ones(HIDDEN),
    )  # fmt: skip


def lost(scores: Scores, kept: Kept) -> float:
    """The estimated loss of a structure, straight from its definition."""
    total = 0.0
    for i in range(len(scores.heads)):
        place = kept.layers.index(i) if i in kept.layers else None
        for s, (units, stays) in enumerate(((scores.heads[i], kept.heads), (scores.neurons[i], kept.neurons))):
            left = stays[place] if place is not None else ()
            gone = float(np.delete(units, list(left)).sum())
            total += gone if left or not len(units) else max(gone, float(scores.sublayers[i, s]))
    return total


def predicted_ms(table: LatencyTable, kept: Kept) -> float:
    return table.predict([len(h) for h in kept.heads], [len(n) for n in kept.neurons])


def every_structure(shape: Shape, scores: Scores) -> list[Kept]:
    """All structures that keep the best heads and the best whole groups of neurons."""
    sizes = [range(h + 1) for h in shape.heads] + [sorted({*range(0, n, GROUP), n}) for n in shape.neurons]
    structures = []
    for counts in product(*sizes):
        heads, neurons = counts[: shape.layers], counts[shape.layers :]
        layers = tuple(i for i in range(shape.layers) if heads[i] or neurons[i])
        structures.append(
            Kept(
                layers,
                tuple(best(scores.heads[i], heads[i]) for i in layers),
                tuple(best(scores.neurons[i], neurons[i]) for i in layers),
            )
        )
    return structures


def best(units: np.ndarray, count: int) -> tuple[int, ...]:
    return tuple(sorted(int(i) for i in np.argsort(-units, kind="stable")[:count]))


rising = st.lists(st.integers(0, 40), min_size=3, max_size=3).map(lambda steps: [int(s) for s in np.cumsum(steps)])
shapes = st.sampled_from(
    [SHAPE, shape_of((3,), (12,)), shape_of((2, 0, 1), (0, 8, 12)), shape_of((1, 3), (10, 3)), shape_of((), ())]
)


@settings(max_examples=60, deadline=None)
@given(shape=shapes, seed=st.integers(0, 999), attention=rising, ffn=rising, share=st.floats(0, 1.05))
def test_the_search_finds_what_trying_every_structure_finds(
    shape: Shape, seed: int, attention: list[int], ffn: list[int], share: float
) -> None:
    table, scores = table_of(5, attention, ffn), scores_of(shape, seed)
    budget_ms = 5 * US + share * (predicted_ms(table, every_structure(shape, scores)[-1]) - 5 * US)
    kept = search(shape, scores, table, budget_ms)
    fitting = [k for k in every_structure(shape, scores) if predicted_ms(table, k) <= budget_ms + 1e-9]
    assert predicted_ms(table, kept) <= budget_ms + 1e-9
    assert lost(scores, kept) == pytest.approx(min(lost(scores, k) for k in fitting), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), budgets=st.tuples(st.floats(0.01, 0.25), st.floats(0.01, 0.25)))
def test_a_larger_budget_never_loses_more(seed: int, budgets: tuple[float, float]) -> None:
    scores = scores_of(SHAPE, seed)
    small, large = (lost(scores, search(SHAPE, scores, TABLE, budget)) for budget in sorted(budgets))
    assert large <= small + 1e-12


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_the_programme_equals_trying_every_choice(data: st.DataObject) -> None:
    """Whatever the numbers: ties, options of no use, losses below zero (as movement scores may be)."""
    option = st.tuples(st.integers(0, 12), st.integers(-20, 20))
    sets = [
        Options(np.array([ns for ns, _ in options], np.int64), np.array([loss / 8 for _, loss in options]))
        for options in data.draw(st.lists(st.lists(option, min_size=1, max_size=6), min_size=1, max_size=4))
    ]
    fastest = sum(int(options.ns.min()) for options in sets)
    budget = fastest + data.draw(st.integers(0, 20))
    picks = best_choice(sets, budget)
    totals = [
        (sum(float(o.loss[p]) for o, p in zip(sets, choice, strict=True)),
         sum(int(o.ns[p]) for o, p in zip(sets, choice, strict=True)))
        for choice in [picks, *product(*(range(len(o.ns)) for o in sets))]
    ]  # fmt: skip
    assert totals[0] == min(t for t in totals if t[1] <= budget)


def test_everything_stays_where_there_is_time_and_nothing_where_there_is_none() -> None:
    scores = scores_of(SHAPE, 0)
    assert search(SHAPE, scores, TABLE, 1.0) == Kept((0, 1), ((0, 1, 2),) * 2, (tuple(range(12)),) * 2)
    assert search(SHAPE, scores, TABLE, 10 * US) == Kept((), (), ())


def test_a_layer_that_lost_both_sub_layers_disappears_and_others_keep_their_place() -> None:
    scores = scores_of(SHAPE, 0)
    weak = Scores(
        (scores.heads[0] / 1e6, scores.heads[1]), (scores.neurons[0] / 1e6, scores.neurons[1]),
        scores.sublayers * [[1e-6], [1]], scores.hidden,
    )  # fmt: skip
    assert search(SHAPE, weak, TABLE, (10 + 55 + 31) * US) == Kept((1,), ((0, 1, 2),), (tuple(range(12)),))


def test_a_sub_layer_that_matters_more_than_the_sum_of_its_units_is_the_last_to_go() -> None:
    flat = Scores((np.ones(3),) * 2, (np.full(12, 0.25),) * 2, np.array([[99.0, 0.0], [0.0, 0.0]]), np.ones(HIDDEN))
    kept = search(SHAPE, flat, TABLE, (10 + 30) * US)
    assert (kept.layers, [len(h) for h in kept.heads], kept.neurons) == ((0,), [1], ((),))


def test_a_target_that_no_structure_reaches_names_the_fastest_possible() -> None:
    with pytest.raises(TooFast, match=r"0\.00999 ms.* the fastest possible, .* 0\.01 ms") as refused:
        search(SHAPE, scores_of(SHAPE, 0), TABLE, 9.99 * US)
    assert (refused.value.fastest_ms, refused.value.budget_ms) == pytest.approx((0.01, 0.00999))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (shape_of((4,), (12,)), "ends at 3 heads, layer 0 has 4"),
        (shape_of((3,), (13,)), "ends at 12 neurons, layer 0 has 13"),
    ],
)
def test_a_table_that_is_too_small_is_refused(shape: Shape, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        search(shape, scores_of(shape, 0), TABLE, 1.0)


def test_a_table_of_another_width_and_scores_that_overflowed_are_refused() -> None:
    scores = scores_of(SHAPE, 0)
    with pytest.raises(ValueError, match="of width 64, the encoder of 32"):
        search(Shape(200, 32, 32, (3, 3), (12, 12), (0, 1), 16), scores, TABLE, 1.0)
    scores.heads[1][2] = np.nan
    with pytest.raises(ValueError, match="not a finite number"):
        search(SHAPE, scores, TABLE, 1.0)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_a_host_that_is_slower_or_faster_than_its_table_gets_what_fits(factor: float) -> None:
    """The table is corrected until the measured time is within the budget, and as near as a right table comes."""
    scores, budget_ms = scores_of(SHAPE, 1), 120 * US
    truth = replace(TABLE, correction=factor)
    found = correct_and_search(
        SHAPE, scores, TABLE, TABLE.workload, budget_ms, measure_ms=lambda s: truth.predict(s.heads, s.neurons)
    )
    ideal = search(SHAPE, scores, truth, budget_ms)
    assert found.measured_ms <= budget_ms
    if not found.measured_ms >= 0.95 * budget_ms:
        assert found.kept == ideal
    assert found.table.correction == pytest.approx(factor)


def test_what_never_fits_is_reported_with_what_it_takes() -> None:
    """A host that is slow in a way that no factor describes: the fastest structure that was tried is the answer."""
    times = [0.13, 0.125, 0.14, 0.15]
    left = list(times)
    found = correct_and_search(
        SHAPE, scores_of(SHAPE, 1), TABLE, TABLE.workload, 120 * US, measure_ms=lambda _: left.pop(0)
    )
    assert len(left) < 3
    assert found.measured_ms == min(times[: len(times) - len(left)])


def test_a_searched_structure_is_timed_as_a_graph() -> None:
    """Without a clock of its own the search builds the structure's int8 graph and runs it."""
    scores = scores_of(SHAPE, 1)
    found = correct_and_search(SHAPE, scores, TABLE, TABLE.workload, 1e3, seconds=0.1)
    assert found.kept == search(SHAPE, scores, TABLE, 1e3)
    assert 0 < found.measured_ms < 1e3


def test_whole_minilm_is_searched_without_large_fronts() -> None:
    """The real size, 13 and 49 options in 12 sub-layers: every budget is kept, and more time never loses more."""
    random = np.random.default_rng(0)
    costs = (
        [int(1000 * c) for c in np.cumsum(random.random(12)) + 5],
        [int(100 * c) for c in np.cumsum(random.random(384))],
    )
    table = table_of(100, *costs)
    shape = shape_of((12,) * 6, (1536,) * 6)
    scores = scores_of(shape, 3)
    full_ms = table.predict(shape.heads, shape.neurons)
    losses = []
    for share in (0.03, 0.06, 0.12, 0.25, 0.5):
        kept = search(shape, scores, table, share * full_ms)
        assert 0.99 * share * full_ms < predicted_ms(table, kept) <= share * full_ms
        losses.append(lost(scores, kept))
    assert losses == sorted(losses, reverse=True)
