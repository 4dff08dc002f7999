"""Calibration: the static range of every activation that enters an int8 product.

Runs the torch model over calibration texts (in-domain and out-of-scope), collects what enters
each matrix, and takes the range that minimises the squared error of rounding and clipping
among a few percentiles (Nagel et al. 2021, "A White Paper on Neural Network Quantization",
section 3.1, MSE-based range setting). Activations are U8 with a zero point; what comes out of
a ReLU has zero point 0.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from tickets.factory.encoder import PAD_ID, Classifier
from tickets.factory.graph import Range, Ranges
from tickets.factory.tokens import batches, pad

PERCENTILES = (100.0, 99.999, 99.99, 99.95, 99.9, 99.5)
_SAMPLE = 200_000  # values kept per matrix: enough for a 99.99 percentile


def calibrate(model: Classifier, ids: Sequence[NDArray[np.int64]], seed: int) -> Ranges:
    """Ranges for every matrix of ``model``, from running it on ``ids``."""
    seen: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    random = np.random.default_rng(seed)
    with torch.inference_mode(), _recording(model, seen, random):
        for index in batches([len(i) for i in ids], 64):
            model(torch.from_numpy(pad([ids[i] for i in index])))
    is_relu = model.shape.activation == "relu"
    return {
        name: best_range(np.concatenate(parts)[:_SAMPLE], positive=is_relu and name.endswith(".down"))
        for name, parts in seen.items()
    }


def best_range(values: NDArray[np.float32], *, positive: bool) -> Range:
    """The range of least squared error over ``PERCENTILES`` for each side."""
    candidates = []
    for percentile in PERCENTILES:
        low = 0.0 if positive else min(0.0, float(np.percentile(values, 100 - percentile)))
        candidates.append((low, max(0.0, float(np.percentile(values, percentile)))))
    ranges = [_range(low, high) for low, high in candidates if high > low] or [Range(1.0, 0)]
    return min(ranges, key=lambda r: float(np.square(fake_quantize(values, r) - values).mean()))


def fake_quantize(values: NDArray[np.float32], range_: Range) -> NDArray[np.float32]:
    """What ``values`` become after quantizing to ``range_`` and back."""
    quantized = np.clip(np.rint(values / range_.scale) + range_.zero_point, 0, 255)
    return np.asarray((quantized - range_.zero_point) * range_.scale, np.float32)


def _range(low: float, high: float) -> Range:
    scale = float(np.float32((high - low) / 255))
    return Range(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


@contextmanager
def _recording(
    model: Classifier, seen: dict[str, list[NDArray[np.float32]]], random: np.random.Generator
) -> Iterator[None]:
    keep: list[torch.Tensor] = []
    handles = [model.register_forward_pre_hook(lambda _, args: keep.__setitem__(slice(None), [args[0] != PAD_ID]))]
    for i, layer in enumerate(model.layers):
        for part in ("qkv", "out", "up", "down"):
            name = f"layers.{i}.{part}"

            def record(_: torch.nn.Module, args: tuple[torch.Tensor, ...], name: str = name) -> None:
                real = args[0][keep[0]].flatten().numpy()  # padding must not shape the range
                seen[name].append(random.choice(real, min(len(real), 16_384), replace=False))

            handles.append(getattr(layer, part).register_forward_pre_hook(record))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
