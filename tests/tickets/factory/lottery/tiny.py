"""What the lottery's tests play with: a small network on the digits, one that is watched, and one on texts."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tickets.factory.backbone import Backbone
from tickets.factory.compute import Compute
from tickets.factory.data import build
from tickets.factory.formats import load_rows
from tickets.factory.loop import Course
from tickets.factory.lottery.digits import DigitsNetwork, DigitsRecipe
from tickets.factory.lottery.networks import Network, Outcome, Split, State
from tickets.factory.lottery.texts import TextsNetwork, TextsRecipe

EPOCHS, STEPS_PER_EPOCH = 3, 5
STEPS = EPOCHS * STEPS_PER_EPOCH

OptimizerOf = Callable[[nn.Module], torch.optim.Optimizer]


def small_mlp() -> nn.Module:
    """64-12-10, with dropout, so that what is drawn while training counts too."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Dropout(0.1), nn.Linear(12, 10))


def digits_network(**changes: Any) -> DigitsNetwork:
    """Three epochs of five steps."""
    recipe = replace(DigitsRecipe(epochs=EPOCHS, learning_rate=5e-3, batch=200), **changes)
    return DigitsNetwork("small", recipe, small_mlp)


def texts_network(backbone: Backbone, data_file: Path) -> TextsNetwork:
    """The tiny backbone on its three labels, for two epochs."""
    domain = build(load_rows(data_file, None, None), "house", 0)
    return TextsNetwork(domain, backbone, TextsRecipe(epochs=2, learning_rate=1e-3), vocabulary=215, max_tokens=16)


@dataclass(slots=True)
class Seen:
    """One training as its network saw it: before every step the weights and the learning rate; how much its optimizer
    knew at the beginning.
    """

    memories: int
    states: list[State] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


class Watched:
    """A network that remembers every step of every training, in order; with an optimizer of one's own."""

    def __init__(self, inner: Network, optimizer: OptimizerOf | None = None) -> None:
        self.inner, self.trainings = inner, list[Seen]()
        self.name, self.data = inner.name, inner.data
        self.build, self.reinit, self.prunable = inner.build, inner.reinit, inner.prunable
        self._optimizer = optimizer

    def described(self) -> dict[str, Any]:
        return self.inner.described()

    def examine(self, model: nn.Module, split: Split, compute: Compute) -> Outcome:
        return self.inner.examine(model, split, compute)

    def course(self, seed: int) -> Course:
        course = self.inner.course(seed)

        def watched(model: nn.Module) -> torch.optim.Optimizer:
            optimizer = (self._optimizer or course.optimizer)(model)
            seen = Seen(len(optimizer.state))
            self.trainings.append(seen)

            def look(module: nn.Module, _: Any) -> None:
                if module.training:
                    seen.states.append({name: value.clone() for name, value in module.state_dict().items()})
                    seen.rates.append(optimizer.param_groups[0]["lr"])

            model.register_forward_pre_hook(look)
            return optimizer

        return replace(course, optimizer=watched)
