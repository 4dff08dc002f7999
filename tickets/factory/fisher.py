"""Fisher scores: how much the loss minds when a head, a neuron or a sub-layer goes.

Diagonal Fisher information of mask variables at one (Kwon et al. 2022, "A Fast Post-Training
Pruning Framework for Transformers", section 4.1): the sum over examples of the squared
gradient of the loss with respect to each example's own gate.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from tickets.factory.encoder import Classifier, Gates, Shape
from tickets.factory.tokens import batches, pad


@dataclass(frozen=True, slots=True)
class Scores:
    """One array per layer: heads[l] [heads], neurons[l] [neurons]; sublayers [layers, 2] (attention, FFN)."""

    heads: tuple[NDArray[np.float64], ...]
    neurons: tuple[NDArray[np.float64], ...]
    sublayers: NDArray[np.float64]


def score(model: Classifier, ids: list[NDArray[np.int64]], teacher_logits: NDArray[np.float32]) -> Scores:
    """Fisher of the distillation loss over the given texts. ``model`` is left unchanged."""
    shape = model.shape
    heads = [torch.zeros(h, dtype=torch.float64) for h in shape.heads]
    neurons = [torch.zeros(n, dtype=torch.float64) for n in shape.neurons]
    sublayers = torch.zeros(shape.layers, 2, dtype=torch.float64)
    model.eval()
    for index in batches([len(i) for i in ids], 64):
        gates = _ones(shape, len(index))
        logits, _ = model(torch.from_numpy(pad([ids[i] for i in index])), gates)
        target = torch.from_numpy(teacher_logits[index]).softmax(-1)
        # The sum (not the mean) over the batch: each example's gates see only its own loss.
        loss = functional.kl_div(logits.log_softmax(-1), target, reduction="sum")
        flat = [*gates.heads, *gates.neurons, *gates.sublayers]
        gradients = [g.double().square().sum(0) for g in torch.autograd.grad(loss, flat)]
        for i in range(shape.layers):
            heads[i] += gradients[i]
            neurons[i] += gradients[shape.layers + i]
            sublayers[i] += gradients[2 * shape.layers + i]
    return Scores(tuple(h.numpy() for h in heads), tuple(n.numpy() for n in neurons), sublayers.numpy())


def _ones(shape: Shape, batch: int) -> Gates:
    return Gates(
        [torch.ones(batch, h, requires_grad=True) for h in shape.heads],
        [torch.ones(batch, n, requires_grad=True) for n in shape.neurons],
        [torch.ones(batch, 2, requires_grad=True) for _ in shape.heads],
    )
