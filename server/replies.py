"""The replies a worker owes: every ask gets exactly one, on the connection it came by.

Owns the count of them, and what is told where nobody waits any more: nothing. A connection that is
gone takes the replies owed to it along. Writing is left to `server.peer`, what a reply says to those
who make it.
"""

import asyncio
from collections.abc import Callable, Iterable

from server.job import Job, Owner
from server.wire import Answer, Failure
from server.worker_metrics import WorkerMetrics


class Replies:
    """What is owed to all connections. ``idle`` is set while that is nothing."""

    def __init__(self, metrics: WorkerMetrics, wait_ms: Callable[[], float]) -> None:
        """``wait_ms`` predicts the wait of work that would arrive now: failures tell it."""
        self.idle = asyncio.Event()
        self.idle.set()
        self._metrics = metrics
        self._wait_ms = wait_ms
        self._owed = 0

    def owe(self, job: Job) -> None:
        """From now on its connection is owed a reply for the job."""
        job.peer.owed[job.ask_id] = job
        self._owed += 1
        self.idle.clear()

    def settle(self, job: Job, reply: Answer | Failure) -> None:
        """Post the one reply of a job, unless whoever asked is gone."""
        if job.peer.owed.pop(job.ask_id, None) is None:
            return
        if isinstance(reply, Failure):
            self._metrics.dropped(reply.code, 1, ticket=job.ticket)
        job.peer.post(reply)
        self._paid(1)

    def fail(self, jobs: Iterable[Job], code: str, message: str) -> None:
        """Settle all of them with a failure."""
        jobs = list(jobs)
        if jobs:
            wait_ms = self._wait_ms()
            for job in jobs:
                self.settle(job, job.failure(code, message, wait_ms))

    def forget(self, peer: Owner) -> list[Job]:
        """A connection is gone: what it was owed, it is owed no more."""
        jobs = list(peer.owed.values())
        peer.owed.clear()
        self._paid(len(jobs))
        return jobs

    def _paid(self, count: int) -> None:
        self._owed -= count
        if self._owed == 0:
            self.idle.set()


def flush(jobs: Iterable[Job]) -> None:
    """Send what has been posted for these jobs, a frame for each connection."""
    for peer in {job.peer for job in jobs}:
        peer.flush()
