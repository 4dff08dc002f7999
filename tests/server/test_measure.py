"""Measuring a ticket: the shapes, the least of the repeats, and an end to slow ones."""

from collections.abc import Sequence
from typing import Any

import pytest

from routing.cost import Cost
from server.measure import QUICK_S, SHAPES, measure


class Machine:
    """A task that takes what ``cost`` says on a clock of its own; every other run is disturbed."""

    def __init__(self, cost: Cost, max_size: int = 64) -> None:
        self.cost, self.max_size = cost, max_size
        self.now = 0.0
        self.runs: list[tuple[int, int]] = []

    def __call__(self) -> float:
        return self.now

    def sample_rows(self, rows: int, size: int) -> list[Any]:
        return [size] * rows

    def run(self, rows: Sequence[Any]) -> dict[str, Any]:
        self.runs.append((len(rows), rows[0]))
        disturbed = 1.7 if len(self.runs) % 2 else 1.0
        self.now += self.cost.of(len(rows), rows[0]) / 1000 * disturbed
        return {}


def measured(machine: Machine) -> Cost:
    return measure(machine, clock=machine)  # type: ignore[arg-type]


@pytest.mark.parametrize("cost", [Cost(0.1, 0.02, 0.004), Cost(0.05, 0.0, 0.001), Cost(0.0, 0.1, 0.0)])
def test_the_line_is_found_in_spite_of_disturbances(cost: Cost) -> None:
    found = measured(Machine(cost))
    for rows, size in ((1, 8), (4, 20), (32, 16)):
        assert found.of(rows, size) == pytest.approx(cost.of(rows, size), rel=0.01)


def test_a_slow_ticket_is_run_once_per_shape_and_not_for_ever() -> None:
    machine = Machine(Cost(50.0, 20.0, 1.0))
    found = measured(machine)
    assert machine.runs == list(SHAPES[:2])
    assert found.of(1, 8) == pytest.approx(1.7 * machine.cost.of(1, 8), rel=0.5)


def test_sizes_stay_within_what_the_task_keeps() -> None:
    machine = Machine(Cost(0.1, 0.0, 0.01), max_size=12)
    assert measured(machine).of(16, 12) == pytest.approx(machine.cost.of(16, 12), rel=0.01)
    assert max(size for _, size in machine.runs) == 12


def test_a_quick_ticket_is_measured_in_a_blink() -> None:
    machine = Machine(Cost(0.1, 0.01, 0.004))
    measured(machine)
    assert machine.now < 2 * QUICK_S
