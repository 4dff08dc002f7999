"""Trained: what one training leaves in its stage's folder, written and read.

Its masks (`masks.npz`), its end weights less the zeros (`weights.safetensors`), its log epoch by epoch (`log.json`),
and what it made of every validation and test example (`outcome.npz`), so that any statistics can be made later.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from tickets.factory.lottery.masks import load_masks, save_masks
from tickets.factory.lottery.networks import Outcome, Split, State
from tickets.files import write_whole

MASKS, WEIGHTS, LOG, OUTCOME = "masks.npz", "weights.safetensors", "log.json", "outcome.npz"


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training, read from its folder when asked."""

    folder: Path

    def masks(self) -> dict[str, Tensor]:
        """The masks it was trained under."""
        return load_masks(self.folder / MASKS)

    def weights(self) -> State:
        """Its end weights, zeros in their places."""
        return load_weights(self.folder / WEIGHTS, self.masks())

    def log(self) -> dict[str, Any]:
        """``epochs``: step, training loss, validation loss and accuracy of each; ``early_stop``: the epoch of least
        validation loss, with test accuracy and loss there; ``spared``: layers that pruning was about to empty.
        """
        document: dict[str, Any] = json.loads((self.folder / LOG).read_bytes())
        return document

    def outcome(self, split: Split) -> Outcome:
        """What it made of a split at its end."""
        with np.load(self.folder / OUTCOME) as file:
            return Outcome(file[f"{split}_hits"], file[f"{split}_losses"])


def write_trained(
    folder: Path, weights: State, masks: Mapping[str, Tensor], log: Mapping[str, Any],
    outcomes: Mapping[Split, Outcome],
) -> None:  # fmt: skip
    """Write the files that `Trained` reads."""
    save_masks(folder / MASKS, masks)
    save_weights(folder / WEIGHTS, weights, masks)
    write_whole(folder / LOG, json.dumps(log, indent=1).encode())
    arrays: dict[str, Any] = {}
    for split, made in outcomes.items():
        arrays |= {f"{split}_hits": made.hits, f"{split}_losses": made.losses}
    np.savez(folder / OUTCOME, **arrays)


def save_weights(path: Path, weights: State, masks: Mapping[str, Tensor]) -> None:
    """Write a state; of a masked parameter only what survives."""
    kept = {name: value[masks[name]] if name in masks else value for name, value in weights.items()}
    write_whole(path, save({name: value.contiguous() for name, value in kept.items()}))


def load_weights(path: Path, masks: Mapping[str, Tensor]) -> State:
    """Read what `save_weights` wrote under the same masks."""
    state: State = load(path.read_bytes())
    for name, mask in masks.items():
        dense = torch.zeros(mask.shape, dtype=state[name].dtype)
        dense[mask] = state[name]
        state[name] = dense
    return state


def early_stop(epochs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first epoch of least validation loss (Frankle & Carbin 2019, section 2)."""
    return min(epochs, key=lambda epoch: float(epoch["validation_loss"]))
