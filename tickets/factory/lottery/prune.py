"""Prune: end weights and the masks they were trained under -> the next level's masks. Pure.

Magnitude pruning of a share of what remains, as Frankle & Carbin 2019, "The Lottery Ticket Hypothesis", section 1
(layer by layer) and section 4 (all layers together).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Scope = Literal["global", "layer"]


@dataclass(frozen=True, slots=True)
class Pruned:
    """The masks, and the layers whose last weight was due but stays: a layer is never emptied."""

    masks: dict[str, Tensor]
    spared: tuple[str, ...]


def prune(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], fraction: float, scope: Scope) -> Pruned:
    """Prune the smallest ``fraction`` of the weights that survive in ``masks``, among all layers or in each.

    Only the parameters that ``masks`` names count. Of equal magnitudes the first goes first, by the order of the
    masks and of their entries: the same on any machine. The largest weight of every layer stays. Raises ValueError
    where weights are not finite.
    """
    broken = [name for name in masks if not bool(torch.isfinite(weights[name]).all())]
    if broken:
        raise ValueError(f"{broken[0]} has weights that are not finite: training diverged; lower its learning rate")
    groups = [list(masks)] if scope == "global" else [[name] for name in masks]
    out: dict[str, Tensor] = {}
    spared: list[str] = []
    for names in groups:
        keep, last = _survivors(
            [weights[name].detach().abs().float().cpu().numpy().ravel() for name in names],
            [masks[name].cpu().numpy().ravel() for name in names],
            fraction,
        )
        spared += [names[i] for i in last]
        out |= {name: torch.from_numpy(kept).view(masks[name].shape) for name, kept in zip(names, keep, strict=True)}
    return Pruned(out, tuple(spared))


def _survivors(
    magnitudes: Sequence[NDArray[np.float32]], alive: Sequence[NDArray[np.bool_]], fraction: float
) -> tuple[list[NDArray[np.bool_]], list[int]]:
    """What survives of each layer of a group [weights], and the layers that were spared, by index."""
    sizes = [len(layer) for layer in magnitudes]
    layer_of = np.repeat(np.arange(len(sizes)), sizes)
    keep = np.concatenate(alive)
    remaining = np.flatnonzero(keep)
    order = remaining[np.argsort(np.concatenate(magnitudes)[remaining], kind="stable")]
    count = round(fraction * len(order))
    # The last of each layer, in order of magnitude.
    lasts = order[len(order) - 1 - np.unique(layer_of[order][::-1], return_index=True)[1]]
    due = order[:count]
    keep[order[~np.isin(order, lasts)][:count]] = False
    spared = np.unique(layer_of[np.intersect1d(due, lasts)]).tolist()
    return np.split(keep, np.cumsum(sizes)[:-1]), spared
