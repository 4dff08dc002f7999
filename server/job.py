"""Jobs: asks on their way through a worker, and those among them whose ticket still loads.

Plain state and its bounds; pure, time is an argument. Who owns the replies is left to
`server.worker`, running to `server.runner`.
"""

from typing import Protocol

from server.task import Task, Work, rows_claimed
from server.tensor import Tensor
from server.wire import Failure, Message


class Owner(Protocol):
    """Whoever sent asks, by id those it has no reply to yet."""

    owed: dict[int, "Job"]

    def post(self, message: Message) -> None:
        """Put a reply with those that go out at the next flush."""

    def flush(self) -> None:
        """Send what has been posted."""


class Job:
    """One ask on its way through a worker. Times are seconds of the worker's monotonic clock."""

    __slots__ = (
        "arrived", "ask_id", "batch_texts", "deadline", "entry_id", "inputs", "is_over", "outputs", "parts",
        "peer", "queue_ms", "run_ms", "task", "tenant", "ticket", "work",
    )  # fmt: skip

    def __init__(self, peer: Owner, ask_id: int, *, ticket: str, tenant: str, arrived: float, deadline: float) -> None:
        """``peer`` sent the ask; ``ask_id`` is the id it gave it."""
        self.peer = peer
        self.ask_id = ask_id
        self.ticket = ticket
        self.tenant = tenant
        self.arrived = arrived
        self.deadline = deadline
        self.inputs: list[Tensor] = []
        self.outputs: list[str] = []
        # The task is kept by the job, not looked up when it runs: unloading its ticket meanwhile does no harm.
        self.task: Task | None = None
        self.work: Work | None = None
        self.entry_id = 0
        self.is_over = False
        self.parts: list[list[Tensor]] = []
        self.queue_ms = 0.0
        self.run_ms = 0.0
        self.batch_texts = 0

    def failure(self, code: str, message: str, wait_ms: float = 0.0) -> Failure:
        """The Failure that ends this job."""
        return Failure(self.ask_id, code, message, wait_ms)


class WaitingRoom:
    """Jobs that wait for their tickets to load, bounded in rows and in bytes of input."""

    def __init__(self, *, max_texts: int, max_bytes: int) -> None:
        self._max_texts = max_texts
        self._max_bytes = max_bytes
        self._texts = 0
        self._bytes = 0
        self._jobs: dict[str, list[Job]] = {}

    def add(self, job: Job) -> bool:
        """Take a job in; False, and nothing changes, when there is no room."""
        texts, size = _weight(job)
        if self._texts + texts > self._max_texts or self._bytes + size > self._max_bytes:
            return False
        self._texts += texts
        self._bytes += size
        self._jobs.setdefault(job.ticket, []).append(job)
        return True

    def remove(self, job: Job) -> bool:
        """Whether the job was here; it is no more."""
        jobs = self._jobs.get(job.ticket)
        if jobs is None or job not in jobs:
            return False
        jobs.remove(job)
        self._forget(job)
        if not jobs:
            del self._jobs[job.ticket]
        return True

    def pop(self, ticket: str) -> list[Job]:
        """Everything that waits for this ticket, in order of arrival."""
        jobs = self._jobs.pop(ticket, [])
        for job in jobs:
            self._forget(job)
        return jobs

    def expired(self, now: float) -> list[Job]:
        """Take out the jobs whose deadline is not after ``now``."""
        late = [job for jobs in self._jobs.values() for job in jobs if job.deadline <= now]
        for job in late:
            self.remove(job)
        return late

    def _forget(self, job: Job) -> None:
        texts, size = _weight(job)
        self._texts -= texts
        self._bytes -= size


def _weight(job: Job) -> tuple[int, int]:
    return rows_claimed(job.inputs), sum(len(tensor.data) for tensor in job.inputs)
