"""Scores: how much the distillation loss minds when a head, a neuron, a sub-layer or a hidden coordinate goes.

``fisher``: diagonal Fisher information of mask variables at one (Kwon et al. 2022, "A Fast Post-Training Pruning
Framework for Transformers", section 4.1), the sum over examples of a squared gradient with respect to each example's
own gate. ``taylor``, the challenger: of the gradient's absolute value (Michel et al. 2019, "Are Sixteen Heads Really
Better than One?", section 3.3).

Both papers take the gradient of the loss with true labels. That of the distillation loss itself says nothing: a child
begins where its teachers are, at the minimum, where the gradient vanishes. Its curvature does not, and is the Fisher
information of the teachers' distribution: so the gradient is taken of the logits along a random direction whose
covariance is that distribution's, diag(p) - pp', once for every example (Martens 2020, "New Insights and Perspectives
on the Natural Gradient Method": the Gauss-Newton matrix of such losses is the Fisher matrix).
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tickets.factory.encoder import Classifier, Gates, Shape
from tickets.factory.quality import softmax
from tickets.factory.tokens import batches, pad

TEMPERATURE = 2.0
"""Of the teachers' answers, as in distillation: what they hold for possible counts too."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """One array per layer: heads[l] [heads], neurons[l] [neurons]; sublayers [layers, 2] (attention, FFN); hidden
    [hidden]. What a layer lacks has an empty array and a score of zero.
    """

    heads: tuple[Floats, ...]
    neurons: tuple[Floats, ...]
    sublayers: Floats
    hidden: Floats


def score(
    model: Classifier,
    ids: list[NDArray[np.int64]],
    along: NDArray[np.float32],
    kind: Literal["fisher", "taylor"] = "fisher",
) -> Scores:
    """Scores over the given texts, in fp32. ``model`` is left unchanged.

    ``along`` [texts, classes]: the direction in which each text's logits are looked at; see `directions`.
    """
    shape = model.shape
    sums = [torch.zeros(gate.shape[1], dtype=torch.float64) for gate in _flat(_ones(shape, 1))]
    model.eval()
    for index in batches([len(i) for i in ids], 64):
        gates = _ones(shape, len(index))
        logits, _ = model(torch.from_numpy(pad([ids[i] for i in index])), gates)
        # The sum (not the mean) over the batch: each example's gates see only its own direction.
        said = (logits * torch.from_numpy(along[index])).sum()
        for total, gradient in zip(sums, _gradients(said, _flat(gates)), strict=True):
            total += (gradient.square() if kind == "fisher" else gradient.abs()).sum(0)
    arrays = [total.numpy() for total in sums]
    layers = shape.layers
    sublayers = np.stack(arrays[2 * layers : 3 * layers]) if layers else np.zeros((0, 2))
    return Scores(tuple(arrays[:layers]), tuple(arrays[layers : 2 * layers]), sublayers, arrays[-1])


def directions(teacher_logits: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """For each text a normal draw [classes] of covariance diag(p) - pp', p what its teachers say at `TEMPERATURE`.

    ``teacher_logits`` [texts, classes].
    """
    chances = softmax(teacher_logits, TEMPERATURE)
    draws = np.sqrt(chances) * np.random.default_rng(seed).standard_normal(chances.shape, np.float32)
    return np.asarray(draws - chances * draws.sum(axis=1, keepdims=True), np.float32)


def random_scores(shape: Shape, seed: int) -> Scores:
    """Scores that mean nothing: for the random control."""
    random = np.random.default_rng(seed)
    return Scores(
        tuple(random.random(h) for h in shape.heads),
        tuple(random.random(n) for n in shape.neurons),
        random.random((shape.layers, 2)),
        random.random(shape.hidden),
    )


def reversed_scores(scores: Scores) -> Scores:
    """The worst first: for the worst-scored control (Prasanna et al. 2020, section 5)."""
    return replace(
        scores,
        heads=tuple(-s for s in scores.heads),
        neurons=tuple(-s for s in scores.neurons),
        sublayers=-scores.sublayers,
        hidden=-scores.hidden,
    )


def _gradients(said: Tensor, gates: list[Tensor]) -> list[Tensor]:
    """Of each gate; a gate of something that is not there has none, which is zero."""
    found = torch.autograd.grad(said, gates, allow_unused=True)
    return [
        torch.zeros_like(gate, dtype=torch.float64) if gradient is None else gradient.double()
        for gate, gradient in zip(gates, found, strict=True)
    ]


def _flat(gates: Gates) -> list[Tensor]:
    return [*gates.heads, *gates.neurons, *gates.sublayers, gates.hidden]


def _ones(shape: Shape, batch: int) -> Gates:
    return Gates(
        [torch.ones(batch, h, requires_grad=True) for h in shape.heads],
        [torch.ones(batch, n, requires_grad=True) for n in shape.neurons],
        [torch.ones(batch, 2, requires_grad=True) for _ in shape.heads],
        torch.ones(batch, shape.hidden, requires_grad=True),
    )
