"""Workloads, tables that add up, and tables measured on graphs that are really run."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

from hypothesis import given
from hypothesis import strategies as st

from tickets.factory.encoder import Shape
from tickets.factory.latency import (
    Cell,
    CellCosts,
    LatencyTable,
    Workload,
    knots,
    measure_graph,
    measure_table,
    workload_of,
)
from tickets.factory.latency_graph import build_made_up
from tickets.reference import open_graph

pytestmark = [pytest.mark.torch]

SHAPE = Shape(
    vocabulary=300, hidden=64, head_size=32, heads=(2, 2), neurons=(96, 80), sources=(0, 1), positions=24, rank=16
)  # fmt: skip
WORKLOAD = Workload((Cell(6, 2, 0.25), Cell(12, 2, 0.75)))
TABLE = LatencyTable(
    layers=2, hidden=64, head_size=32, rank=16, activation="gelu", classes=3, vocabulary=300, group=32, host="here",
    runtime="1",
    cells=(
        CellCosts(Cell(6, 2, 0.25), 1.0, (0.0, 4.0, 8.0), (0.0, 2.0, 4.0, 8.0)),
        CellCosts(Cell(12, 2, 0.75), 3.0, (0.0, 8.0, 8.0), (0.0, 2.0, 4.0, 12.0)),
    ),
    yardstick_ms=1.0,
)  # fmt: skip

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=60)


@given(lengths=lengths, batch=st.integers(1, 32))
def test_a_workload_is_a_distribution_over_lengths_that_occur(lengths: list[int], batch: int) -> None:
    cells = workload_of(lengths, batch).cells
    assert sum(cell.weight for cell in cells) == pytest.approx(1.0)
    assert all(cell.batch == batch and min(lengths) <= cell.tokens <= max(lengths) for cell in cells)
    assert [cell.tokens for cell in cells] == sorted({cell.tokens for cell in cells})


def test_single_texts_keep_their_mean_length() -> None:
    random = np.random.default_rng(0)
    lengths = [int(n) for n in random.integers(5, 30, 2000)]
    mean = sum(cell.tokens * cell.weight for cell in workload_of(lengths, 1).cells)
    assert mean == pytest.approx(np.mean(lengths), rel=0.01)


def test_a_batch_is_as_long_as_its_longest_text() -> None:
    """Against batches that are really drawn."""
    random = np.random.default_rng(0)
    lengths = np.minimum(40, 4 + random.poisson(8, 500))
    drawn = [random.choice(lengths, 16).max() for _ in range(4000)]
    mean = sum(cell.tokens * cell.weight for cell in workload_of([int(n) for n in lengths]).cells)
    assert mean == pytest.approx(np.mean(drawn), rel=0.02)


def test_a_workload_of_no_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="no texts"):
        workload_of([])


@pytest.mark.parametrize(
    ("heads", "neurons", "expected_ms"),
    [
        ([], [], 2.5),
        ([0], [0], 2.5),
        ([1], [0], 2.5 + 7),
        ([2], [96], 2.5 + 8 + 11),
        ([0], [16], 2.5 + 1),
        ([1, 2], [32, 64], 2.5 + 7 + 8 + 2 + 4),
    ],
)
def test_a_prediction_is_the_weighted_sum_of_blocks(heads: list[int], neurons: list[int], expected_ms: float) -> None:
    assert TABLE.predict(heads, neurons) == pytest.approx(expected_ms)


def test_a_corrected_table_predicts_what_was_measured() -> None:
    predicted = TABLE.predict([2], [32])
    once = TABLE.corrected(1.25 * predicted, predicted)
    assert once.predict([2], [32]) == pytest.approx(1.25 * predicted)
    assert once.corrected(0.9 * predicted, 1.25 * predicted).predict([2], [32]) == pytest.approx(0.9 * predicted)
    assert once.base_ms == TABLE.base_ms


def test_a_measurement_that_says_nothing_of_blocks_does_not_upset_the_table() -> None:
    """No block was predicted; or, by noise, a graph was faster than one without any."""
    assert TABLE.corrected(3.0, TABLE.base_ms) == TABLE
    assert TABLE.corrected(1.0, 10.0).correction == 0.1


@pytest.mark.parametrize(("heads", "neurons"), [([3], [0]), ([0], [97])])
def test_a_structure_beyond_the_table_is_refused(heads: list[int], neurons: list[int]) -> None:
    with pytest.raises(ValueError, match="ends at 2 heads and 96 neurons"):
        TABLE.predict(heads, neurons)


def test_a_table_travels_as_json() -> None:
    document = json.loads(json.dumps(TABLE.corrected(3.0, 2.0).to_json()))
    assert LatencyTable.from_json(document) == TABLE.corrected(3.0, 2.0)
    del document["cells"]
    with pytest.raises(ValueError, match="cells"):
        LatencyTable.from_json(document)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_a_measured_table_covers_the_shape_and_never_falls(activation: str) -> None:
    """Blocks of every size up to the largest, in every cell; progress ends at its total."""
    ticks: list[tuple[int, int]] = []
    shape = replace(SHAPE, activation=activation)
    table = measure_table(shape, 3, WORKLOAD, seconds=0.2, tick=lambda done, total: ticks.append((done, total)))
    assert (table.workload, table.most_heads, table.most_neurons) == (WORKLOAD, 2, 96)
    assert table.shape == replace(shape, heads=(), neurons=(), sources=(), positions=0)
    for costs in table.cells:
        assert costs.base_ms > 0
        assert costs.attention_ms[0] == costs.ffn_ms[0] == 0
        assert (np.diff(costs.attention_ms) >= 0).all()
        assert (np.diff(costs.ffn_ms) >= 0).all()
    assert table.predict((2, 2), (96, 80)) > table.predict((0, 0), (0, 0)) == pytest.approx(table.base_ms)
    assert ticks[-1] == (100, 100)


def test_a_graph_that_does_more_takes_longer() -> None:
    """Two layers of a wide FFN against none, without and with the table's yardstick beside it."""
    large = replace(SHAPE, heads=(2,) * 4, neurons=(512,) * 4, sources=(0, 1, 2, 3))
    small = replace(SHAPE, heads=(), neurons=(), sources=())
    times = [measure_graph(build_made_up(s, 3), WORKLOAD, seconds=0.1) for s in (small, large)]
    assert 0 < times[0] < times[1]
    slow = replace(TABLE, yardstick_ms=1e6)
    assert measure_graph(build_made_up(small, 3), WORKLOAD, table=slow, seconds=0.1) > 1e4


@pytest.mark.parametrize(
    "shape", [SHAPE, replace(SHAPE, heads=(0, 2), neurons=(96, 0), rank=0), replace(SHAPE, activation="relu")]
)
@pytest.mark.parametrize("int8", [True, False])
def test_a_made_up_graph_runs_at_any_length(shape: Shape, int8: bool) -> None:
    session = open_graph(build_made_up(shape, 5, int8=int8), 1)
    (logits,) = session.run(None, {"input_ids": np.ones((3, 40), np.int32)})
    assert logits.shape == (3, 5)
    assert np.isfinite(logits).all()


@given(st.integers(0, 400))
def test_measured_sizes_begin_at_one_and_end_at_the_largest(largest: int) -> None:
    sizes = knots(largest)
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, largest) if largest else not sizes
