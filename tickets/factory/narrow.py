"""Narrowing: an encoder whose residual stream has fewer coordinates, for the smallest tiers.

`project` writes the stream in a smaller basis. Its principal directions lose least (SliceGPT, Ashkboos et al. 2024,
section 3.2); some of its own coordinates are a basis too (hidden masks as in CoFi, Xia et al. 2022, section 3.1).
SliceGPT is exact because it rotates a stream that is normalized by its length alone, before each sub-layer. BERT's
norms come after, centre, and scale every coordinate for itself: what they get wrong is for distillation to mend.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tickets.factory.encoder import PAD_ID, Classifier
from tickets.factory.fisher import Scores
from tickets.factory.tokens import batches, pad


def choose_hidden(scores: Scores, width: int) -> tuple[int, ...]:
    """The ``width`` coordinates with the highest scores, ascending. Raises ValueError for more than there are."""
    _check(width, len(scores.hidden))
    best = np.argsort(-scores.hidden, kind="stable")[:width]
    return tuple(sorted(int(i) for i in best))


def directions(parent: Classifier, ids: list[NDArray[np.int64]], width: int) -> Tensor:
    """The principal directions of the residual stream over the tokens of ``ids``, [hidden, width], orthonormal.

    After the embeddings and after every sub-layer the stream counts alike, whatever its length there. Raises ValueError
    for more directions than coordinates.
    """
    hidden = parent.shape.hidden
    _check(width, hidden)
    second = torch.zeros(hidden, hidden, dtype=torch.float64)
    keep: list[Tensor] = []

    def add(_: nn.Module, __: Any, normed: Tensor) -> None:  # noqa: ANN401 - as torch calls hooks
        real = normed[keep[0]].double()
        second.add_(real.T @ real / real.square().mean())

    norms = [module for module in parent.modules() if isinstance(module, nn.LayerNorm)]
    handles = [norm.register_forward_hook(add) for norm in norms]
    try:
        with torch.no_grad():
            parent.eval()
            for index in batches([len(i) for i in ids], 64):
                batch = torch.from_numpy(pad([ids[i] for i in index]))
                keep[:] = [batch != PAD_ID]
                parent(batch)
    finally:
        for handle in handles:
            handle.remove()
    _, basis = torch.linalg.eigh(second)  # in ascending order
    return torch.as_tensor(basis[:, hidden - width :].flip(1).float().contiguous())


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
