"""The task of tensors: numbers known by hand, rows in company where that is the same, bad input refused by name."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto

from routing.cost import Cost
from server.errors import BadRequest
from server.graph import Graph
from server.measure import measure
from server.runtime import open_graph
from server.task import Work, joined, tensors
from server.tensor import NUMPY_TYPES, Tensor, decode_bytes, element_count, from_array, from_texts, to_array
from server.tensors_task import MAX_CALL_BYTES, MAX_SIZE, TensorsTask
from tests import models
from tests.models import MLP_CASE, MLP_MANIFEST, tensor, tensors_bundle, tensors_manifest
from tickets.bundle import Bundle, BundleError
from tickets.manifest import Manifest
from tickets.tensor_samples import Recorded

CPU = ["CPUExecutionProvider"]
FIXED = tensors_manifest([tensor("x", "FP32", 2, 3)], [tensor("y", "FP32", 3)])
WORDS = tensors_manifest([tensor("word", "BYTES", -1)], [tensor("number", "INT64", -1), tensor("loud", "BYTES", -1)])
MIXER = tensors_manifest([tensor("x", "FP32", -1, 2)], [tensor("y", "FP32", -1, 2)])
LENGTHS = tensors_manifest(
    [tensor("x", "FP32", -1, -1)], [tensor("doubled", "FP32", -1, -1), tensor("mean", "FP32", -1)]
)
POSITIONS = tensors_manifest([tensor("x", "FP32", -1, 2)], [tensor("places", "INT64", -1, 2)])


def opened(bundle: Bundle) -> TensorsTask:
    made = TensorsTask(bundle, open_graph(bytes(bundle.members["model.onnx"]), CPU))
    made.warm_up()
    return made


def task(manifest: Manifest, graph: bytes, *cases: Recorded) -> TensorsTask:
    return opened(tensors_bundle(manifest, graph, cases))


def mlp() -> TensorsTask:
    return task(MLP_MANIFEST, models.mlp(), MLP_CASE)


def fp32(name: str, values: Any) -> Tensor:
    return from_array(name, "FP32", np.asarray(values, np.float32))


def person(*rows: tuple[float, float, float]) -> list[Tensor]:
    return [fp32("ages", [[age] for age, _, _ in rows]), fp32("incomes", [[a, b] for _, a, b in rows])]


def answers(made: TensorsTask, *works: Work) -> list[dict[str, Any]]:
    """What each of these asks gets when all run in one batch."""
    columns, at, out = made.run([row for work in works for row in work.rows]), 0, []
    for work in works:
        out.append({t.name: values(t) for t in tensors(columns, work.outputs, at, at + len(work.rows))})
        at += len(work.rows)
    return out


def values(of: Tensor) -> Any:
    return decode_bytes(of.data, element_count(of.shape)) if of.datatype == "BYTES" else to_array(of).tolist()


def ask(made: TensorsTask, *inputs: Tensor) -> dict[str, Any]:
    return answers(made, made.parse(inputs, []))[0]


def test_several_inputs_give_several_outputs() -> None:
    made = mlp()
    assert made.why_alone == ""
    assert ask(made, *person((3, 0.5, 0.5), (0, 1, 1))) == {"class": [0, 1], "scores": [[2, 1], [0, 2]]}


def test_inputs_may_come_in_any_order() -> None:
    assert ask(mlp(), *reversed(person((3, 0.5, 0.5))))["scores"] == [[2, 1]]


def test_asks_of_different_callers_run_in_one_call_and_get_their_own_rows() -> None:
    made, calls = counting(MLP_MANIFEST, models.mlp(), MLP_CASE)
    works = [made.parse(person((float(k), k, 0), (0, k, k)), []) for k in range(5)]
    calls.clear()
    got = answers(made, *works)
    assert calls == [10]
    assert [one["scores"] for one in got] == [[[max(k - 1, 0), k], [0, 2 * k]] for k in range(5)]


def counting(manifest: Manifest, graph: bytes, *cases: Recorded) -> tuple[TensorsTask, list[int]]:
    """A task, and how many rows each call of its graph had."""
    bundle = tensors_bundle(manifest, graph, cases)
    real, calls = open_graph(bytes(bundle.members["model.onnx"]), CPU), list[int]()

    def run(names: Any, feeds: Any) -> list[Any]:
        calls.append(len(next(iter(feeds.values()))))
        return real.run(names, feeds)

    made = TensorsTask(bundle, Graph(run, real.inputs, real.outputs))
    made.warm_up()
    return made, calls


def test_only_rows_of_equal_shapes_run_together() -> None:
    made, calls = counting(LENGTHS, models.lengths())
    works = [made.parse([fp32("x", np.full((2, n), n))], []) for n in (3, 5, 3)]
    calls.clear()
    got = answers(made, *works)
    assert calls == [4, 2]
    assert [one["mean"] for one in got] == [[3, 3], [5, 5], [3, 3]]
    assert [np.shape(one["doubled"]) for one in got] == [(2, 3), (2, 5), (2, 3)]


def test_a_graph_of_fixed_shapes_runs_each_ask_by_itself() -> None:
    made = task(FIXED, models.fixed())
    assert made.why_alone
    works = [made.parse([fp32("x", [[k, k, k], [1, 2, 3]])], []) for k in range(3)]
    assert [len(work.rows) for work in works] == [1, 1, 1]
    assert [one["y"] for one in answers(made, *works)] == [[k + 1, k + 2, k + 3] for k in range(3)]


def test_a_graph_that_mixes_rows_is_found_out_and_runs_each_ask_by_itself() -> None:
    made = task(MIXER, models.mixer())
    assert "depends on the rows" in made.why_alone
    one = [[1.0, 2.0], [3.0, 4.0]]
    alone = ask(made, fp32("x", one))
    works = [made.parse([fp32("x", one)], []), made.parse([fp32("x", [[9.0, 9.0]])], [])]
    assert answers(made, *works) == [alone, {"y": [[1.0, 1.0]]}]


def test_a_graph_whose_rows_have_no_answers_of_their_own_runs_each_ask_by_itself() -> None:
    made = task(POSITIONS, models.positions())
    assert made.why_alone
    works = [made.parse([fp32("x", [[1, 0], [0, 0], [1, 1]])], []), made.parse([fp32("x", [[0, 2]])], [])]
    assert answers(made, *works) == [{"places": [[0, 0], [2, 0], [2, 1]]}, {"places": [[0, 1]]}]


def test_texts_go_in_and_come_out() -> None:
    made = task(WORDS, models.words())
    works = [made.parse([from_texts("word", texts)], []) for texts in (["two", "drei ü"], ["", "one"])]
    assert answers(made, *works) == [
        {"number": [2, 3], "loud": [b"TWO", "DREI ü".encode()]},
        {"number": [-1, 1], "loud": [b"", b"ONE"]},
    ]


NUMBERS = {
    "BOOL": (TensorProto.BOOL, [True, False]), "UINT8": (TensorProto.UINT8, [0, 255]),
    "UINT16": (TensorProto.UINT16, [0, 65535]), "UINT32": (TensorProto.UINT32, [0, 2**32 - 1]),
    "UINT64": (TensorProto.UINT64, [0, 2**64 - 1]), "INT8": (TensorProto.INT8, [-128, 127]),
    "INT16": (TensorProto.INT16, [-32768, 32767]), "INT32": (TensorProto.INT32, [-(2**31), 2**31 - 1]),
    "INT64": (TensorProto.INT64, [-(2**63), 2**63 - 1]), "FP16": (TensorProto.FLOAT16, [-0.5, 65504.0]),
    "FP32": (TensorProto.FLOAT, [-1.5, 3e38]), "FP64": (TensorProto.DOUBLE, [-1e-300, 1e300]),
}  # fmt: skip


@pytest.mark.parametrize("datatype", [*NUMBERS, "BYTES"])
def test_every_datatype_of_the_protocol_passes_unchanged(datatype: Any) -> None:
    """Alone and in company."""
    element, pair = NUMBERS.get(datatype, (TensorProto.STRING, []))
    manifest = tensors_manifest([tensor("x", datatype, -1, 2)], [tensor("y", datatype, -1, 2)])
    made = task(manifest, models.identity(element))
    if datatype == "BYTES":
        given = Tensor("x", "BYTES", [1, 2], from_texts("x", ["ü", ""]).data)
    else:
        given = from_array("x", datatype, np.array([pair], NUMPY_TYPES[datatype]))
    works = [made.parse([given], []), made.parse([given], [])]
    columns = made.run([row for work in works for row in work.rows])
    assert [t.data for at in (0, 1) for t in tensors(columns, ["y"], at, at + 1)] == [given.data, given.data]


GOOD = person((1, 2, 3))


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        ([], [], "each once"),
        (GOOD[:1], [], "each once"),
        ([*GOOD, GOOD[0]], [], "each once"),
        ([GOOD[0], fp32("income", [[1, 2]])], [], "income"),
        ([GOOD[0], from_array("incomes", "FP64", np.ones((1, 2)))], [], "not FP64"),
        ([GOOD[0], fp32("incomes", [1, 2])], [], "[2]"),
        ([GOOD[0], fp32("incomes", [[1, 2, 3]])], [], "[1, 3]"),
        ([GOOD[0], fp32("incomes", [[1, 2], [3, 4]])], [], "first dimension"),
        ([GOOD[0], Tensor("incomes", "FP32", [1, 2], b"\0" * 7)], [], "needs 8"),
        ([GOOD[0], Tensor("incomes", "FP32", [-1, 2], b"")], [], "[-1, 2]"),
        ([fp32("ages", np.ones((0, 1))), fp32("incomes", np.ones((0, 2)))], [], "[0, 1]"),
        ([fp32("ages", np.ones((1025, 1))), fp32("incomes", np.ones((1025, 2)))], [], "1024"),
        ([GOOD[0], Tensor("incomes", "FP32", [1 << 40, 2], b"")], [], "elements"),
        (GOOD, ["score"], "score"),
        (GOOD, ["class", "class"], "at most once"),
    ],
)
def test_bad_input_is_refused_with_what_is_wrong(inputs: list[Tensor], outputs: list[str], says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        mlp().parse(inputs, outputs)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\2\0\0\0\xc3\x28", "not UTF-8"),
        (b"\1\0\0\0\0", "NUL"),
        (b"\xff\xff\xff\xff", "claims"),
        (b"", "length prefix"),
    ],
)
def test_texts_that_are_none_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        task(WORDS, models.words()).parse([Tensor("word", "BYTES", [1], data)], [])
    assert says in caught.value.message


def test_a_truth_that_is_neither_true_nor_false_is_refused() -> None:
    manifest = tensors_manifest([tensor("x", "BOOL", -1, 2)], [tensor("y", "BOOL", -1, 2)])
    with pytest.raises(BadRequest, match="neither 0 nor 1"):
        task(manifest, models.identity(TensorProto.BOOL)).parse([Tensor("x", "BOOL", [1, 2], b"\1\2")], [])


def test_only_the_outputs_asked_for_come_back_in_that_order() -> None:
    made = mlp()
    work = made.parse(GOOD, ["scores"])
    assert [t.name for t in tensors(made.run(work.rows), work.outputs, 0, 1)] == ["scores"]


def test_slices_of_an_ask_join_into_what_one_run_would_have_given() -> None:
    made = mlp()
    work = made.parse(person(*((float(k), k, k) for k in range(7))), [])
    parts = [tensors(made.run(work.rows[a:b]), work.outputs, 0, b - a) for a, b in ((0, 3), (3, 4), (4, 7))]
    assert joined(parts) == tensors(made.run(work.rows), work.outputs, 0, 7)


def test_what_is_too_large_for_one_call_runs_in_several() -> None:
    """The graph sees at most MAX_CALL_BYTES at once, however many rows come together."""
    made, calls = counting(LENGTHS, models.lengths())
    wide = MAX_CALL_BYTES // 4 // 3
    work = made.parse([fp32("x", np.ones((7, wide)))], ["mean"])
    calls.clear()
    assert answers(made, work)[0]["mean"] == pytest.approx([1.0] * 7)
    assert calls == [3, 3, 1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_an_answer_does_not_depend_on_its_neighbours(widths: list[int], data: st.DataObject) -> None:
    made = task(LENGTHS, models.lengths())
    works = []
    for width in widths:
        rows = data.draw(st.integers(1, 4))
        array = np.random.default_rng(rows * 7 + width).normal(size=(rows, width))
        works.append(made.parse([fp32("x", array)], []))
    for work, together in zip(works, answers(made, *works), strict=True):
        alone = answers(made, work)[0]
        assert together["doubled"] == alone["doubled"]
        np.testing.assert_allclose(together["mean"], alone["mean"], atol=1e-5)


@pytest.mark.parametrize(
    ("manifest", "graph", "says"),
    [
        (MLP_MANIFEST, models.fixed(), "takes"),
        (FIXED, models.mixer(), "takes|gives|shape|names"),
        (tensors_manifest([tensor("x", "FP64", 2, 3)], [tensor("y", "FP32", 3)]), models.fixed(), "FP64"),
        (tensors_manifest([tensor("x", "FP32", -1, 3)], [tensor("y", "FP32", 3)]), models.fixed(), "shape"),
        (tensors_manifest([tensor("x", "FP32", 2, 3)], [tensor("y", "FP32", 4)]), models.fixed(), "shape"),
        (tensors_manifest([tensor("x", "FP32", 2, 3)], [tensor("z", "FP32", 3)]), models.fixed(), "'z'"),
    ],
)
def test_a_graph_that_is_not_the_manifests_is_refused(manifest: Manifest, graph: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        task(manifest, graph)


def test_a_manifest_may_promise_less_than_the_graph_takes() -> None:
    """Sizes that the graph leaves open may be fixed, and outputs left out."""
    narrow = tensors_manifest([tensor("x", "FP32", -1, 4)], [tensor("mean", "FP32", -1)])
    assert ask(task(narrow, models.lengths()), fp32("x", np.ones((2, 4)))) == {"mean": [1, 1]}


def test_samples_that_do_not_fit_the_manifest_make_a_bad_ticket() -> None:
    wrong = Recorded(inputs={"x": np.ones((1, 9), np.float32)}, outputs={"y": np.ones((1, 2), np.float32)})
    with pytest.raises(BundleError, match="case 0"):
        task(MIXER, models.mixer(), wrong)


def cost_agrees(made: TensorsTask, *asks: list[Tensor]) -> None:
    """The gateway's cost by bytes predicts what the worker's by sizes does."""
    cost = Cost(0.1, 0.02, 0.004, 0.3)
    in_bytes = made.cost_in_bytes(cost)
    for inputs in asks:
        work = made.parse(inputs, [])
        rows = inputs[0].shape[0]
        row_bytes = sum(len(t.data) for t in inputs) / rows
        assert in_bytes.of(rows, row_bytes) == pytest.approx(cost.of(len(work.rows), work.longest), rel=0.05)


def test_a_cost_in_bytes_predicts_what_the_cost_in_sizes_does() -> None:
    cost_agrees(mlp(), person((1, 2, 3)), person(*[(1, 2, 3)] * 9))
    cost_agrees(task(FIXED, models.fixed()), [fp32("x", np.ones((2, 3)))])
    cost_agrees(task(LENGTHS, models.lengths()), [fp32("x", np.ones((3, 8)))], [fp32("x", np.ones((1, 500)))])


def test_larger_rows_count_for_more_and_sizes_are_bounded() -> None:
    made = task(LENGTHS, models.lengths())
    sizes = [made.parse([fp32("x", np.ones((1, n)))], []).longest for n in (1, 8, 80, 1 << 20)]
    assert sizes == [1, 8, 80, MAX_SIZE]
    assert made.max_size == MAX_SIZE
    assert mlp().max_size == 1


@pytest.mark.parametrize(
    ("manifest", "graph"),
    [(MLP_MANIFEST, models.mlp()), (FIXED, models.fixed()), (WORDS, models.words()), (LENGTHS, models.lengths()),
     (MIXER, models.mixer()), (POSITIONS, models.positions())],
)  # fmt: skip
def test_every_ticket_can_be_measured(manifest: Manifest, graph: bytes) -> None:
    """Also without samples: as the worker does when it loads one."""
    made = task(manifest, graph)
    assert measure(made).of(1, 1) > 0
    assert len(made.sample_rows(5, 8)) == 5


def test_the_samples_say_what_an_ordinary_row_is() -> None:
    """A row as large as the recorded one has size 8."""
    x: NDArray[Any] = np.ones((2, 100), np.float32)
    case = Recorded(inputs={"x": x}, outputs={"doubled": x * 2, "mean": np.ones(2, np.float32)})
    made = task(LENGTHS, models.lengths(), case)
    assert made.parse([fp32("x", np.ones((1, 100)))], []).longest == 8
    assert made.sample_rows(1, 16)[0][0].arrays["x"].shape == (1, 200)
