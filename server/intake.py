"""The intake: from an ask to a job in the queue, or to the reason why not.

Owns what lies between: the deadline, the ticket (which may have to be loaded first; its asks wait no
longer than their deadlines) and the check of the inputs, each ask for itself, so that a bad one fails
alone. Runs on the connections' loop. What becomes of a queued job is left to `server.runner`, loading
to `server.sessions`, the replies to `server.replies`.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Sequence

from server.errors import BadRequest
from server.job import Job, WaitingRoom
from server.peer import Peer
from server.replies import Replies, flush
from server.runner import Runner
from server.sessions import Sessions
from server.wire import Ask, WireError
from server.worker_metrics import WorkerMetrics

MAX_REMAINING_S = 600.0
MAX_WAITING_BYTES = 64 << 20
"""Inputs held, unread, while their tickets load."""


class Intake:
    """Takes asks on for one worker."""

    def __init__(
        self, sessions: Sessions, runner: Runner, replies: Replies, metrics: WorkerMetrics, *, queue_texts: int
    ) -> None:
        """``queue_texts`` bounds what waits for tickets to load, as it does what waits to run."""
        self.last_ticket = ""
        """The ticket in memory that was asked for last."""
        self._sessions = sessions
        self._runner = runner
        self._replies = replies
        self._metrics = metrics
        self._waiting = WaitingRoom(max_texts=queue_texts, max_bytes=MAX_WAITING_BYTES)
        self._loop = asyncio.get_running_loop()

    def accept(self, peer: Peer, ask: Ask, now: float) -> list[Job]:
        """Take an ask on: the job when it can be queued now, nothing when it waits or has been refused.

        Raises WireError on an id that is in use.
        """
        if ask.id in peer.owed:
            raise WireError(f"ask {ask.id} came twice")
        remaining_s = min(ask.remaining_ms / 1000, MAX_REMAINING_S)
        job = Job(peer, ask.id, ticket=ask.ticket, tenant=ask.tenant, arrived=now, deadline=now + remaining_s)
        job.inputs, job.outputs = ask.inputs, ask.outputs
        job.priority = min(max(ask.priority, 1), 3)
        job.wants_confidence, job.request_id = ask.wants_confidence, ask.request_id
        peer.seen = max(peer.seen, ask.id)
        self._replies.owe(job)
        if math.isnan(remaining_s) or remaining_s <= 0:
            self._replies.fail([job], "deadline_exceeded", "the deadline had passed on arrival")
            return []
        job.task = self._sessions.get(job.ticket, job.tenant)
        self._metrics.looked_up(job.task is not None)
        if job.task is not None:
            self.last_ticket = job.ticket
            return self._parsed([job])
        self._wait_for_ticket(job)
        return []

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue what `accept` gave. What has no place fails; that may be others' jobs, which are told at once."""
        if jobs:
            refused = self._runner.submit(jobs)
            if refused:
                self._replies.fail(refused, "overloaded", "the worker's queue is full")
                flush(refused)

    def cancel(self, job: Job) -> bool:
        """Whether the job has been stopped before it began; otherwise its reply is on its way."""
        return self._waiting.remove(job) or self._runner.cancel(job)

    def expire(self, now: float) -> None:
        """Fail what has waited for its ticket until its deadline."""
        late = self._waiting.expired(now)
        self._replies.fail(late, "deadline_exceeded", "the deadline passed while the ticket was loading")
        flush(late)

    def _parsed(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs whose inputs are good; the others are refused, each for itself."""
        good: list[Job] = []
        for job in jobs:
            assert job.task is not None
            try:
                job.work = job.task.parse(job.inputs, job.outputs)
            except BadRequest as error:
                self._replies.fail([job], "bad_request", error.message)
            else:
                job.inputs = []
                good.append(job)
        return good

    def _wait_for_ticket(self, job: Job) -> None:
        reason = self._sessions.failure(job.ticket)
        if reason is not None:
            self._replies.fail([job], "ticket_unavailable", reason)
            return
        displaced = self._waiting.add(job)
        self._replies.fail(displaced, "overloaded", "too much waits for tickets to load")
        flush(other for other in displaced if other.peer is not job.peer)
        if job not in displaced:
            self._sessions.load(job.ticket, self._on_loader(job.ticket), tenant=job.tenant)

    def _on_loader(self, ticket: str) -> Callable[[str | None], None]:
        return lambda reason: call_soon(self._loop, self._loaded, ticket, reason)

    def _loaded(self, ticket: str, reason: str | None) -> None:
        jobs = self._waiting.pop(ticket)
        task = self._sessions.get(ticket)
        if reason is None and task is None:
            reason = "it was unloaded before it could run: this worker's memory is too small for what it is asked"
        if reason is not None:
            self._replies.fail(jobs, "ticket_unavailable", reason)
        else:
            for job in jobs:
                job.task = task
            self.submit(self._parsed(jobs))
        flush(jobs)


def call_soon(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    """Hand something to the loop from another thread; once the loop is closed nobody is left to tell."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
