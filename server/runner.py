"""The run thread: takes batches from the scheduler, runs them, and hands back what became of each job.

Owns the lock around the scheduler and the one thread that runs graphs. Each job submitted comes
back exactly once: an Answer or a Failure, or True from `cancel`. A batch that fails is run
again one job at a time, so that only the culprit fails. Connections and loading are left to
`server.worker`.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import structlog

from routing.cost import Cost
from server.batch import Batch, Entry, Slice
from server.job import Job
from server.profile import Correction, Profiles
from server.quarantine import Marker
from server.scheduler import Scheduler
from server.task import CONFIDENCE, Columns, Task, joined, tensors
from server.wire import Answer, Failure, Load
from server.worker_metrics import WorkerMetrics

log = structlog.get_logger()

PROBE_ROWS, PROBE_SIZE = 1, 8

Outcome = tuple[Job, Answer | Failure]
_Ran = tuple[Slice, Columns, int]  # a slice, the columns of what it ran in, its first row there


class Runner:
    """Runs jobs in batches. ``deliver`` is called on the run thread with what came of one batch."""

    def __init__(
        self,
        metrics: WorkerMetrics,
        deliver: Callable[[list[Outcome]], None],
        *,
        batch_tokens: int,
        queue_texts: int,
        marker: Marker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``marker`` is told what runs, for whoever has to find out what crashed this process."""
        self._metrics = metrics
        self._deliver = deliver
        self._marker = marker or Marker(None)
        self._clock = clock
        self._profiles = Profiles()
        self._scheduler = Scheduler(self._profiles, batch_tokens=batch_tokens, queue_texts=queue_texts)
        self._probes: deque[Callable[[], None]] = deque()
        self._condition = threading.Condition(threading.Lock())
        self._numbers = itertools.count(1)
        self._is_stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the run thread."""
        self._thread = threading.Thread(target=self._loop, name="run", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the run thread after the batch in progress; what is queued stays queued."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    def submit(self, jobs: Sequence[Job]) -> list[Job]:
        """Queue jobs that have a task and work; returns those without a place: of these, or others in their favour."""
        refused: list[Job] = []
        with self._condition:
            for job in jobs:
                assert job.work is not None
                job.entry_id = next(self._numbers)
                entry = Entry(
                    id=job.entry_id,
                    ticket=job.ticket,
                    tenant=job.tenant,
                    deadline=job.deadline,
                    texts=len(job.work.rows),
                    longest=job.work.longest,
                    priority=job.priority,
                    payload=job,
                )
                for gone in self._scheduler.push(entry):
                    gone.payload.is_over = True
                    refused.append(gone.payload)
            self._condition.notify()
        return refused

    def cancel(self, job: Job) -> bool:
        """Whether the job has been taken out of the queue: nothing comes back for it then."""
        with self._condition:
            if self._scheduler.cancel(job.entry_id) is None:
                return False  # never queued, or its last rows are running or have run
            job.is_over = True
            return True

    def queue_texts(self) -> int:
        """Rows that wait."""
        return self._scheduler.texts

    def wait_ms(self) -> float:
        """Predicted time until work that arrives now would start."""
        with self._condition:
            return self._scheduler.wait_ms(self._clock())

    def load(self) -> Load:
        """How busy this worker is and what waits, for those who send it work."""
        with self._condition:
            return self._scheduler.load(self._clock())

    def know(self, ticket: str, cost: Cost) -> None:
        """A ticket has come into memory, and was measured."""
        with self._condition:
            self._profiles.know(ticket, cost)

    def forget(self, ticket: str) -> None:
        """A ticket has gone out of memory."""
        with self._condition:
            self._profiles.forget(ticket)

    def cost(self, ticket: str) -> Cost:
        """What a batch of the ticket is predicted by now."""
        with self._condition:
            return self._profiles.cost(ticket)

    def news(self) -> dict[str, Correction]:
        """How far off the costs of tickets have turned out to be, where that has changed since this last said so."""
        with self._condition:
            return self._profiles.news()

    def weigh(self, weights: Mapping[str, float]) -> None:
        """The tenants' weights; 1 for those not named."""
        with self._condition:
            self._scheduler.weigh(weights)

    def probe(self, ticket: str, task: Task | None, works: Callable[[], None]) -> None:
        """Call ``works`` on the run thread, before what waits, once it has run something of ``task``, if there is one.

        It is not called where that fails, or never ends.
        """

        def check() -> None:
            if task is not None:
                self._marker.running(ticket)
                try:
                    task.run(task.sample_rows(PROBE_ROWS, PROBE_SIZE))
                finally:
                    self._marker.clear_running()
            works()

        with self._condition:
            self._probes.append(check)
            self._condition.notify()

    def step(self) -> bool:
        """Answer probes, hand back what cannot be answered in time, then run one batch; whether there was one."""
        while self._probes:
            try:
                self._probes.popleft()()
            except Exception:
                log.exception("probe_failed")
        with self._condition:
            now = self._clock()
            expired: list[Job] = [entry.payload for entry in self._scheduler.expired(now)]
            for job in expired:
                job.is_over = True
            batch = self._scheduler.take(now)
            wait_ms = self._scheduler.wait_ms(now) if expired else 0.0
        if expired:
            message = "it waited until the deadline could not be met any more"
            self._deliver([(job, job.failure("deadline_exceeded", message, wait_ms)) for job in expired])
        if batch is None:
            return False
        try:
            outcomes = self._run(batch, now)
        except Exception:  # a fault of ours; whoever waits is answered all the same, and the thread lives on
            log.exception("run_crashed", ticket=batch.ticket)
            outcomes = self._give_up(batch)
        self._deliver(outcomes)
        return True

    def _loop(self) -> None:
        while True:
            with self._condition:
                while not (self._is_stopping or self._probes or len(self._scheduler)):
                    self._condition.wait()
                if self._is_stopping:
                    return
            self.step()

    def _run(self, batch: Batch, began: float) -> list[Outcome]:
        queue_s = [began - piece.entry.payload.arrived for piece in batch.slices if piece.is_first]
        self._marker.running(batch.ticket)
        ran, failures = self._attempt(batch.slices, batch.texts)
        self._marker.clear_running()
        now = self._clock()
        run_s = now - began
        parts = {id(columns): columns for _, columns, _ in ran}.values()
        tokenize_s = sum(columns.tokenize_s for columns in parts)
        is_one_run = not failures and ran[0][1] is ran[-1][1]  # else its time says nothing about the next one's
        for piece in batch.slices:
            job: Job = piece.entry.payload
            if piece.is_first:
                job.queue_ms = (began - job.arrived) * 1000
            job.run_ms += run_s * 1000
            job.tokenize_ms += tokenize_s * 1000
            job.batch_texts += batch.texts  # as run_ms: of all the batches it was part of
        with self._condition:
            ratio = self._scheduler.finished(batch, now, is_sample=is_one_run)
            wait_ms = self._scheduler.wait_ms(now)
            outcomes: list[Outcome] = []
            for job, reason in failures:
                if not job.is_over:  # it may have been cancelled, or have expired, between two of its slices
                    job.is_over = True
                    self._scheduler.cancel(job.entry_id)
                    outcomes.append((job, job.failure("inference_failed", reason, wait_ms)))
            done = [(piece, columns, at) for piece, columns, at in ran if not piece.entry.payload.is_over]
        self._metrics.batch(
            ticket=batch.ticket, texts=batch.texts, queue_s=queue_s, run_s=run_s, ratio=ratio, tokenize_s=tokenize_s
        )
        for columns in parts:
            self._metrics.answers.note(batch.ticket, columns)
        for piece, columns, at in done:
            answer = _answer(piece, columns, at, wait_ms)
            if answer is not None:
                outcomes.append((piece.entry.payload, answer))
        for job, _ in outcomes:
            job.is_over = True
        return outcomes

    def _give_up(self, batch: Batch) -> list[Outcome]:
        self._marker.clear_running()
        outcomes: list[Outcome] = []
        with self._condition:
            self._scheduler.finished(batch, self._clock(), is_sample=False)
            for piece in batch.slices:
                job: Job = piece.entry.payload
                self._scheduler.cancel(job.entry_id)
                if not job.is_over:
                    job.is_over = True
                    outcomes.append((job, job.failure("internal", "the worker could not run this batch")))
        return outcomes

    def _attempt(self, slices: Sequence[Slice], texts: int) -> tuple[list[_Ran], list[tuple[Job, str]]]:
        """Run slices together, or one by one when that fails: what ran, and what failed why."""
        rows: list[object] = []
        for piece in slices:
            rows += piece.entry.payload.work.rows[piece.start : piece.stop]
        try:
            columns = slices[0].entry.payload.task.run(rows)
        except Exception as error:
            ticket = slices[0].entry.ticket
            if len(slices) == 1:
                job: Job = slices[0].entry.payload
                log.warning(
                    "inference_failed", ticket=ticket, texts=texts, reason=str(error)[:500], request_id=job.request_id
                )
                return [], [(job, f"{type(error).__name__}: {str(error)[:200]}")]
            log.warning("batch_failed", ticket=ticket, texts=texts, asks=len(slices), reason=str(error)[:500])
            alone = [self._attempt([piece], piece.stop - piece.start) for piece in slices]
            return [one for ran, _ in alone for one in ran], [one for _, failed in alone for one in failed]
        ran, at = [], 0
        for piece in slices:
            ran.append((piece, columns, at))
            at += piece.stop - piece.start
        return ran, []


def _answer(piece: Slice, columns: Columns, at: int, wait_ms: float) -> Answer | None:
    """The answer that this slice completes; None where more of its job is to come."""
    job: Job = piece.entry.payload
    assert job.work is not None
    stop = at + piece.stop - piece.start
    job.parts.append(tensors(columns, job.work.outputs, at, stop))
    if job.wants_confidence and CONFIDENCE in columns:
        job.confidence += memoryview(columns[CONFIDENCE].rows(at, stop)).cast("f").tolist()
    if not piece.is_last:
        return None
    return Answer(
        job.ask_id, joined(job.parts), job.queue_ms, job.run_ms, job.batch_texts, wait_ms, job.confidence,
        job.tokenize_ms,
    )  # fmt: skip
