"""Baselines: what a ticket answers on the texts that its bundle brings, to hold its later answers against.

Owns which texts (the evidence set; else the samples, where there are enough) and that running them never holds up
anybody for long: they run a few at a time, in the loader thread's quiet, which gives way to running tickets. What
follows from a baseline is `server.drift`'s; a ticket without such texts is compared with its first answers.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import msgspec
import structlog

from server.answers import Answers, seen_in
from server.drift import NOTHING, Seen
from server.task import CHOICE, CONFIDENCE, IN_SCOPE, Columns, FixedColumn, Task
from tickets.bundle import Bundle, BundleError
from tickets.evidence import read_evidence

MAX_TEXTS = 1000
"""Of a larger evidence set, so many are taken, evenly spaced: such sets are often sorted by label."""
MIN_TEXTS = 50
CHUNK_TEXTS = 4
STEP_S = 0.02
"""What one `step` may take, but for its last chunk."""

log = structlog.get_logger()


class _Samples(msgspec.Struct, frozen=True):
    """As much of the member ``samples.json`` as is needed here."""

    texts: list[str]


class Baselines:
    """Measures the baselines of tickets that have come into memory, one after another. On the loader thread."""

    def __init__(
        self, answers: Answers, find: Callable[[str], tuple[Bundle, Task] | None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        """``find``: a ticket's bundle and its task, while it is in memory."""
        self._answers = answers
        self._find = find
        self._clock = clock
        self._waiting: deque[str] = deque()
        self._running: Iterator[None] | None = None

    def add(self, ticket: str) -> None:
        """A ticket has come into memory."""
        if ticket not in self._waiting and self._answers.wants_baseline(ticket):
            self._waiting.append(ticket)

    @property
    def next(self) -> str:
        """The ticket whose texts `step` would run; empty where there is none."""
        return self._waiting[0] if self._waiting else ""

    def step(self) -> bool:
        """Go on for `STEP_S`; whether there is more to do."""
        ends = self._clock() + STEP_S
        while self._waiting and self._clock() < ends:
            if self._running is None:
                self._running = self._measure(self._waiting[0])
            try:
                next(self._running)
            except StopIteration:
                self._waiting.popleft()
                self._running = None
            except Exception as error:  # a ticket that fails on its own texts has its first answers for a baseline
                log.warning("baseline_failed", ticket=self._waiting.popleft(), reason=str(error)[:500])
                self._running = None
        return bool(self._waiting)

    def _measure(self, ticket: str) -> Iterator[None]:
        found = self._find(ticket)
        texts, source = baseline_texts(found[0]) if found is not None else ([], "")
        if not texts or found is None or not self._answers.wants_baseline(ticket):
            return
        task, seen = found[1], NOTHING
        del found
        for at in range(0, len(texts), CHUNK_TEXTS):
            columns = task.run(texts[at : at + CHUNK_TEXTS])
            seen = seen.plus(_seen(columns))
            yield
        self._answers.begin(ticket, seen, source)
        log.info("baseline_measured", ticket=ticket, source=source, rows=seen.rows)


def baseline_texts(bundle: Bundle) -> tuple[Sequence[str], str]:
    """The texts that a bundle brings, and where they stand: ``evidence`` or ``samples``; none and "" where too few."""
    if bundle.manifest.task != "text-classification":
        return [], ""
    try:
        evidence = read_evidence(bundle)
        if evidence is not None and len(evidence.texts) >= MIN_TEXTS:
            every = max(1, len(evidence.texts) / MAX_TEXTS)
            return [evidence.texts[int(i * every)] for i in range(min(MAX_TEXTS, len(evidence.texts)))], "evidence"
        if "samples.json" in bundle.members:
            texts = msgspec.json.decode(bytes(bundle.members["samples.json"]), type=_Samples).texts
            return (texts, "samples") if len(texts) >= MIN_TEXTS else ([], "")
    except (BundleError, msgspec.DecodeError) as error:
        log.warning("baseline_unreadable", reason=str(error)[:500])
    return [], ""


def _seen(columns: Columns) -> Seen:
    confidence, in_scope, choice = columns[CONFIDENCE], columns[IN_SCOPE], columns[CHOICE]
    assert isinstance(confidence, FixedColumn)
    assert isinstance(in_scope, FixedColumn)
    assert isinstance(choice, FixedColumn)
    return seen_in(confidence.data, in_scope.data, choice.data)
