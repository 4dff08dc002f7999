"""The loop: steps of an optimizer over epochs, resumable to the bit, with pruned weights that stay exactly zero.

Knows neither texts nor pictures: a `Course` says what is learnt. Every epoch seeds itself from (seed, epoch), so a run
continued from the last epoch's checkpoint computes exactly what an uninterrupted one does (on CPU, same threads).
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tickets.factory.compute import Compute

Progress = Callable[[int, int, float], None]
"""Called after each step with (steps done, steps in all, loss)."""

Masks = Mapping[str, Tensor]
"""By parameter name, bool, of the parameter's shape: False is pruned. Parameters that are not named are dense."""

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Course:
    """What is learnt, in which order, how fast.

    ``batches(epoch)`` is a pure function; ``loss(model, index)`` moves its data to the model's device; ``scale(step,
    steps)`` is the learning rate as a share of the optimizer's. With ``first_step`` the course begins there: order and
    learning rate are those of an uninterrupted course from that step on (rewinding to step k).
    """

    epochs: int
    seed: int
    batches: Callable[[int], Sequence[Index]]
    loss: Callable[[nn.Module, Index], Tensor]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    scale: Callable[[int, int], float]
    clip: float | None = 1.0
    first_step: int = 0


@dataclass(frozen=True, slots=True)
class Watch:
    """How a course is watched, and where it is continued from.

    ``keep`` are steps after which the weights are written to ``<folder>/step-<k>.pt`` (0: before the first one).
    """

    folder: Path
    progress: Progress = lambda done, total, loss: None
    keep: frozenset[int] = frozenset()
    name: str = "checkpoint"

    @property
    def checkpoint(self) -> Path:
        """Written after every epoch, continued from when present."""
        return self.folder / f"{self.name}.pt"


@dataclass(slots=True)
class _State:
    epoch: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)


def run(model: nn.Module, course: Course, compute: Compute, watch: Watch, masks: Masks | None = None) -> list[Any]:
    """Train ``model`` in place (it ends on the CPU, in evaluation mode). Returns the log: one entry per epoch with its
    mean loss and the steps done. A fresh optimizer each time: its moments never outlive a rewind.
    """
    model.to(compute.device)
    held = {name: mask.to(compute.device) for name, mask in (masks or {}).items()}
    _hold(model, held)
    optimizer = course.optimizer(model)
    plan = [course.batches(epoch) for epoch in range(course.epochs)]
    total = sum(len(batches) for batches in plan)
    starts = np.cumsum([0, *(len(batches) for batches in plan)]).tolist()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: course.scale(step + course.first_step, total))
    state = _resume(watch.checkpoint, model, optimizer, schedule)
    if course.first_step == 0 and state.epoch == 0:
        _keep(model, 0, watch)
    for epoch in range(state.epoch, course.epochs):
        if starts[epoch + 1] <= course.first_step:
            continue
        torch.manual_seed(course.seed * 1_000_003 + epoch)
        model.train()
        losses = []
        for step, index in enumerate(plan[epoch], starts[epoch] + 1):
            if step <= course.first_step:
                continue
            losses.append(_step(model, course, compute, optimizer, index, held))
            schedule.step()
            _keep(model, step, watch)
            watch.progress(step - course.first_step, total - course.first_step, losses[-1])
        state.epoch = epoch + 1
        state.log.append({"epoch": epoch + 1, "step": starts[epoch + 1], "loss": round(float(np.mean(losses)), 6)})
        _save(watch.checkpoint, state, model, optimizer, schedule)
    model.to("cpu").eval()
    return state.log


def total_steps(course: Course) -> int:
    """How many steps the whole course has."""
    return sum(len(course.batches(epoch)) for epoch in range(course.epochs))


def _step(
    model: nn.Module, course: Course, compute: Compute, optimizer: torch.optim.Optimizer, index: Index, held: Masks
) -> float:
    with compute.autocast():
        loss = course.loss(model, index)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = dict(model.named_parameters()) if held else {}
    for name, mask in held.items():
        gradient = parameters[name].grad
        if gradient is not None:
            gradient.mul_(mask)
    if course.clip is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), course.clip)
    optimizer.step()
    _hold(model, held)
    return loss.item()


def _hold(model: nn.Module, held: Masks) -> None:
    """Pruned weights are exactly zero: no momentum, decay or rounding brings them back."""
    if not held:
        return
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, mask in held.items():
            parameters[name].masked_fill_(~mask, 0.0)


def _keep(model: nn.Module, step: int, watch: Watch) -> None:
    if step in watch.keep:
        _write({name: value.cpu() for name, value in model.state_dict().items()}, watch.folder / f"step-{step}.pt")


def _save(
    path: Path,
    state: _State,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    _write(
        {
            "epoch": state.epoch, "log": state.log, "model": model.state_dict(),
            "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
        },
        path,
    )  # fmt: skip


def _write(value: Any, path: Path) -> None:  # noqa: ANN401 - whatever torch can save
    # By way of memory: torch hides what the file system said (a full disk) behind an error of its own.
    buffer = io.BytesIO()
    torch.save(value, buffer)
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(buffer.getbuffer())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _resume(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> _State:
    saved = _read(path)
    if saved is None:
        return _State()
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(saved["schedule"])
    return _State(int(saved["epoch"]), list(saved["log"]))


def _read(path: Path) -> Any:  # noqa: ANN401 - what `_save` wrote
    """None where there is no checkpoint, or one that a power cut left unfinished: training then begins anew."""
    if not path.is_file():
        return None
    try:
        return torch.load(path, weights_only=True)
    except (EOFError, RuntimeError, UnpicklingError):
        return None
