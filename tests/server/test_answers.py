"""What tickets answer: counted by ticket, off the run thread, and held against what they answered when new."""

import threading

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from server.answers import MAX_PENDING, Answers
from server.drift import ACT, BASELINE_ROWS, WATCH, see
from server.labels import Names
from server.tally import Tally
from server.task import CHOICE, CONFIDENCE, IN_SCOPE, BytesColumn, Columns, FixedColumn

TICKET, OTHER = "ab" * 32, "cd" * 32


def columns(confidence: list[float], in_scope: list[bool], labels: list[int]) -> Columns:
    """What a text-classification task gives, as far as is looked at here."""
    return Columns({
        CONFIDENCE: _column("FP32", np.array(confidence, np.float32)),
        IN_SCOPE: _column("BOOL", np.array(in_scope, np.bool_)),
        CHOICE: _column("INT32", np.array(labels, np.int32)),
    })  # fmt: skip


def _column(datatype: str, array: np.ndarray) -> FixedColumn:
    return FixedColumn(datatype=datatype, row_shape=[], row_bytes=array.itemsize, data=array.tobytes())


class World:
    """Answers on a registry of their own."""

    def __init__(self, tickets: int = 8) -> None:
        self.registry = CollectorRegistry()
        self.answers = Answers(Tally(self.registry), Names(tickets))

    def value(self, name: str, ticket: str = TICKET[:12], **labels: str) -> float | None:
        return self.registry.get_sample_value(f"tombola_ticket_{name}", {"ticket": ticket, **labels})

    def answer(self, rows: int, confidence: float, *, ticket: str = TICKET, in_scope: bool = True) -> None:
        self.answers.note(ticket, columns([confidence] * rows, [in_scope] * rows, [1] * rows))
        self.answers.count()


@pytest.fixture
def world() -> World:
    return World()


def test_rows_are_counted_by_scope_and_by_how_sure_the_ticket_was(world: World) -> None:
    world.answers.note(TICKET, columns([0.95, 0.25], [True, False], [0, 1]))
    world.answers.note(TICKET, columns([1.0], [True], [2]))
    assert world.value("rows_total", scope="in") is None  # nothing before somebody counts
    world.answers.count()
    assert world.value("rows_total", scope="in") == 2
    assert world.value("rows_total", scope="out") == 1
    assert world.value("confidence_bucket", le="0.3") == 1
    assert world.value("confidence_bucket", le="0.9") == 1
    assert world.value("confidence_bucket", le="1.0") == 3
    assert world.value("confidence_count") == 3
    assert world.value("confidence_sum") == pytest.approx(2.2)


def test_a_task_that_is_not_sure_of_anything_counts_for_nothing(world: World) -> None:
    world.answers.note(TICKET, Columns({"y": BytesColumn(elements=[b""])}))
    world.answers.count()
    assert world.value("confidence_count") is None


def test_drift_is_shown_against_the_first_answers_and_says_so(world: World) -> None:
    world.answer(BASELINE_ROWS, 0.95)
    assert world.value("drift_baseline_rows", source="first_answers") == BASELINE_ROWS
    assert world.value("drift", kind="confidence") is None
    world.answer(1000, 0.95)
    assert {kind: world.value("drift", kind=kind) for kind in ("confidence", "class", "scope")} == {
        "confidence": 0, "class": 0, "scope": 0,
    }  # fmt: skip
    world.answer(2000, 0.35, in_scope=False)
    assert (world.value("drift", kind="confidence") or 0) > ACT
    assert (world.value("drift", kind="scope") or 0) > ACT


def test_a_measured_baseline_takes_the_place_of_the_first_answers_and_no_others(world: World) -> None:
    baseline = see(np.full(100, 0.35, np.float32), np.ones(100, np.bool_), np.ones(100, np.int32))
    world.answer(BASELINE_ROWS, 0.95)
    assert world.answers.wants_baseline(TICKET)
    world.answers.begin(TICKET, baseline, "evidence")
    assert not world.answers.wants_baseline(TICKET)
    world.answers.begin(TICKET, see(*(array[:50] for array in _arrays(baseline.rows))), "samples")
    assert world.value("drift_baseline_rows", source="evidence") == 100
    assert world.value("drift_baseline_rows", source="first_answers") is None
    world.answer(1000, 0.35)
    assert (world.value("drift", kind="confidence") or 0) < WATCH


def _arrays(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.full(rows, 0.9, np.float32), np.ones(rows, np.bool_), np.ones(rows, np.int32)


def test_tickets_beyond_the_bound_are_counted_together_and_have_no_drift() -> None:
    world = World(tickets=1)
    world.answer(10, 0.9)
    for digit in "cdef":
        world.answer(3000, 0.9, ticket=digit * 64)
    assert world.value("rows_total", "other", scope="in") == 12_000
    assert world.value("drift_baseline_rows", "other", source="first_answers") is None
    assert not world.answers.wants_baseline("c" * 64)


def test_nothing_is_lost_between_the_threads(world: World) -> None:
    one = columns([0.9], [True], [0])

    def run() -> None:
        for _ in range(MAX_PENDING // 2):
            world.answers.note(TICKET, one)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        world.answers.count()
    thread.join()
    world.answers.count()
    assert world.value("rows_total", scope="in") == MAX_PENDING // 2


def test_what_waits_to_be_counted_is_bounded(world: World) -> None:
    for _ in range(MAX_PENDING + 10):
        world.answers.note(TICKET, columns([0.9], [True], [0]))
    world.answers.count()
    assert world.value("rows_total", scope="in") == MAX_PENDING
