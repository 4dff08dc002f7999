"""Models as people bring them, built with onnx.helper: outputs known by hand, no framework, no download."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.tiny import SPECIALS, VOTE, WORDS
from tickets.bundle import Bundle, pack, parse
from tickets.manifest import Datatype, Evidence, Lineage, Manifest, Tensor
from tickets.tensor_samples import Recorded, encode_cases

Ports = Mapping[str, tuple[int, Sequence[int | str]]]
DEFAULT_OPSET = 17


def model(nodes: list[onnx.NodeProto], inputs: Ports, outputs: Ports, **weights: NDArray[Any]) -> bytes:
    """A checked model of these nodes."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *port) for name, port in inputs.items()],
        [helper.make_tensor_value_info(name, *port) for name, port in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", DEFAULT_OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(graph, opset_imports=opsets)
    made.ir_version = 9
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


F, I64, BATCH = TensorProto.FLOAT, TensorProto.INT64, "batch"


def mlp() -> bytes:
    """Like an exported scikit-learn network: ages [batch, 1] and incomes [batch, 2] fp32 -> class [batch] int64 and
    scores [batch, 2] fp32, where scores are (relu(age - 1), income_1 + income_2)."""
    return model(
        [
            helper.make_node("Sub", ["ages", "one"], ["shifted"]),
            helper.make_node("Relu", ["shifted"], ["left"]),
            helper.make_node("MatMul", ["incomes", "both"], ["right"]),
            helper.make_node("Concat", ["left", "right"], ["scores"], axis=1),
            helper.make_node("ArgMax", ["scores"], ["class"], axis=1, keepdims=0),
        ],
        {"ages": (F, [BATCH, 1]), "incomes": (F, [BATCH, 2])},
        {"class": (I64, [BATCH]), "scores": (F, [BATCH, 2])},
        one=np.ones(1, np.float32),
        both=np.ones((2, 1), np.float32),
    )


def fixed() -> bytes:
    """From x [2, 3] fp32 to y [3] fp32: the sum of the two rows."""
    return model(
        [helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0)],
        {"x": (F, [2, 3])},
        {"y": (F, [3])},
        axis=np.array([0], np.int64),
    )


def words() -> bytes:
    """From word [batch] text to number [batch] int64 and loud [batch] text: a look-up, and capitals."""
    return model(
        [
            helper.make_node(
                "LabelEncoder", ["word"], ["number"], domain="ai.onnx.ml", keys_strings=["one", "two", "drei ü"],
                values_int64s=[1, 2, 3], default_int64=-1,
            ),
            helper.make_node(
                "StringNormalizer", ["word"], ["loud"], case_change_action="UPPER", is_case_sensitive=1, locale="C"
            ),
        ],
        {"word": (TensorProto.STRING, [BATCH])},
        {"number": (I64, [BATCH]), "loud": (TensorProto.STRING, [BATCH])},
    )  # fmt: skip


def mixer() -> bytes:
    """From x [batch, 2] fp32 to y [batch, 2]: a softmax over the rows, which no row should depend on."""
    return model([helper.make_node("Softmax", ["x"], ["y"], axis=0)], {"x": (F, [BATCH, 2])}, {"y": (F, [BATCH, 2])})


def lengths() -> bytes:
    """From x [batch, length] fp32 to doubled [batch, length], mean [batch]."""
    return model(
        [
            helper.make_node("Add", ["x", "x"], ["doubled"]),
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=0),
        ],
        {"x": (F, [BATCH, "length"])},
        {"doubled": (F, [BATCH, "length"]), "mean": (F, [BATCH])},
    )


def positions() -> bytes:
    """From x [batch, 2] fp32 to places [count, 2] int64: where it is not zero, as many as there are."""
    return model(
        [helper.make_node("NonZero", ["x"], ["turned"]), helper.make_node("Transpose", ["turned"], ["places"])],
        {"x": (F, [BATCH, 2])},
        {"places": (I64, ["count", 2])},
    )


def identity(element: int) -> bytes:
    """From x [batch, 2] of any type to y, the same."""
    return model(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": (element, [BATCH, 2])}, {"y": (element, [BATCH, 2])}
    )


def exported(
    element: int = I64, *, mask: bool = True, types: bool = True, output: str = "logits", scale: float = 1.0
) -> bytes:
    """What `tests.tiny.tiny_onnx` computes, in the form in which encoders are exported: padding is told by the mask
    alone (piece 0 counts as a word without it), and every token type but 0 spoils the answer."""
    votes = np.zeros((len(SPECIALS) + len(WORDS), 4), np.float32)
    for i, label in enumerate(WORDS.values()):
        votes[len(SPECIALS) + i, label] = VOTE * scale
    votes[0] = 100.0  # a padding that is not masked shows
    port = (element, [BATCH, "sequence"])
    inputs: dict[str, tuple[int, Sequence[int | str]]] = {"input_ids": port}
    nodes = [helper.make_node("Gather", ["votes", "input_ids"], ["per_token"])]
    if mask:
        inputs["attention_mask"] = port
        nodes += [helper.make_node("Cast", ["attention_mask"], ["weight"], to=F)]
    else:
        nodes += [
            helper.make_node("Cast", ["input_ids"], ["as_float"], to=F),
            helper.make_node("Cast", ["as_float"], ["as_bool"], to=TensorProto.BOOL),
            helper.make_node("Cast", ["as_bool"], ["weight"], to=F),
        ]
    nodes += [
        helper.make_node("Unsqueeze", ["weight", "last"], ["weights"]),
        helper.make_node("Mul", ["per_token", "weights"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["weight", "middle"], ["tokens"], keepdims=1),
        helper.make_node("Div", ["total", "tokens"], ["mean" if types else output]),
    ]
    if types:
        inputs["token_type_ids"] = port
        nodes += [
            helper.make_node("Cast", ["token_type_ids"], ["types"], to=F),
            helper.make_node("ReduceSum", ["types", "middle"], ["spoilt"], keepdims=1),
            helper.make_node("Add", ["mean", "spoilt"], [output]),
        ]
    return model(
        nodes, inputs, {output: (F, [BATCH, 4])}, votes=votes,
        last=np.array([2], np.int64), middle=np.array([1], np.int64),
    )  # fmt: skip


def tensor(name: str, datatype: Datatype, *shape: int) -> Tensor:
    return Tensor(name=name, datatype=datatype, shape=list(shape))


def tensors_manifest(inputs: list[Tensor], outputs: list[Tensor], domain: str = "numbers") -> Manifest:
    return Manifest(
        name="own", task="tensors", domain=domain, tier="fast", verdict="imported", inputs=inputs, outputs=outputs,
        lineage=Lineage(backbone="none"), evidence=Evidence(quality=0.9), licence="MIT",
    )  # fmt: skip


MLP_MANIFEST = tensors_manifest(
    [tensor("ages", "FP32", -1, 1), tensor("incomes", "FP32", -1, 2)],
    [tensor("class", "INT64", -1), tensor("scores", "FP32", -1, 2)],
)
MLP_CASE = Recorded(
    inputs={"ages": np.array([[3], [0]], np.float32), "incomes": np.array([[0.5, 0.5], [1, 1]], np.float32)},
    outputs={"class": np.array([0, 1]), "scores": np.array([[2, 1], [0, 2]], np.float32)},
)


def tensors_bundle(manifest: Manifest, graph: bytes, cases: Sequence[Recorded] = ()) -> Bundle:
    samples = {"samples.json": encode_cases(cases)} if cases else {}
    return parse(pack(manifest, {"model.onnx": graph, **samples}))
