"""Branches: how a level begins, for the ticket and for each control. One function is one branch; all are pure.

What each control takes away, and keeps:

- ``random``: the ticket's per-layer counts, but which weights survive is drawn by chance. Within each layer this is the
  "random shuffling" of Frankle et al. 2021, "Pruning Neural Networks at Initialization: Why Are We Missing the Mark?",
  section 4 (the mask shuffled, the weights left where they are). If it does as well, only the counts mattered.
- ``reinit``: the ticket's masks, but new initial values (there: "reinitialization"; the original paper's control).
  If it does as well, the values that survived did not matter.
- ``shuffled``: the ticket's masks and the very values that survived, permuted within each layer (Zhou et al. 2019,
  "Deconstructing Lottery Tickets", section 4.1, "reshuffle"). If it does as well, only their distribution mattered.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from tickets.factory.loop import Masks
from tickets.factory.lottery.networks import Network, State


@dataclass(frozen=True, slots=True)
class Start:
    """What a training begins with: weights, the masks over them, at which step of the course, and whether it keeps the
    course's last learning rate throughout (``is_flat``).
    """

    weights: State
    masks: Masks
    first_step: int = 0
    is_flat: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """What a control of a level may use: the ticket's start there, and its own masks and (where the method keeps end
    weights instead of rewinding) weights from the level before. ``random``: this control's own generator.
    """

    network: Network
    ticket: Start
    own_masks: Masks
    own_weights: State
    random: np.random.Generator


Control = Callable[[Given], Start]


def random(given: Given) -> Start:
    """As many survivors in every layer as the ticket has, by chance, among those of this control's level before: pruned
    as often as the ticket, only blindly.
    """
    masks = draw_masks(given.ticket.masks, given.own_masks, given.random)
    return replace(given.ticket, weights=given.own_weights, masks=masks)


def reinit(given: Given) -> Start:
    """The ticket's masks over a freshly initialised network, which gets the whole course, warm-up and all."""
    seed = int(given.random.integers(2**31))
    return Start(dict(given.network.reinit(seed).state_dict()), given.ticket.masks)


def shuffled(given: Given) -> Start:
    """The ticket's masks; in each layer the surviving values in an order of chance."""
    return replace(given.ticket, weights=permute_survivors(given.ticket.weights, given.ticket.masks, given.random))


CONTROLS: Mapping[str, Control] = MappingProxyType({"random": random, "reinit": reinit, "shuffled": shuffled})
"""By name."""


def draw_masks(counts: Masks, within: Masks, random: np.random.Generator) -> dict[str, Tensor]:
    """Masks with as many survivors in every layer as ``counts``, drawn from the survivors of ``within``."""
    out = {}
    for name, mask in counts.items():
        drawn = random.choice(np.flatnonzero(within[name].numpy()), int(mask.sum()), replace=False)
        flat = np.zeros(mask.numel(), np.bool_)
        flat[drawn] = True
        out[name] = torch.from_numpy(flat).view(mask.shape)
    return out


def permute_survivors(weights: State, masks: Masks, random: np.random.Generator) -> State:
    """Weights with the survivors of each layer permuted among themselves; all else as it was."""
    out = dict(weights)
    for name, mask in masks.items():
        values = weights[name][mask]
        changed = weights[name].clone()
        changed[mask] = values[torch.from_numpy(random.permutation(len(values)))]
        out[name] = changed
    return out
