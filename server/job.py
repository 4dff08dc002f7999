"""Jobs: asks on their way through a worker, and those among them whose ticket still loads.

Plain state and its bounds; pure, time is an argument. Who owns the replies is left to
`server.worker`, running to `server.runner`.
"""

from typing import Protocol

from server.room import Room
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
        "arrived", "ask_id", "batch_texts", "confidence", "deadline", "entry_id", "inputs", "is_over", "outputs",
        "parts", "peer", "priority", "queue_ms", "request_id", "run_ms", "task", "tenant", "ticket", "tokenize_ms",
        "wants_confidence", "work",
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
        self.priority = 2
        self.request_id = ""
        self.wants_confidence = False
        # The task is kept by the job, not looked up when it runs: unloading its ticket meanwhile does no harm.
        self.task: Task | None = None
        self.work: Work | None = None
        self.entry_id = 0
        self.is_over = False
        self.parts: list[list[Tensor]] = []
        self.confidence: list[float] = []
        self.queue_ms = 0.0
        self.run_ms = 0.0
        self.tokenize_ms = 0.0
        self.batch_texts = 0

    def failure(self, code: str, message: str, wait_ms: float = 0.0) -> Failure:
        """The Failure that ends this job."""
        return Failure(self.ask_id, code, message, wait_ms)


class WaitingRoom:
    """Jobs that wait for their tickets to load, bounded in rows and in bytes of input, fair between tenants."""

    def __init__(self, *, max_texts: int, max_bytes: int) -> None:
        self._texts: Room[Job] = Room(max_texts)
        self._bytes: Room[Job] = Room(max_bytes)
        self._jobs: dict[str, list[Job]] = {}

    def add(self, job: Job) -> list[Job]:
        """Take a job in. Returns what has no place now: nothing, the job itself, or newer ones of another tenant."""
        texts, size = _weight(job)
        gone: list[Job] = []
        for room, amount in ((self._texts, texts), (self._bytes, size)):
            displaced = room.make(job.tenant, amount)
            if displaced is None:
                return [*gone, job]
            for one in displaced:
                self.remove(one)
            gone += displaced
        self._texts.enter(job.tenant, job, texts)
        self._bytes.enter(job.tenant, job, size)
        self._jobs.setdefault(job.ticket, []).append(job)
        return gone

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
        self._texts.leave(job.tenant, job)
        self._bytes.leave(job.tenant, job)


def _weight(job: Job) -> tuple[int, int]:
    return rows_claimed(job.inputs), sum(len(tensor.data) for tensor in job.inputs)
