"""Baselines: measured on the texts that a bundle brings, a little at a time, in the loader's quiet."""

import json
from collections.abc import Callable, Sequence
from threading import Event

import pytest
from prometheus_client import CollectorRegistry

from server.answers import Answers
from server.baseline import MAX_TEXTS, MIN_TEXTS, Baselines, baseline_texts
from server.labels import Names
from server.sessions import Sessions
from server.tally import Tally
from server.task import Columns
from server.text_classification import TextClassification
from server.worker_metrics import WorkerMetrics
from tests.server.conftest import MakeSessions
from tests.server.loads import load
from tests.tiny import tiny_manifest, tiny_onnx, tiny_tokenizer
from tickets.bundle import Bundle, pack, parse
from tickets.registry import Registry

EVIDENCE = {"texts": ["rain", "song", "tax"] * 40, "labels": ["weather", "music", None] * 40}
SAMPLES = {"texts": ["sun", "lamp"] * 30, "labels": ["weather", "lights"] * 30}


def bundle(**members: object) -> bytes:
    """A tiny ticket with these further members, as JSON."""
    further = {f"{name}.json": json.dumps(value).encode() for name, value in members.items()}
    return pack(tiny_manifest(), {"model.onnx": tiny_onnx(), "tokenizer.json": tiny_tokenizer(), **further})


class World:
    """Baselines of tickets that are held as long as the test says so, and a clock that goes a second a look."""

    def __init__(self, held: dict[str, bytes], task: Callable[[Bundle], TextClassification]) -> None:
        self.registry = CollectorRegistry()
        self.held = held
        self.seconds = 0.0
        self.answers = Answers(Tally(self.registry), Names(8))
        self.baselines = Baselines(self.answers, lambda ticket: self._find(ticket, task), self._clock)

    def rows(self, ticket: str, source: str) -> float | None:
        labels = {"ticket": ticket[:12], "source": source}
        return self.registry.get_sample_value("tombola_ticket_drift_baseline_rows", labels)

    def _find(
        self, ticket: str, task: Callable[[Bundle], TextClassification]
    ) -> tuple[Bundle, TextClassification] | None:
        data = self.held.get(ticket)
        return None if data is None else (parse(data), task(parse(data)))

    def _clock(self) -> float:
        self.seconds += 0.0075  # about two chunks a step
        return self.seconds


@pytest.fixture
def task(make_sessions: MakeSessions, registry: Registry) -> Callable[[Bundle], TextClassification]:
    """The task of any tiny ticket: they all answer alike."""
    sessions = make_sessions()
    ticket = registry.put(bundle())
    assert load(sessions, ticket) is None
    found = sessions.get(ticket)
    assert isinstance(found, TextClassification)
    return lambda _: found


def test_the_evidence_set_is_what_a_baseline_is_measured_on(task: Callable[[Bundle], TextClassification]) -> None:
    world = World({"a" * 64: bundle(evidence=EVIDENCE, samples=SAMPLES)}, task)
    world.baselines.add("a" * 64)
    steps = 1
    while world.baselines.step():
        steps += 1
    assert steps > 5  # a little at a time
    assert world.rows("a" * 64, "evidence") == 120
    assert world.baselines.next == ""


def test_samples_do_where_there_is_no_evidence_and_there_are_enough(
    task: Callable[[Bundle], TextClassification],
) -> None:
    few = {"texts": ["sun"] * (MIN_TEXTS - 1), "labels": ["weather"] * (MIN_TEXTS - 1)}
    world = World({"a" * 64: bundle(samples=SAMPLES), "b" * 64: bundle(samples=few)}, task)
    world.baselines.add("a" * 64)
    world.baselines.add("b" * 64)
    while world.baselines.step():
        pass
    assert world.rows("a" * 64, "samples") == 60
    assert world.rows("b" * 64, "samples") is None
    assert world.answers.wants_baseline("b" * 64)


def test_of_a_large_set_evenly_spaced_texts_are_taken() -> None:
    texts = [f"text {i}" for i in range(5 * MAX_TEXTS)]
    chosen, source = baseline_texts(parse(bundle(evidence={"texts": texts, "labels": [None] * len(texts)})))
    assert (source, list(chosen)) == ("evidence", texts[::5])


def test_members_that_do_not_read_are_no_reason_to_fail() -> None:
    assert baseline_texts(parse(bundle(evidence={"texts": 5}))) == ([], "")
    assert baseline_texts(parse(bundle(samples={"labels": []}))) == ([], "")


def test_a_ticket_that_has_gone_or_fails_holds_up_no_other(
    task: Callable[[Bundle], TextClassification], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World({name * 64: bundle(evidence=EVIDENCE) for name in "abc"}, task)
    for name in "abc":
        world.baselines.add(name * 64)
    del world.held["a" * 64]
    failed: list[bool] = []
    run = TextClassification.run

    def fail_once(self: TextClassification, rows: Sequence[str]) -> Columns:
        if not failed:
            failed.append(True)
            raise ValueError("the graph gave logits that are not finite")
        return run(self, rows)

    monkeypatch.setattr(TextClassification, "run", fail_once)
    while world.baselines.step():
        pass
    assert [world.rows(name * 64, "evidence") for name in "abc"] == [None, None, 120]


def test_a_ticket_whose_baseline_is_known_is_not_measured_again(task: Callable[[Bundle], TextClassification]) -> None:
    world = World({"a" * 64: bundle(evidence=EVIDENCE)}, task)
    for _ in range(2):
        world.baselines.add("a" * 64)
        assert world.baselines.next == ("a" * 64 if world.rows("a" * 64, "evidence") is None else "")
        while world.baselines.step():
            pass


def test_a_loaded_ticket_gets_its_baseline_in_the_loaders_quiet(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.loader.REST_AFTER_S", 0.01)
    collectors = CollectorRegistry()
    metrics = WorkerMetrics(collectors)
    began, done = metrics.answers.begin, Event()
    measured: list[str] = []

    def begin(ticket: str, *rest: object) -> None:
        began(ticket, *rest)  # type: ignore[arg-type]
        measured.append(ticket)
        done.set()

    monkeypatch.setattr(metrics.answers, "begin", begin)
    sessions = Sessions(registry, metrics, memory_bytes=1 << 30, providers=["CPUExecutionProvider"])
    ticket = registry.put(bundle(evidence=EVIDENCE))
    try:
        assert load(sessions, ticket) is None
        assert done.wait(30)
    finally:
        sessions.close()
    labels = {"ticket": ticket[:12], "source": "evidence"}
    assert collectors.get_sample_value("tombola_ticket_drift_baseline_rows", labels) == 120
    assert measured == [ticket]
