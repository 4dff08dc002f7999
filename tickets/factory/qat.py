"""Quantization-aware fine-tuning: what calibration alone loses is learnt back.

The torch model computes what the int8 graph of `tickets.factory.graph` computes: activations
pass through U8 with the given static ranges, weights through S8 with a scale per channel, word
rows and positions through the form they are stored in. Rounding is passed over backwards
(straight-through: Bengio et al. 2013, section 4; Jacob et al. 2018, section 3), clipping is
not. Ranges stay as they are: learnt ones (LSQ, Esser et al. 2020) gained nothing in a trial. What
comes back is an ordinary model, to be calibrated and written as any other.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tickets.factory.compute import Compute
from tickets.factory.encoder import Classifier
from tickets.factory.graph import Range, Ranges
from tickets.factory.loop import Watch
from tickets.factory.quantize import matrices
from tickets.factory.train import Corpus, Recipe, train

ACCURACY_LOSS = 0.003
"""Share of in-scope accuracy that calibration alone may lose on validation texts: 0.3 points."""

AUROC_LOSS = 0.003
"""What it may lose there in telling in-scope texts from others."""

Quality = Mapping[str, float]
"""Of one form on validation texts: ``accuracy`` (in scope) and, where there are others, ``auroc``; as fractions."""

WEIGHT_LIMIT = 127
"""The largest step of an S8 weight. 64 where a CPU multiplies U8 x S8 by VPMADDUBSW (AVX2): pairs of products then fit
the 16 bits that it adds them in."""

_ROUNDING = 1e-9  # of the difference of two fractions


def needs_qat(fp32: Quality, calibrated: Quality) -> bool:
    """Whether calibration alone loses more than `ACCURACY_LOSS`, or more than `AUROC_LOSS`, against fp32."""
    if fp32["accuracy"] - calibrated["accuracy"] > ACCURACY_LOSS + _ROUNDING:
        return True
    return fp32.get("auroc", 0.0) - calibrated.get("auroc", 0.0) > AUROC_LOSS + _ROUNDING


def is_better(tuned: Quality, calibrated: Quality) -> bool:
    """Whether fine-tuning was worth it on validation texts: one text right more is worth as much as an AUROC higher by
    the same fraction. A draw goes to calibration alone, whose weights are those that were distilled.
    """
    return sum(tuned.values()) > sum(calibrated.values()) + _ROUNDING


def finetune(
    model: Classifier, ranges: Ranges, corpus: Corpus, recipe: Recipe, *, seed: int, compute: Compute, watch: Watch,
    weight_limit: int = WEIGHT_LIMIT,
) -> Classifier:  # fmt: skip
    """An ordinary model of the same shape, trained from ``model`` through int8; ``model`` stays as it is.

    In fp32 whatever ``compute`` says: bf16 is coarser than the rounding that is to be learnt. ``recipe``: about two
    epochs at a twentieth of the student's learning rate. Continues from ``watch.checkpoint`` when present.
    """
    tuned = copy.deepcopy(model)
    with quantized(tuned, ranges, weight_limit):
        train(tuned, corpus, recipe, seed=seed, compute=replace(compute, precision="fp32"), watch=watch)
    plain = Classifier(model.shape, model.classes)
    plain.load_state_dict(tuned.state_dict())
    return plain.eval()


@contextmanager
def quantized(model: Classifier, ranges: Ranges, weight_limit: int = WEIGHT_LIMIT) -> Iterator[None]:
    """Inside, ``model`` computes what its int8 graph does, forwards and (straight through) backwards.

    Its parameters are the full-precision weights under other names; afterwards under their own again.
    """
    held = [(module, name) for module, name, _ in _stored(model, weight_limit)]
    for module, name, stored in _stored(model, weight_limit):
        parametrize.register_parametrization(module, name, stored, unsafe=True)
    handles = [matrix.register_forward_pre_hook(_through_u8(ranges[name])) for name, matrix in matrices(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, name in held:
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)


class _Round(torch.autograd.Function):
    """To the nearest integer, ties to even as ONNX Runtime has it; backwards as if nothing had been rounded."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
        return grads[0]


class _S8(nn.Module):
    """A weight as S8 holds it: one symmetric scale for each slice along ``dim`` (None: for the whole of it)."""

    def __init__(self, dim: int | None, limit: int) -> None:
        super().__init__()
        self._dim, self._limit = dim, limit

    def forward(self, weight: Tensor) -> Tensor:
        """Weight -> weight, both fp32 of the same shape."""
        size = weight.detach().abs()
        largest = size.max() if self._dim is None else size.amax(dim=1 - self._dim, keepdim=True)
        scale = largest.clamp(min=1e-8) / self._limit
        return round_through(weight / scale) * scale


class _Half(nn.Module):
    """A weight as fp16 holds it."""

    def forward(self, weight: Tensor) -> Tensor:
        """Weight -> weight, both fp32 of the same shape."""
        return weight.half().float()


def round_through(x: Tensor) -> Tensor:
    """Rounded, with the gradient of the identity."""
    rounded: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return rounded


def _stored(model: Classifier, limit: int) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """What the int8 graph stores in fewer bits: the module, the name of its parameter, and how it is stored."""
    embeddings = model.embeddings
    if isinstance(embeddings.widen, nn.Linear):
        yield embeddings.word, "weight", _S8(None, WEIGHT_LIMIT)  # as U8 activations
        yield embeddings.widen, "weight", _S8(0, limit)
    else:
        yield embeddings.word, "weight", _S8(1, WEIGHT_LIMIT)  # only looked up
    yield embeddings, "position", _Half()
    for _, matrix in matrices(model):
        yield matrix, "weight", _S8(0, limit)


def _through_u8(range_: Range) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor]]:
    def through(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        steps = (round_through(args[0] / range_.scale) + range_.zero_point).clamp(0, 255)
        return ((steps - range_.zero_point) * range_.scale,)

    return through
