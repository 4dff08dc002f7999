"""Narrowing: an encoder whose residual stream has fewer coordinates, for the smallest tiers.

`project` writes the stream in a smaller basis: here some of its own coordinates (hidden masks as in CoFi, Xia et al.
2022, section 3.1). SliceGPT (Ashkboos et al. 2024, section 3.2) takes principal directions, and is exact because it
rotates a stream that is normalized by its length alone, before each sub-layer. BERT's norms come after, centre, and
scale every coordinate for itself: what they get wrong is for distillation to mend.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tickets.factory.encoder import Classifier
from tickets.factory.fisher import Scores


def choose_hidden(scores: Scores, width: int) -> tuple[int, ...]:
    """The ``width`` coordinates with the highest scores, ascending. Raises ValueError for more than there are."""
    _check(width, len(scores.hidden))
    best = np.argsort(-scores.hidden, kind="stable")[:width]
    return tuple(sorted(int(i) for i in best))


def narrow(parent: Classifier, keep: tuple[int, ...]) -> Classifier:
    """A child over the coordinates ``keep``, with the parent's weights; its heads and neurons stay."""
    return project(parent, torch.eye(parent.shape.hidden)[:, list(keep)])


def project(parent: Classifier, basis: Tensor) -> Classifier:
    """A child whose residual stream is the parent's, written in ``basis`` [hidden, width] (orthonormal columns).

    Exact for a basis of all coordinates. Otherwise LayerNorm divides by something else, and of its weights only the
    diagonal survives a change of basis.
    """
    child = Classifier(replace(parent.shape, hidden=basis.shape[1]), parent.classes)
    state = {name: _projected(name, value, basis) for name, value in parent.state_dict().items()}
    child.load_state_dict({name: value.contiguous() for name, value in state.items()})
    return child.eval()


def _projected(name: str, value: Tensor, basis: Tensor) -> Tensor:
    *_, part, kind = name.split(".")
    if "norm" in part:
        return basis.T @ value if kind == "bias" else (basis.square() * value[:, None]).sum(0)
    if part in ("out", "down", "widen"):
        return basis.T @ value  # they write into the stream
    if part == "word" and basis.shape[0] != value.shape[1]:
        return value  # a narrow table: ``widen`` writes
    reads = kind == "weight" or part == "embeddings"
    return value @ basis if reads else value


def _check(width: int, hidden: int) -> None:
    if not 0 < width <= hidden:
        raise ValueError(f"cannot keep {width} of {hidden} hidden coordinates")
