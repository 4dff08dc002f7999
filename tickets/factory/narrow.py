"""Narrowing: an encoder over fewer hidden coordinates, for the smallest tiers.

The residual stream keeps the coordinates whose gates score highest (hidden masks as in CoFi, Xia et al. 2022, section
3.1), everywhere the same ones. What LayerNorm divides by changes when coordinates go; distillation repairs that.
"""

from dataclasses import replace

import numpy as np
import torch

from tickets.factory.encoder import Classifier
from tickets.factory.fisher import Scores


def choose_hidden(scores: Scores, width: int) -> tuple[int, ...]:
    """The ``width`` coordinates with the highest scores, ascending. Raises ValueError for more than there are."""
    if not 0 < width <= len(scores.hidden):
        raise ValueError(f"cannot keep {width} of {len(scores.hidden)} hidden coordinates")
    best = np.argsort(-scores.hidden, kind="stable")[:width]
    return tuple(sorted(int(i) for i in best))


def narrow(parent: Classifier, keep: tuple[int, ...]) -> Classifier:
    """A child over the coordinates ``keep``, with the parent's weights; its heads and neurons stay."""
    child = Classifier(replace(parent.shape, hidden=len(keep)), parent.classes)
    index = torch.tensor(keep)
    state = {name: _narrowed(name, value, index, parent.shape.rank) for name, value in parent.state_dict().items()}
    child.load_state_dict(state)
    return child


def _narrowed(name: str, value: torch.Tensor, index: torch.Tensor, rank: int) -> torch.Tensor:
    part = name.split(".")[-2]
    if name == "embeddings.word.weight":
        return value if rank else value[:, index]
    if name == "embeddings.widen.weight" or part in ("out", "down") or "norm" in part:
        return value[index]
    if name == "embeddings.position" or (part in ("qkv", "up", "head") and name.endswith("weight")):
        return value[:, index]
    return value
