"""Calibration: the static range of every activation that enters an int8 product.

Runs the torch model over calibration texts (in-domain and out-of-scope), collects what enters
each matrix, and takes the range that minimises the squared error of rounding and clipping
among a few percentiles (Nagel et al. 2021, "A White Paper on Neural Network Quantization",
section 3.1, MSE-based range setting). Activations are U8 with a zero point; what comes out of
a ReLU has zero point 0. Where this costs too much quality, `tickets.factory.qat` follows.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tickets.factory.encoder import PAD_ID, Classifier
from tickets.factory.graph import Range, Ranges
from tickets.factory.tokens import batches, pad

PERCENTILES = (100.0, 99.999, 99.99, 99.95, 99.9, 99.5)
_PARTS = ("qkv", "out", "up", "down")
_SAMPLE = 200_000  # values kept per matrix, drawn evenly from all texts: enough for a 99.99 percentile
_BATCH = 64


@dataclass(slots=True)
class _Seen:
    """What entered one matrix: a sample of the values, and the extremes of all of them."""

    parts: list[NDArray[np.float32]] = field(default_factory=list)
    low: float = 0.0
    high: float = 0.0

    def add(self, values: NDArray[np.float32], share: float, random: np.random.Generator) -> None:
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        count = min(values.size, math.ceil(share * values.size))
        self.parts.append(values if count == values.size else values[random.integers(0, values.size, count)])


def calibrate(model: Classifier, ids: Sequence[NDArray[np.int64]], seed: int) -> Ranges:
    """Ranges for every matrix that ``model`` has, from running it on ``ids``. Padding does not count.

    Every real token weighs the same, in whatever text it stands. Raises ValueError without texts.
    """
    if not ids:
        raise ValueError("calibration needs texts: there are none")
    seen: dict[str, _Seen] = {}
    random = np.random.default_rng(seed)
    with torch.inference_mode(), _recording(model, seen, sum(len(i) for i in ids), random):
        for index in batches([len(i) for i in ids], _BATCH):
            model(torch.from_numpy(pad([ids[i] for i in index])))
    is_relu = model.shape.activation == "relu"
    return {
        name: best_range(
            np.concatenate(values.parts),
            positive=is_relu and name.endswith(".down"),
            extremes=(values.low, values.high),
        )
        for name, values in seen.items()
    }


def best_range(values: NDArray[np.float32], *, positive: bool, extremes: tuple[float, float] | None = None) -> Range:
    """The range of least squared error over ``PERCENTILES`` for each side.

    ``extremes`` are the lowest and highest value where ``values`` is a sample; they stand for percentile 100.
    """
    candidates = []
    lowest, highest = extremes or (float(values.min()), float(values.max()))
    lows = [lowest, *np.percentile(values, [100 - p for p in PERCENTILES[1:]]).tolist()]
    highs = [highest, *np.percentile(values, PERCENTILES[1:]).tolist()]
    for low, high in zip(lows, highs, strict=True):
        candidates.append((0.0 if positive else min(0.0, low), max(0.0, high)))
    ranges = [_range(low, high) for low, high in candidates if high > low] or [Range(1.0, 0)]
    return min(ranges, key=lambda r: float(np.square(fake_quantize(values, r) - values).mean()))


def fake_quantize(values: NDArray[np.float32], range_: Range) -> NDArray[np.float32]:
    """What ``values`` become after quantizing to ``range_`` and back."""
    with np.errstate(over="ignore"):  # a value far beyond a tiny range: clipped, as infinity is
        quantized = np.clip(np.rint(values / range_.scale) + range_.zero_point, 0, 255)
    return np.asarray((quantized - range_.zero_point) * range_.scale, np.float32)


def matrices(model: Classifier) -> Iterator[tuple[str, nn.Linear]]:
    """The matrices that take int8 activations, with the names of `Ranges`; what a layer lacks is passed over."""
    for i, layer in enumerate(model.layers):
        for part in _PARTS:
            matrix = getattr(layer, part, None)
            if matrix is not None:
                yield f"layers.{i}.{part}", matrix


def _range(low: float, high: float) -> Range:
    scale = max(float(np.float32((high - low) / 255)), float(np.finfo(np.float32).tiny))
    return Range(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


@contextmanager
def _recording(model: Classifier, seen: dict[str, _Seen], tokens: int, random: np.random.Generator) -> Iterator[None]:
    """Collect about `_SAMPLE` of what enters each matrix while ``tokens`` real tokens pass through the model."""
    keep: list[Tensor] = []

    def recorder(name: str, width: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        share = _SAMPLE / (tokens * width)

        def record(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            real = args[0][keep[0]].flatten().numpy()  # padding must not shape the range
            seen.setdefault(name, _Seen()).add(real, share, random)

        return record

    handles = [model.register_forward_pre_hook(lambda _, args: keep.__setitem__(slice(None), [args[0] != PAD_ID]))]
    for name, matrix in matrices(model):
        handles.append(matrix.register_forward_pre_hook(recorder(name, matrix.in_features)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
