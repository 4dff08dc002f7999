"""The worker: connections from gateways on one side, the run thread and the loader on the other.

Owns the replies this process owes: every Ask gets exactly one Answer or Failure, on the
connection it came by, or none when that connection is gone. Everything here runs on one
asyncio loop; the other threads hand their results over with `call_soon_threadsafe`. Which
work runs next is left to `server.scheduler`, running it to `server.runner`, loading tickets
to `server.sessions`.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence

import structlog
from prometheus_client import CollectorRegistry

from server import address as addresses
from server.address import Address
from server.errors import BadRequest
from server.job import Job, WaitingRoom
from server.peer import Peer
from server.runner import Outcome, Runner
from server.sessions import Sessions
from server.telemetry import WorkerMetrics, dump
from server.wire import Answer, Ask, Cancel, Failure, Message, Metrics, Scrape, Status, WireError

HEARTBEAT_S = 0.25
MAX_REMAINING_S = 600.0
MAX_WAITING_BYTES = 64 << 20
"""Inputs held, unread, while their tickets load."""
DRAIN_QUIET_S = 0.2
"""A draining worker stays this long after its last reply, for asks that were on their way."""

log = structlog.get_logger()


class Worker:
    """One worker process's conversation. Construct it, `start`, then `drain` and `close`."""

    def __init__(
        self,
        name: str,
        sessions: Sessions,
        registry: CollectorRegistry,
        metrics: WorkerMetrics,
        *,
        batch_tokens: int,
        queue_texts: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.is_draining = False
        self._sessions = sessions
        self._registry = registry
        self._metrics = metrics
        self._clock = clock
        self.runner = Runner(metrics, self._deliver, batch_tokens=batch_tokens, queue_texts=queue_texts, clock=clock)
        self._peers: set[Peer] = set()
        self._waiting = WaitingRoom(max_texts=queue_texts, max_bytes=MAX_WAITING_BYTES)
        self._owed = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._address: Address | None = None
        self._heart: asyncio.Task[None] | None = None

    async def start(self, address: Address, *, run_thread: bool = True) -> Address:
        """Listen, and run what arrives; returns the address with its real port. Raises as `address.serve`.

        Without ``run_thread`` nothing runs until the caller calls ``runner.step()`` (tests do).
        """
        self._server, self._address = await addresses.serve(address, lambda: Peer(self))
        self._sessions.changed = lambda: _call_soon(self._loop, self._broadcast)
        self._heart = self._loop.create_task(self._beat(), name="heartbeat")
        if run_thread:
            self.runner.start()
        return self._address

    async def drain(self, limit_s: float) -> None:
        """Answer what is owed and what still arrives; after ``limit_s`` fail the rest with ``worker_lost``."""
        self.is_draining = True
        self._stop_listening()
        self._broadcast()
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    await self._idle.wait()
                    await asyncio.sleep(DRAIN_QUIET_S)
                    if self._idle.is_set():
                        return
        except TimeoutError:
            left = [job for peer in self._peers for job in peer.owed.values()]
            log.warning("drain_incomplete", asks=len(left))
            self._fail(left, "worker_lost", "the worker is shutting down")
            self._flush(left)

    async def close(self) -> None:
        """Stop listening, end the threads, and close every connection once its replies are written."""
        self._stop_listening()
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.gather(self._heart, return_exceptions=True)
        await asyncio.to_thread(self.runner.stop)
        await asyncio.to_thread(self._sessions.close)
        peers = list(self._peers)
        for peer in peers:
            peer.close()
        if peers:
            await asyncio.wait([peer.gone for peer in peers], timeout=2.0)
        for peer in list(self._peers):
            peer.abort("did not read its replies")

    # What peers tell: connections and messages.

    def joined(self, peer: Peer) -> None:
        """A gateway has connected: tell it what is here."""
        self._peers.add(peer)
        peer.send([self._status()])

    def left(self, peer: Peer) -> None:
        """A gateway is gone: nobody waits for what it asked."""
        self._peers.discard(peer)
        for job in list(peer.owed.values()):
            self._cancel(job)
        self._owed -= len(peer.owed)
        peer.owed.clear()
        self._note_idle()

    def receive(self, peer: Peer, messages: Sequence[Message]) -> None:
        """Act on the messages of one read. Raises WireError on one that gateways do not send."""
        now = self._clock()
        ready: list[Job] = []
        for message in messages:
            match message:
                case Ask():
                    ready += self._accept(peer, message, now)
                case Cancel(id=ask_id):
                    self._submit(ready)
                    ready = []
                    job = peer.owed.get(ask_id)
                    if job is not None and self._cancel(job):
                        self._fail([job], "cancelled", "the gateway gave it up")
                case Scrape(id=scrape_id):
                    self._show_queue()
                    peer.post(Metrics(scrape_id, self.name, dump(self._registry)))
                case _:
                    raise WireError(f"a gateway does not send {type(message).__name__}")
        self._submit(ready)
        peer.flush()

    def _accept(self, peer: Peer, ask: Ask, now: float) -> list[Job]:
        """Take an ask on: the job when it can be queued now, nothing when it waits or has been refused."""
        if ask.id in peer.owed:
            raise WireError(f"ask {ask.id} came twice")
        remaining_s = min(ask.remaining_ms / 1000, MAX_REMAINING_S)
        job = Job(peer, ask.id, ticket=ask.ticket, tenant=ask.tenant, arrived=now, deadline=now + remaining_s)
        job.inputs, job.outputs = ask.inputs, ask.outputs
        peer.owed[ask.id] = job
        self._owed += 1
        self._idle.clear()
        if math.isnan(remaining_s) or remaining_s <= 0:
            self._fail([job], "deadline_exceeded", "the deadline had passed on arrival")
            return []
        job.task = self._sessions.get(job.ticket)
        if job.task is not None:
            return self._parsed([job])
        self._wait_for_ticket(job)
        return []

    def _parsed(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs whose inputs are good; the others are refused, each for itself."""
        good: list[Job] = []
        for job in jobs:
            assert job.task is not None
            try:
                job.work = job.task.parse(job.inputs, job.outputs)
            except BadRequest as error:
                self._fail([job], "bad_request", error.message)
            else:
                job.inputs = []
                good.append(job)
        return good

    def _submit(self, jobs: Sequence[Job]) -> None:
        if jobs:
            refused = self.runner.submit(jobs)
            if refused:
                self._fail(refused, "overloaded", "the worker's queue is full")

    def _cancel(self, job: Job) -> bool:
        """Whether the job has been stopped before it began; otherwise its reply is on its way."""
        return self._waiting.remove(job) or self.runner.cancel(job)

    def _wait_for_ticket(self, job: Job) -> None:
        reason = self._sessions.failure(job.ticket)
        if reason is not None:
            self._fail([job], "ticket_unavailable", reason)
        elif self._waiting.add(job):
            self._sessions.load(job.ticket, self._on_loader(job.ticket))
        else:
            self._fail([job], "overloaded", "too much waits for tickets to load")

    def _on_loader(self, ticket: str) -> Callable[[str | None], None]:
        return lambda reason: _call_soon(self._loop, self._loaded, ticket, reason)

    def _loaded(self, ticket: str, reason: str | None) -> None:
        jobs = self._waiting.pop(ticket)
        task = self._sessions.get(ticket)
        if reason is None and task is None:
            reason = "it was unloaded before it could run: this worker's memory is too small for what it is asked"
        if reason is not None:
            self._fail(jobs, "ticket_unavailable", reason)
        else:
            for job in jobs:
                job.task = task
            self._submit(self._parsed(jobs))
        self._flush(jobs)

    # Replies.

    def _deliver(self, outcomes: list[Outcome]) -> None:
        """On the run thread: hand a batch's outcomes to the loop."""
        _call_soon(self._loop, self._delivered, outcomes)

    def _delivered(self, outcomes: list[Outcome]) -> None:
        for job, reply in outcomes:
            self._settle(job, reply)
        self._flush(job for job, _ in outcomes)

    def _fail(self, jobs: Iterable[Job], code: str, message: str) -> None:
        wait_ms = self.runner.wait_ms()
        for job in list(jobs):
            self._settle(job, job.failure(code, message, wait_ms))

    def _settle(self, job: Job, reply: Answer | Failure) -> None:
        """Post the one reply of a job, unless whoever asked is gone."""
        if job.peer.owed.pop(job.ask_id, None) is None:
            return
        if isinstance(reply, Failure):
            self._metrics.dropped(reply.code, 1)
        job.peer.post(reply)
        self._owed -= 1
        self._note_idle()

    def _flush(self, jobs: Iterable[Job]) -> None:
        for peer in {job.peer for job in jobs}:
            peer.flush()

    def _note_idle(self) -> None:
        if self._owed == 0:
            self._idle.set()

    # What gateways are told unasked.

    def _status(self) -> Status:
        return Status(self.name, self._sessions.holds(), self.runner.wait_ms(), self.is_draining)

    def _broadcast(self) -> None:
        if self._peers:
            status = self._status()
            for peer in list(self._peers):
                peer.send([status])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                late = self._waiting.expired(self._clock())
                self._fail(late, "deadline_exceeded", "the deadline passed while the ticket was loading")
                self._flush(late)
                self._broadcast()
                await self._listen_again()
            except Exception:  # gateways take a worker without a heartbeat for dead
                log.exception("heartbeat_failed")

    def _show_queue(self) -> None:
        self._metrics.queue_texts.set(self.runner.queue_texts())
        self._metrics.wait_seconds.set(self.runner.wait_ms() / 1000)

    async def _listen_again(self) -> None:
        """Where something has removed the socket file."""
        if self._server is not None and self._address is not None:
            self._server = await addresses.serve_again(self._server, self._address, lambda: Peer(self))
            if self.is_draining:  # since then
                self._stop_listening()

    def _stop_listening(self) -> None:
        if self._server is not None and self._address is not None:
            self._server.close()
            addresses.remove(self._address)
            self._server = None


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    """Hand something to the loop from another thread; once the loop is closed nobody is left to tell."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
