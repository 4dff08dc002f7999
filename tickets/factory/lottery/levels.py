"""Levels: train, prune, rewind, again and again; and beside every ticket its controls.

Iterative magnitude pruning (Frankle & Carbin 2019, "The Lottery Ticket Hypothesis", section 2, strategy 1) with
rewinding to step k (Frankle et al. 2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis", section 3.1).
After pruning a level goes on, by Renda et al. 2020, "Comparing Rewinding and Fine-tuning in Neural Network Pruning",
section 2: ``weight``, from the weights and the schedule of step k; ``learning-rate``, from the end weights, on the
schedule from step k; ``finetune``, from the end weights, for as many steps, at the schedule's last learning rate.

Every training is a stage of `tickets.factory.runs`: named by all it depends on, continued when interrupted. Neither the
number of levels nor other branches are part of a name, so that a longer run begins with what a shorter one found. All
trainings of a seed see the same batches; the dense network of level 0 is common to all methods, scopes and k.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tickets.factory.compute import Compute
from tickets.factory.loop import Progress, Watch, run, total_steps
from tickets.factory.lottery.branches import CONTROLS, Given, Start
from tickets.factory.lottery.masks import full
from tickets.factory.lottery.networks import SPLITS, Network, State, beginning_at, epoch_ends, rewind_step, until
from tickets.factory.lottery.prune import Scope, prune
from tickets.factory.lottery.step import Step
from tickets.factory.lottery.trained import WEIGHTS, Trained, early_stop, load_weights, save_weights, write_trained
from tickets.factory.runs import Runs, Stage

Method = Literal["weight", "learning-rate", "finetune"]
TICKET = "ticket"
START = Step()


@dataclass(frozen=True, slots=True)
class LotteryPlan:
    """How the lottery is played: ``levels`` rounds after the dense one, each pruning ``fraction`` of what remains."""

    levels: int
    fraction: float
    seeds: tuple[int, ...]
    scope: Scope = "global"
    rewind: Step = START
    method: Method = "weight"
    controls: tuple[str, ...] = tuple(CONTROLS)

    def __post_init__(self) -> None:
        unknown = [name for name in self.controls if name not in CONTROLS]
        if unknown:
            raise ValueError(f"no control {unknown[0]!r}; there are: {', '.join(CONTROLS)}")
        if self.levels < 1 or not 0 < self.fraction < 1:
            raise ValueError("a lottery needs at least one level, and a fraction between 0 and 1 to prune at each")


Level = Mapping[str, Stage]
"""The stages of one level and seed, by branch; level 0 has the dense network alone, as the ticket."""


class Lottery:
    """Plays the lottery with one network, stage by stage. ``progress`` counts the steps of all trainings together."""

    def __init__(
        self, network: Network, plan: LotteryPlan, compute: Compute, runs: Runs,
        progress: Progress = lambda done, total, loss: None,
    ) -> None:  # fmt: skip
        self._network, self._plan, self._compute, self._runs = network, plan, compute, runs
        course = network.course(0)
        self._rewind_step, self._steps = rewind_step(course, plan.rewind), total_steps(course)
        self._meter = _Meter(progress, len(plan.seeds) * self._steps_of_a_seed())

    def play(self, seed: int) -> list[Level]:
        """All levels of one seed, the dense one first. Raises ValueError where training diverges."""
        return list(self._levels(seed))

    def _levels(self, seed: int) -> Iterator[Level]:
        level: Level = {TICKET: self._dense(seed)}
        yield level
        for number in range(1, self._plan.levels + 1):
            ticket = self._ticket(seed, number, level[TICKET])
            controls = {
                name: self._control(name, seed, number, level.get(name, level[TICKET]), level[TICKET], ticket)
                for name in self._plan.controls
            }
            level = {TICKET: ticket, **controls}
            yield level

    def _dense(self, seed: int) -> Stage:
        def start() -> tuple[Start, dict[str, Any]]:
            weights = dict(self._network.build(seed).state_dict())
            return Start(weights, full({name: weights[name] for name in self._network.prunable()})), {}

        return self._trained("lottery-dense", seed, {}, start, self._steps)

    def _ticket(self, seed: int, level: int, parent: Stage) -> Stage:
        plan = self._plan

        def start() -> tuple[Start, dict[str, Any]]:
            before = Trained(parent.path)
            pruned = prune(before.weights(), before.masks(), plan.fraction, plan.scope)
            return self._start(seed, parent, pruned.masks), {"spared": list(pruned.spared)}

        inputs = {
            "level": level, "parent": parent.key, "fraction": plan.fraction, "scope": plan.scope,
            "method": plan.method, "step": self._rewind_step,
        }  # fmt: skip
        return self._trained("lottery-ticket", seed, inputs, start, self._steps - self._rewind_step)

    def _control(self, name: str, seed: int, level: int, own: Stage, parent: Stage, ticket: Stage) -> Stage:
        """``own``: this control's level before; ``parent``: the ticket's."""

        def start() -> tuple[Start, dict[str, Any]]:
            given = Given(
                network=self._network,
                ticket=self._start(seed, parent, Trained(ticket.path).masks()),
                own_masks=Trained(own.path).masks(),
                own_weights=self._weights(seed, own),
                random=np.random.default_rng((seed, level, *name.encode())),
            )
            return CONTROLS[name](given), {}

        inputs = {"level": level, "ticket": ticket.key, "own": own.key}
        steps = self._steps - (self._rewind_step if name != "reinit" else 0)
        return self._trained(f"lottery-{name}", seed, inputs, start, steps)

    def _start(self, seed: int, parent: Stage, masks: Mapping[str, torch.Tensor]) -> Start:
        is_flat = self._plan.method == "finetune"
        return Start(self._weights(seed, parent), masks, self._rewind_step, is_flat)

    def _weights(self, seed: int, parent: Stage) -> State:
        """What a level starts from: the rewind point, or where the method does not rewind weights its parent's end."""
        if self._plan.method != "weight":
            return Trained(parent.path).weights()
        if self._rewind_step == 0:
            return dict(self._network.build(seed).state_dict())
        return load_weights(self._rewound(seed).path / WEIGHTS, {})

    def _rewound(self, seed: int) -> Stage:
        """The rewind checkpoint: the weights of an uninterrupted training at step k."""

        def build(folder: Path) -> None:
            model = self._network.build(seed)
            course = until(self._network.course(seed), self._rewind_step)
            run(model, course, self._compute, Watch(folder))
            save_weights(folder / WEIGHTS, dict(model.state_dict()), {})

        return self._runs.stage("lottery-rewind", self._base(seed) | {"step": self._rewind_step}, build)

    def _trained(
        self,
        name: str,
        seed: int,
        inputs: dict[str, Any],
        start: Callable[[], tuple[Start, dict[str, Any]]],
        steps: int,
    ) -> Stage:
        def build(folder: Path) -> None:
            begun, notes = start()
            self._train(folder, seed, begun, notes)

        stage = self._runs.stage(name, self._base(seed) | inputs, build)
        self._meter.add(steps)
        return stage

    def _train(self, folder: Path, seed: int, start: Start, notes: dict[str, Any]) -> None:
        network, compute = self._network, self._compute
        course = beginning_at(network.course(seed), start.first_step, is_flat=start.is_flat)
        model = network.build(seed)
        model.load_state_dict(start.weights)
        watch = Watch(folder, self._meter.step, keep=frozenset(epoch_ends(course)))
        epochs = run(model, course, compute, watch, start.masks)
        for epoch in epochs:
            _load(model, watch, epoch["step"])
            made = network.examine(model, "validation", compute)
            epoch |= {"validation_loss": round(made.loss, 6), "validation_accuracy": round(made.accuracy, 6)}
        best = early_stop(epochs)
        _load(model, watch, best["step"])
        there = network.examine(model, "test", compute)
        stop = {"step": best["step"], "test_accuracy": round(there.accuracy, 6), "test_loss": round(there.loss, 6)}
        _load(model, watch, epochs[-1]["step"])
        outcomes = {split: network.examine(model, split, compute) for split in SPLITS}
        log = {"first_step": start.first_step, "epochs": epochs, "early_stop": stop} | notes
        write_trained(folder, dict(model.state_dict()), start.masks, log, outcomes)
        # The checkpoint goes first: without it an interrupted stage begins again, with the epochs' weights anew.
        watch.checkpoint.unlink()
        for path in folder.glob("step-*"):
            path.unlink()

    def _base(self, seed: int) -> dict[str, Any]:
        described = json.loads(json.dumps(self._network.described()))
        return {"network": described, "seed": seed, **self._compute.described()}

    def _steps_of_a_seed(self) -> int:
        shortened = self._steps - self._rewind_step
        per_level = shortened + sum(self._steps if name == "reinit" else shortened for name in self._plan.controls)
        return self._steps + self._plan.levels * per_level


class _Meter:
    """Adds up the steps of one training after another."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._before, self._loss = 0, 0.0

    def step(self, done: int, total: int, loss: float) -> None:
        """One more step of the training that goes on."""
        self._loss = loss
        self._progress(self._before + done, self._total, loss)

    def add(self, steps: int) -> None:
        """A training is done, or was done before."""
        self._before += steps
        self._progress(self._before, self._total, self._loss)


def _load(model: torch.nn.Module, watch: Watch, step: int) -> None:
    model.load_state_dict(torch.load(watch.folder / f"step-{step}.pt", weights_only=True))
