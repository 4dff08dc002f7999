"""Graphs: a classifier's weights written as ONNX, fp32 or int8, node by node.

We write the graph ourselves instead of exporting and fusing, because only then is its form
exactly the one that was measured to be fastest (ARCHITECTURE.md, "The served graph"):
tokens are kept in one [batch x tokens, hidden] matrix, Q, K and V are one product, int8
products take U8 activations with static scales and S8 weights with a scale per channel, and a
ReLU costs nothing because the quantization after it clips at zero. Static scales make an
answer independent of its batch neighbours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tickets.factory.encoder import EPSILON, PAD_ID, Shape

OPSET, MICROSOFT_OPSET, IR_VERSION = 17, 1, 8
MASKED = -60.0
"""Added to the scores of padding, whose chances are then below 1e-17 and vanish in every sum of fp32. Not lower:
ONNX Runtime's softmax takes exp() of -88 for everything below it, which is denormal, and multiplying by denormals made
int8 tickets a seventh slower on padded batches (bench/padding.py).
"""

Isa = Literal["vnni", "avx2"]
WEIGHT_LIMIT: Mapping[Isa, int] = {"vnni": 127, "avx2": 64}

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Range:
    """A static activation range: real = scale * (quantized - zero_point), quantized in 0..255."""

    scale: float
    zero_point: int


Ranges = Mapping[str, Range]
"""By the name of the matrix that consumes the activation: ``layers.<i>.{qkv,out,up,down}``."""


def build_fp32(shape: Shape, weights: Weights) -> bytes:
    """The graph in fp32: input_ids [batch, tokens] int32 -> logits [batch, classes]."""
    return _Graph(shape, weights, None).build()


def build_int8(shape: Shape, weights: Weights, ranges: Ranges, isa: Isa) -> bytes:
    """The same graph with int8 products and an int8 word table.

    ``isa``: what will multiply. CPUs with AVX2 alone add pairs of products in 16 bits, which weights beyond 64 overflow
    (measured: a probability moves by up to 0.11); ``avx2`` keeps weights within that, and changes nothing else.
    """
    return _Graph(shape, weights, ranges, WEIGHT_LIMIT[isa]).build()


class _Graph:
    def __init__(self, shape: Shape, weights: Weights, ranges: Ranges | None, weight_limit: int = 127) -> None:
        self._shape, self._weights, self._ranges, self._limit = shape, weights, ranges, weight_limit
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._count = 0

    def build(self) -> bytes:
        sizes = self._op("Shape", ["input_ids"])
        is_pad = self._op("Equal", ["input_ids", self._constant(np.array(PAD_ID, np.int32))])
        bias = self._op("Where", [is_pad, self._constant(np.float32(MASKED)), self._constant(np.float32(0))])
        mask = self._op("Unsqueeze", [bias, self._constant(np.array([1, 2]))])
        rows = self._constant(np.array([-1, self._shape.hidden]))
        x = self._norm(self._op("Reshape", [self._embed(sizes), rows]), "embeddings.norm")
        for i in range(self._shape.layers):
            x = self._attention(x, mask, sizes, i) if self._shape.heads[i] else x
            x = self._feed_forward(x, i) if self._shape.neurons[i] else x
        pooled = self._pool(x, is_pad, sizes)
        weight, bias_name = self._weights["head.weight"].T, self._constant(self._weights["head.bias"])
        self._op("Gemm", [pooled, self._constant(weight), bias_name], out="logits")
        return self._serialize()

    def _embed(self, sizes: str) -> str:
        words = self._words_fp32() if self._ranges is None else self._words_int8()
        tokens = self._op("Slice", [sizes, self._constant(np.array([1])), self._constant(np.array([2]))])
        return self._op("Add", [words, self._positions(tokens)])

    def _positions(self, tokens: str) -> str:
        table, first = self._weights["embeddings.position"], self._constant(np.array([0]))
        if self._ranges is None:
            return self._op("Slice", [self._constant(table), first, tokens])
        # Half precision on disk; only the rows in use are widened.
        rows = self._op("Slice", [self._constant(table.astype(np.float16)), first, tokens])
        return self._op("Cast", [rows], to=TensorProto.FLOAT)

    def _words_fp32(self) -> str:
        words = self._op("Gather", [self._constant(self._weights["embeddings.word.weight"]), "input_ids"])
        if not self._shape.rank:
            return words
        return self._op("MatMul", [words, self._constant(self._weights["embeddings.widen.weight"].T)])

    def _words_int8(self) -> str:
        table = self._weights["embeddings.word.weight"]
        if not self._shape.rank:
            quantized, scale = quantize_weight(table)
            gathered = self._op("Gather", [self._constant(quantized), "input_ids"])
            # Cast and Mul: DequantizeLinear with a scale per channel took 4 times as long here.
            return self._op("Mul", [self._op("Cast", [gathered], to=TensorProto.FLOAT), self._constant(scale)])
        # The narrow table is stored as the U8 activations that the product wants: nothing is converted.
        step = np.float32(max(float(np.abs(table).max()), 1e-8) / 127)
        rows = (np.clip(np.rint(table / step), -127, 127) + 128).astype(np.uint8)
        weight, weight_scale = quantize_weight(self._weights["embeddings.widen.weight"].T, self._limit)
        inputs = [
            self._op("Gather", [self._constant(rows), "input_ids"]), self._constant(weight), self._constant(step),
            self._constant(weight_scale), self._constant(np.uint8(128)),
        ]  # fmt: skip
        return self._op("MatMulIntegerToFloat", inputs, domain="com.microsoft")

    def _attention(self, x: str, mask: str, sizes: str, i: int) -> str:
        heads, size = self._shape.heads[i], self._shape.head_size
        qkv = self._product(x, f"layers.{i}.qkv")
        split = self._op("Concat", [sizes, self._constant(np.array([3, heads, size]))], axis=0)
        apart = self._op("Transpose", [self._op("Reshape", [qkv, split])], perm=[2, 0, 3, 1, 4])
        q, k, v = (self._op("Gather", [apart, self._constant(np.array(part))], axis=0) for part in range(3))
        scores = self._op("FusedMatMul", [q, k], domain="com.microsoft", transB=1, alpha=float(1 / np.sqrt(size)))
        chances = self._op("Softmax", [self._op("Add", [scores, mask])], axis=-1)
        context = self._op("Transpose", [self._op("MatMul", [chances, v])], perm=[0, 2, 1, 3])
        flat = self._op("Reshape", [context, self._constant(np.array([-1, heads * size]))])
        attended = self._product(flat, f"layers.{i}.out")
        return self._norm(self._op("Add", [attended, x]), f"layers.{i}.norm1")

    def _feed_forward(self, x: str, i: int) -> str:
        if self._ranges is not None and self._shape.activation == "relu":
            inner = self._product_to_u8(x, f"layers.{i}.up", self._ranges[f"layers.{i}.down"])
            fed = self._multiply(inner, f"layers.{i}.down")
        else:
            inner = self._activation(self._product(x, f"layers.{i}.up"))
            fed = self._product(inner, f"layers.{i}.down")
        return self._norm(self._op("Add", [fed, x]), f"layers.{i}.norm2")

    def _activation(self, x: str) -> str:
        if self._shape.activation == "relu":
            return self._op("Relu", [x])
        return self._op("Gelu", [x], domain="com.microsoft")

    def _pool(self, x: str, is_pad: str, sizes: str) -> str:
        """Mean over tokens that are not padding, as one small matrix product per text."""
        is_token = self._op("Cast", [self._op("Not", [is_pad])], to=TensorProto.FLOAT)
        count = self._op("ReduceSum", [is_token, self._constant(np.array([1]))], keepdims=1)
        share = self._op("Unsqueeze", [self._op("Div", [is_token, count]), self._constant(np.array([1]))])
        back = self._op("Concat", [sizes, self._constant(np.array([self._shape.hidden]))], axis=0)
        pooled = self._op("MatMul", [share, self._op("Reshape", [x, back])])
        return self._op("Squeeze", [pooled, self._constant(np.array([1]))])

    def _norm(self, x: str, name: str) -> str:
        weights = [self._constant(self._weights[f"{name}.{kind}"]) for kind in ("weight", "bias")]
        return self._op("LayerNormalization", [x, *weights], axis=-1, epsilon=EPSILON)

    def _product(self, x: str, name: str) -> str:
        """X [rows, in] fp32 -> [rows, out] fp32, through int8 where ranges are given."""
        if self._ranges is None:
            weight = self._constant(self._weights[f"{name}.weight"].T)
            return self._op("Gemm", [x, weight, self._constant(self._weights[f"{name}.bias"])])
        scale, zero = self._range(self._ranges[name])
        return self._multiply(self._op("QuantizeLinear", [x, scale, zero]), name)

    def _multiply(self, quantized: str, name: str) -> str:
        assert self._ranges is not None
        scale, zero = self._range(self._ranges[name])
        weight, weight_scale = quantize_weight(self._weights[f"{name}.weight"].T, self._limit)
        inputs = [
            quantized, self._constant(weight), scale, self._constant(weight_scale), zero, "",
            self._constant(self._weights[f"{name}.bias"]),
        ]  # fmt: skip
        return self._op("MatMulIntegerToFloat", inputs, domain="com.microsoft")

    def _product_to_u8(self, x: str, name: str, out: Range) -> str:
        """X fp32 -> ReLU(product) already quantized to ``out``, whose zero point is 0: the clip is the ReLU."""
        assert self._ranges is not None
        assert out.zero_point == 0
        scale, zero = self._range(self._ranges[name])
        weight, weight_scale = quantize_weight(self._weights[f"{name}.weight"].T, self._limit)
        bias = np.rint(self._weights[f"{name}.bias"] / (self._ranges[name].scale * weight_scale)).astype(np.int32)
        out_scale, out_zero = self._range(out)
        inputs = [
            self._op("QuantizeLinear", [x, scale, zero]), scale, zero,
            self._constant(weight), self._constant(weight_scale), self._constant(np.zeros(len(weight_scale), np.int8)),
            self._constant(bias), out_scale, out_zero,
        ]  # fmt: skip
        return self._op("QGemm", inputs, domain="com.microsoft")

    def _range(self, given: Range) -> tuple[str, str]:
        return self._constant(np.float32(given.scale)), self._constant(np.uint8(given.zero_point))

    def _constant(self, value: NDArray[np.generic] | np.generic) -> str:
        self._count += 1
        name = f"c{self._count}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name

    def _op(self, kind: str, inputs: list[str], *, out: str = "", domain: str = "", **attributes: Any) -> str:  # noqa: ANN401 - as onnx.helper takes them
        self._count += 1
        name = out or f"x{self._count}"
        self._nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def _serialize(self) -> bytes:
        classes = self._weights["head.bias"].shape[0]
        graph = helper.make_graph(
            self._nodes,
            "ticket",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", "tokens"])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
            self._constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", MICROSOFT_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="tombola")
        model.ir_version = IR_VERSION
        return bytes(model.SerializeToString())


def quantize_weight(weight: NDArray[np.float32], limit: int = 127) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """[in, out] fp32 -> S8 in -limit..limit with one symmetric scale per output channel (column)."""
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-8).astype(np.float32) / np.float32(limit)
    return np.clip(np.rint(weight / scale), -limit, limit).astype(np.int8), scale
