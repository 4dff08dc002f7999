"""The worker: connections from gateways on one side, the run thread and the loader on the other.

Owns the conversation: who is connected, what each message sets off, and what gateways are told
unasked. Everything here runs on one asyncio loop; the other threads hand their results over with
`call_soon`. Becoming a job is left to `server.intake`, which work runs next to `server.scheduler`,
running it to `server.runner`, loading tickets to `server.sessions`, the count of replies to
`server.replies`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from prometheus_client import CollectorRegistry

from server import address as addresses
from server.address import Address
from server.intake import Intake, call_soon
from server.job import Job
from server.news import News
from server.peer import Peer
from server.quarantine import Marker
from server.replies import Replies
from server.runner import Outcome, Runner
from server.sessions import Change, Sessions
from server.telemetry import dump
from server.wire import Ask, Cancel, Load, Message, Metrics, Probe, Probed, Scrape, Shares, Status, WireError
from server.worker_metrics import WorkerMetrics

HEARTBEAT_S = 0.25
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
        marker: Marker | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.is_draining = False
        self._sessions = sessions
        self._registry = registry
        self._metrics = metrics
        self._clock = clock
        self.runner = Runner(
            metrics, self._deliver, batch_tokens=batch_tokens, queue_texts=queue_texts, marker=marker, clock=clock
        )
        self._replies = Replies(metrics, self.runner.wait_ms)
        self._intake = Intake(sessions, self.runner, self._replies, metrics, queue_texts=queue_texts)
        metrics.queue_texts_limit.set(queue_texts)
        self._news = News(sessions.get)
        self._peers: set[Peer] = set()
        self._shares_version = -1
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._address: Address | None = None
        self._heart: asyncio.Task[None] | None = None

    async def start(self, address: Address, *, run_thread: bool = True) -> Address:
        """Listen, and run what arrives; returns the address with its real port. Raises as `address.serve`.

        Without ``run_thread`` nothing runs until the caller calls ``runner.step()`` (tests do).
        """
        self._server, self._address = await addresses.serve(address, lambda: Peer(self))
        self._sessions.changed = self._changed
        held = {ticket: cost for ticket in self._sessions.holds() if (cost := self._sessions.cost(ticket)) is not None}
        if held:
            self._changed(Change(loaded=held))
        self._heart = self._loop.create_task(self._beat(), name="heartbeat")
        if run_thread:
            self.runner.start()
        return self._address

    async def drain(self, limit_s: float) -> None:
        """Answer what is owed and what still arrives; after ``limit_s`` fail the rest with ``worker_lost``."""
        self.is_draining = True
        self._stop_listening()
        self._tell([self._status()])
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    await self._replies.idle.wait()
                    await asyncio.sleep(DRAIN_QUIET_S)
                    if self._replies.idle.is_set():
                        return
        except TimeoutError:
            left = [job for peer in self._peers for job in peer.owed.values()]
            log.warning("drain_incomplete", asks=len(left))
            self._replies.fail(left, "worker_lost", "the worker is shutting down")
            for peer in self._peers:
                peer.flush()

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
        peer.send([self._status(), self._news.everything(), self.runner.load()])

    def left(self, peer: Peer) -> None:
        """A gateway is gone: nobody waits for what it asked."""
        self._peers.discard(peer)
        for job in self._replies.forget(peer):
            self._intake.cancel(job)

    def receive(self, peer: Peer, messages: Sequence[Message]) -> None:
        """Act on the messages of one read. Raises WireError on one that gateways do not send."""
        now = self._clock()
        ready: list[Job] = []
        for message in messages:
            match message:
                case Ask():
                    ready += self._intake.accept(peer, message, now)
                case Cancel(id=ask_id):
                    self._intake.submit(ready)
                    ready = []
                    job = peer.owed.get(ask_id)
                    if job is not None and self._intake.cancel(job):
                        self._replies.fail([job], "cancelled", "the gateway gave it up")
                case Scrape(id=scrape_id):
                    self._show_now()
                    peer.post(Metrics(scrape_id, self.name, dump(self._registry)))
                case Probe(id=probe_id):
                    self._probe(peer, probe_id, now)
                case Shares():
                    self._share(message)
                case _:
                    raise WireError(f"a gateway does not send {type(message).__name__}")
        self._intake.submit(ready)
        peer.flush()

    def _probe(self, peer: Peer, probe_id: int, now: float) -> None:
        """Show that the run thread runs: with the ticket asked for last, or any, or none where none is here."""
        held = self._news.holds()
        ticket = self._intake.last_ticket if self._intake.last_ticket in held else "".join(held[:1])
        task = self._sessions.get(ticket) if ticket else None

        def works() -> None:  # on the run thread
            reply = Probed(probe_id, self.name, (self._clock() - now) * 1000, ticket if task is not None else "")
            call_soon(self._loop, peer.send, [reply])

        self.runner.probe(ticket, task, works)

    def _share(self, shares: Shares) -> None:
        """Every gateway sends them; the newest table's count."""
        if shares.version >= self._shares_version:
            self._shares_version = shares.version
            self.runner.weigh({tenant: share.weight for tenant, share in shares.tenants.items()})
            self._sessions.reserve({tenant: share.reserved_bytes for tenant, share in shares.tenants.items()})

    # What other threads tell.

    def _deliver(self, outcomes: list[Outcome]) -> None:
        """On the run thread: hand a batch's outcomes to the loop."""
        call_soon(self._loop, self._delivered, outcomes)

    def _delivered(self, outcomes: list[Outcome]) -> None:
        for job, reply in outcomes:
            self._replies.settle(job, reply)
        asked = {job.peer for job, _ in outcomes}
        load = self.runner.load()
        for peer in [peer for peer in self._peers if peer in asked]:
            peer.send([_as_seen_by(peer, load)])

    def _changed(self, change: Change) -> None:
        """On the loader thread: tickets have come or gone. Their costs count from here on, not from the next turn."""
        for ticket in change.unloaded:
            self.runner.forget(ticket)
        for ticket, cost in change.loaded.items():
            self.runner.know(ticket, cost)
            self._metrics.costs(ticket, cost)
        call_soon(self._loop, lambda: self._tell(self._news.changed(change)))

    # What gateways are told unasked.

    def _status(self) -> Status:
        return Status(self.name, self._news.holds(), self.runner.wait_ms(), self.is_draining)

    def _tell(self, messages: Sequence[Message]) -> None:
        for peer in list(self._peers):
            peer.send(messages)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                self._intake.expire(self._clock())
                self._metrics.answers.count()
                corrections = self.runner.news()
                for ticket in corrections:
                    self._metrics.costs(ticket, self.runner.cost(ticket))
                self._tell(self._news.corrected(corrections))
                load = self.runner.load()
                for peer in list(self._peers):
                    peer.send([_as_seen_by(peer, load)])
                await self._listen_again()
            except Exception:  # gateways take a worker without a heartbeat for dead
                log.exception("heartbeat_failed")

    def _show_now(self) -> None:
        self._metrics.answers.count()
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


def _as_seen_by(peer: Peer, load: Load) -> Load:
    return Load(load.running_ms, load.queued_ms, load.tenants, load.active_weight, load.busy, peer.seen)
