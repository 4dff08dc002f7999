"""Digits: the small networks of the original paper, on the images that travel with scikit-learn.

An MLP like LeNet-300-100 and a ConvNet like Conv-2 (Frankle & Carbin 2019, "The Lottery Ticket Hypothesis", figure 2),
made smaller as the images are: 8 x 8 grey pixels, ten classes (the test set of Alpaydin & Kaynak 1998, "Optical
Recognition of Handwritten Digits", 1,797 images).
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from tickets.factory.compute import Compute
from tickets.factory.loop import Course
from tickets.factory.lottery.networks import Outcome, Split, outcome
from tickets.factory.runs import described

SPLIT_SEED = 0
TRAIN, VALIDATION = 997, 300
"""Images of each; the other 500 are the test split."""


@dataclass(frozen=True, slots=True)
class Images:
    """Pixels [images, 1, 8, 8] in 0..1 and classes [images] of each split."""

    splits: Mapping[str, tuple[NDArray[np.float32], NDArray[np.int64]]]

    def digest(self) -> str:
        """sha256 over all splits."""
        digest = hashlib.sha256()
        for name, (pixels, targets) in sorted(self.splits.items()):
            digest.update(name.encode() + pixels.tobytes() + targets.tobytes())
        return digest.hexdigest()


def load_images() -> Images:
    """The digits in a split that is always the same, whatever a run's seed: hits of different seeds are paired."""
    digits = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits.target))
    parts = zip(("train", "validation", "test"), np.split(order, [TRAIN, TRAIN + VALIDATION]), strict=True)
    pixels = (digits.images[:, None] / 16).astype(np.float32)
    return Images({name: (pixels[index], digits.target[index].astype(np.int64)) for name, index in parts})


@dataclass(frozen=True, slots=True)
class DigitsRecipe:
    """Adam at a constant rate as in the paper, then at a tenth of it for the last ``cooled`` of the steps."""

    epochs: int
    learning_rate: float
    batch: int = 60
    cooled: float = 0.25

    def scale(self, step: int, total: int) -> float:
        """The learning rate at a step, as a share of the first."""
        return 0.1 if step >= (1 - self.cooled) * total else 1.0


@dataclass(frozen=True, slots=True)
class DigitsNetwork:
    """A small network on the digits."""

    name: str
    recipe: DigitsRecipe
    make: Callable[[], nn.Module]
    images: Images = field(default_factory=load_images)
    data: str = "digits"

    def described(self) -> dict[str, Any]:
        """Shapes, recipe and data."""
        shapes = {name: list(value.shape) for name, value in self.make().state_dict().items()}
        return {
            "network": self.name, "shapes": shapes, "recipe": described(self.recipe), "data": self.images.digest(),
        }  # fmt: skip

    def build(self, seed: int) -> nn.Module:
        """Weights from Glorot's normal distribution (2010), as in the paper; biases zero."""
        torch.manual_seed(seed)
        model = self.make()
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_normal_(parameter)
            else:
                nn.init.zeros_(parameter)
        return model

    def reinit(self, seed: int) -> nn.Module:
        """As `build`: everything here starts at random."""
        return self.build(seed)

    def prunable(self) -> tuple[str, ...]:
        """All weights; no biases."""
        return tuple(name for name, _ in self.make().named_parameters() if name.endswith("weight"))

    def course(self, seed: int) -> Course:
        """Cross-entropy on the training images, in an order of the seed's own."""
        pixels, targets = self.images.splits["train"]
        return Course(
            epochs=self.recipe.epochs,
            seed=seed,
            batches=lambda epoch: _batches(len(targets), self.recipe.batch, seed, epoch),
            loss=lambda model, index: _loss(model, pixels[index], targets[index]),
            optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=self.recipe.learning_rate, fused=True),
            scale=self.recipe.scale,
            clip=None,
        )

    def examine(self, model: nn.Module, split: Split, compute: Compute) -> Outcome:
        """The whole split at once."""
        pixels, targets = self.images.splits[split]
        model.to(compute.device).eval()
        with torch.inference_mode(), compute.autocast():
            logits = model(torch.from_numpy(pixels).to(compute.device)).cpu()
        model.to("cpu")
        return outcome(logits, targets)


def mlp() -> nn.Module:
    """64-300-100-10: LeNet-300-100 on 8 x 8 pixels."""
    return nn.Sequential(OrderedDict(
        flat=nn.Flatten(), fc1=nn.Linear(64, 300), act1=nn.ReLU(), fc2=nn.Linear(300, 100), act2=nn.ReLU(),
        fc3=nn.Linear(100, 10),
    ))  # fmt: skip


def convnet() -> nn.Module:
    """Conv-2 on 8 x 8 pixels: two convolutions, one pooling, two hidden layers, at a quarter of the widths."""
    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(1, 16, 3, padding=1), act1=nn.ReLU(), conv2=nn.Conv2d(16, 16, 3, padding=1), act2=nn.ReLU(),
        pool=nn.MaxPool2d(2), flat=nn.Flatten(), fc1=nn.Linear(256, 64), act3=nn.ReLU(), fc2=nn.Linear(64, 64),
        act4=nn.ReLU(), fc3=nn.Linear(64, 10),
    ))  # fmt: skip


NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], DigitsRecipe]] = MappingProxyType({
    "mlp": (mlp, DigitsRecipe(epochs=30, learning_rate=1.2e-3)),
    "convnet": (convnet, DigitsRecipe(epochs=20, learning_rate=3e-3)),
})  # fmt: skip
"""By name: the architecture and its recipe."""


def _batches(count: int, batch: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return [order[i : i + batch] for i in range(0, count, batch)]


def _loss(model: nn.Module, pixels: NDArray[np.float32], targets: NDArray[np.int64]) -> Tensor:
    device = next(model.parameters()).device
    logits = model(torch.from_numpy(pixels).to(device))
    return functional.cross_entropy(logits.float(), torch.from_numpy(targets).to(device))
