"""Made-up graphs: with random weights, to time a structure before it has any weights.

The speed of ONNX Runtime's kernels does not depend on the values, as long as none is denormal.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tickets.factory.encoder import Shape
from tickets.factory.graph import Range, build_fp32, build_int8

POSITIONS = 512
"""At least so many are there, so that every length may be timed; only those in use cost anything."""


def build_made_up(shape: Shape, classes: int, *, int8: bool = True) -> bytes:
    """An encoder's graph with random weights and ranges, built as a ticket's is; in fp32, as the dense parent's."""
    random = np.random.default_rng(0)
    shape = replace(shape, positions=max(shape.positions, POSITIONS))

    def draw(*size: int) -> NDArray[np.float32]:
        return random.standard_normal(size, np.float32) * np.float32(0.05)

    weights = {
        "embeddings.word.weight": draw(shape.vocabulary, shape.rank or shape.hidden),
        "embeddings.position": draw(shape.positions, shape.hidden),
        "head.weight": draw(classes, shape.hidden),
        "head.bias": draw(classes),
    }
    if shape.rank:
        weights["embeddings.widen.weight"] = draw(shape.hidden, shape.rank)
    for norm in ("embeddings.norm", *(f"layers.{i}.norm{j}" for i in range(shape.layers) for j in (1, 2))):
        weights[f"{norm}.weight"], weights[f"{norm}.bias"] = 1 + draw(shape.hidden), draw(shape.hidden)
    ranges = {}
    for i, (heads, neurons) in enumerate(zip(shape.heads, shape.neurons, strict=True)):
        width = heads * shape.head_size
        matrices = {"qkv": (3 * width, shape.hidden), "out": (shape.hidden, width)} if heads else {}
        matrices |= {"up": (neurons, shape.hidden), "down": (shape.hidden, neurons)} if neurons else {}
        for name, (rows, columns) in matrices.items():
            weights[f"layers.{i}.{name}.weight"], weights[f"layers.{i}.{name}.bias"] = draw(rows, columns), draw(rows)
            is_positive = name == "down" and shape.activation == "relu"
            ranges[f"layers.{i}.{name}"] = Range(0.02, 0 if is_positive else 128)
    return build_int8(shape, weights, ranges, "avx2") if int8 else build_fp32(shape, weights)
