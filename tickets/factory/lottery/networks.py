"""Networks: what the lottery is played with. One `Network` is an architecture on its data with its recipe.

Owns the interface and what is common to all; the networks are in `tickets.factory.lottery.digits` (an MLP and a
ConvNet) and `tickets.factory.lottery.texts` (the transformer backbone).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tickets.factory.compute import Compute
from tickets.factory.loop import Course, total_steps
from tickets.factory.lottery.step import Step

Split = Literal["validation", "test"]
SPLITS: tuple[Split, ...] = ("validation", "test")
State = dict[str, Tensor]
"""A model's state: values by name, on the CPU."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model makes of a split: whether each example is right [examples] bool, and its loss [examples]."""

    hits: NDArray[np.bool_]
    losses: NDArray[np.float32]

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return float(self.hits.mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return float(self.losses.mean(dtype=np.float64))


class Network(Protocol):
    """An architecture, its data and its recipe. All methods are pure: the same seed gives the same."""

    @property
    def name(self) -> str:
        """What kind of network it is."""

    @property
    def data(self) -> str:
        """What it learns from, in a word."""

    def described(self) -> dict[str, Any]:
        """Everything a result depends on besides seed and compute; JSON."""

    def build(self, seed: int) -> nn.Module:
        """The network as it starts."""

    def reinit(self, seed: int) -> nn.Module:
        """The same network with new initial values of everything that can be pruned, and of all the rest."""

    def prunable(self) -> tuple[str, ...]:
        """The parameters that masks are of."""

    def course(self, seed: int) -> Course:
        """What it learns, in which order."""

    def examine(self, model: nn.Module, split: Split, compute: Compute) -> Outcome:
        """What a model of this network makes of a split."""


def outcome(logits: Tensor, targets: NDArray[np.int64]) -> Outcome:
    """Logits [examples, classes] against targets [examples]."""
    wanted = torch.from_numpy(targets)
    losses = functional.cross_entropy(logits.float(), wanted, reduction="none")
    return Outcome((logits.argmax(dim=1) == wanted).numpy(), losses.numpy().astype(np.float32))


def steps_per_epoch(course: Course) -> int:
    """How many steps an epoch of the course has."""
    return len(course.batches(0))


def rewind_step(course: Course, step: Step) -> int:
    """The step to rewind to. Raises ValueError where the course is over by then."""
    at, total = step.resolve(steps_per_epoch(course)), total_steps(course)
    if at >= total:
        raise ValueError(
            f"cannot rewind to {step}, which is step {at}: training has {total} steps; choose an earlier one"
        )
    return at


def until(course: Course, step: int) -> Course:
    """The course's first ``step`` steps: the same batches at the same learning rates as in the whole."""
    total, per_epoch = total_steps(course), [len(course.batches(epoch)) for epoch in range(course.epochs)]
    starts = np.cumsum([0, *per_epoch]).tolist()
    return replace(
        course,
        epochs=sum(start < step for start in starts[:-1]),
        batches=lambda epoch: course.batches(epoch)[: step - starts[epoch]],
        scale=lambda at, _: course.scale(at, total),
    )


def beginning_at(course: Course, step: int, *, is_flat: bool = False) -> Course:
    """The course from ``step`` on; flat: at the learning rate of its last step throughout."""
    last: Callable[[int, int], float] = lambda _, total: course.scale(total - 1, total)  # noqa: E731
    return replace(course, first_step=step, scale=last if is_flat else course.scale)


def epoch_ends(course: Course) -> list[int]:
    """The steps that end an epoch, from the course's first step on."""
    ends = np.cumsum([len(course.batches(epoch)) for epoch in range(course.epochs)]).tolist()
    return [end for end in ends if end > course.first_step]
