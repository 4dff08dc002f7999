"""Other forms of the served graph: what ONNX Runtime's own tools make of it, and one with tokens first.

For measurements (`bench/int8_forms.py`); what is served is written by `tickets.factory.graph`.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tickets.factory.encoder import PAD_ID, Shape
from tickets.factory.graph import MASKED, WEIGHT_LIMIT, Isa, Ranges, Weights, _Graph
from tickets.factory.tokens import batches, pad

CALIBRATION_BATCH = 64
_UNTYPED = {"DefaultTensorType": TensorProto.FLOAT}


def tokens_first(shape: Shape, weights: Weights, ranges: Ranges, isa: Isa) -> bytes:
    """The graph of `tickets.factory.graph` with activations in the order [tokens, batch, ...].

    The products of attention then read Q, K and V where they lie (``transBatchA``, ``transBatchB``): only what comes
    out is transposed. Same arithmetic, same answers.
    """
    return _TokensFirst(shape, weights, ranges, WEIGHT_LIMIT[isa]).build()


def dynamic(fp32: bytes) -> bytes:
    """The fp32 graph through ONNX Runtime's dynamic quantization: S8 weights per channel, the word table included.

    Scales of activations are those of the whole batch: answers depend on their neighbours.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(fp32)
        quantize_dynamic(
            source, target, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"],
            nodes_to_exclude=_kept(fp32), extra_options={"MatMulConstBOnly": True, **_UNTYPED},
        )  # fmt: skip
        return target.read_bytes()


def static_qdq(fp32: bytes, ids: Sequence[NDArray[np.int64]]) -> bytes:
    """The fp32 graph through ONNX Runtime's static quantization (QDQ, U8 activations by min and max over ``ids``)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._batches: Iterator[NDArray[np.int64]] = iter(batches([len(i) for i in ids], CALIBRATION_BATCH))

        def get_next(self) -> dict[str, NDArray[np.int32]] | None:
            index = next(self._batches, None)
            return None if index is None else {"input_ids": pad([ids[i] for i in index]).astype(np.int32)}

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(fp32)
        quantize_static(
            source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, op_types_to_quantize=["Gemm"], nodes_to_exclude=_kept(fp32),
            extra_options=_UNTYPED,
        )  # fmt: skip
        return target.read_bytes()


def named(graph: bytes) -> bytes:
    """The graph with a name on every node and the type of what products take and give: quantization tools ask for both,
    and onnx infers no types behind operators of com.microsoft.
    """
    model = onnx.load_from_string(graph)
    known = {"logits"}
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
        fresh = {node.input[0], node.output[0]} - known if node.op_type == "Gemm" else set()
        known |= fresh
        model.graph.value_info.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in sorted(fresh)
        )
    return bytes(model.SerializeToString())


def _kept(graph: bytes) -> list[str]:
    """The classifier, which the served graph keeps in fp32: the node that gives the logits."""
    last = [n.name for n in onnx.load_from_string(graph).graph.node if "logits" in n.output]
    return [*last, *(f"{name}_MatMul" for name in last)]  # what quantize_dynamic makes of a Gemm


class _TokensFirst(_Graph):
    def build(self) -> bytes:
        turned = self._op("Transpose", ["input_ids"], perm=[1, 0])
        self._turned, sizes = turned, self._op("Shape", [turned])
        is_pad = self._op("Equal", ["input_ids", self._constant(np.array(PAD_ID, np.int32))])
        bias = self._op("Where", [is_pad, self._constant(np.float32(MASKED)), self._constant(np.float32(0))])
        mask = self._op("Unsqueeze", [bias, self._constant(np.array([1, 2]))])
        rows = self._constant(np.array([-1, self._shape.hidden]))
        x = self._norm(self._op("Reshape", [self._embed(sizes), rows]), "embeddings.norm")
        for i in range(self._shape.layers):
            if self._shape.heads[i]:
                x = self._attention(x, mask, sizes, i)
            if self._shape.neurons[i]:
                x = self._feed_forward(x, i)
        pooled = self._pool(x, is_pad, sizes)
        weight, bias_name = self._weights["head.weight"].T, self._constant(self._weights["head.bias"])
        self._op("Gemm", [pooled, self._constant(weight), bias_name], out="logits")
        return self._serialize()

    def _embed(self, sizes: str) -> str:
        words = self._words_fp32() if self._ranges is None else self._words_int8()
        tokens = self._op("Slice", [sizes, self._constant(np.array([0])), self._constant(np.array([1]))])
        positions = self._op("Unsqueeze", [self._positions(tokens), self._constant(np.array([1]))])
        return self._op("Add", [words, positions])

    def _attention(self, x: str, mask: str, sizes: str, i: int) -> str:
        heads, size = self._shape.heads[i], self._shape.head_size
        width = heads * size
        parts = [f"layers.{i}.{part}" for part in "qkv"]
        product, widths = self._product(x, f"layers.{i}.qkv"), self._constant(np.array([width] * 3))
        self._nodes.append(helper.make_node("Split", [product, widths], parts, axis=1))
        apart = self._op("Concat", [sizes, self._constant(np.array([heads, size]))], axis=0)
        q, k, v = (self._op("Reshape", [part, apart]) for part in parts)
        scores = self._op(
            "FusedMatMul", [q, k], domain="com.microsoft",
            transBatchA=1, transBatchB=1, transB=1, alpha=float(1 / np.sqrt(size)),
        )  # fmt: skip
        chances = self._op("Softmax", [self._op("Add", [scores, mask])], axis=-1)
        context = self._op("FusedMatMul", [chances, v], domain="com.microsoft", transBatchB=1)
        context = self._op("Transpose", [context], perm=[2, 0, 1, 3])
        flat = self._op("Reshape", [context, self._constant(np.array([-1, width]))])
        attended = self._product(flat, f"layers.{i}.out")
        return self._norm(self._op("Add", [attended, x]), f"layers.{i}.norm1")

    def _pool(self, x: str, is_pad: str, sizes: str) -> str:
        is_token = self._op("Cast", [self._op("Not", [is_pad])], to=TensorProto.FLOAT)
        count = self._op("ReduceSum", [is_token, self._constant(np.array([1]))], keepdims=1)
        share = self._op("Unsqueeze", [self._op("Div", [is_token, count]), self._constant(np.array([1]))])
        back = self._op("Concat", [sizes, self._constant(np.array([self._shape.hidden]))], axis=0)
        states = self._op("Reshape", [x, back])
        pooled = self._op("FusedMatMul", [share, states], domain="com.microsoft", transBatchB=1)
        return self._op("Squeeze", [pooled, self._constant(np.array([1]))])

    def _op(self, kind: str, inputs: list[str], *, out: str = "", domain: str = "", **attributes: Any) -> str:  # noqa: ANN401 - as the parent has it
        if kind == "Gather" and inputs[1] == "input_ids":
            inputs = [inputs[0], self._turned]
        return super()._op(kind, inputs, out=out, domain=domain, **attributes)
