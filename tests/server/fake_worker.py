"""A worker that speaks server.wire over a real Unix socket and does what a test tells it.

By default it answers like the tiny tickets of tests/tiny.py: it counts words. The real worker is
put under the same gateway in tests/server/test_real_worker.py and tests/e2e.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import numpy as np

from routing.cost import Cost
from routing.lease import Lease
from server import address, wire
from server.tensor import Tensor, decode_bytes, from_array, from_texts, to_array
from tests.tiny import LABELS, VOTE, WORDS

Behaviour = Callable[[wire.Ask], wire.Answer | wire.Failure | None]
HEARTBEAT_S = 0.2
COST = Cost(0.1, 0.1, 0.0)


def tiny_outputs(texts: list[str]) -> list[Tensor]:
    """What a tiny ticket answers: softmax over 16 x votes / tokens, the last logit being out of scope."""
    logits = np.zeros((len(texts), 4))
    for row, text in enumerate(texts):
        words = text.lower().split()
        for word in words:
            if word in WORDS:
                logits[row, WORDS[word]] += VOTE / (len(words) + 2)
    exp = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exp / exp.sum(1, keepdims=True)
    best = probabilities[:, :3].argmax(1)
    score = 1 - probabilities[:, 3]
    return [
        from_texts("label", [LABELS[i] for i in best]),
        from_array("probability", "FP32", probabilities[np.arange(len(texts)), best]),
        from_array("in_scope", "BOOL", score >= 0.5),
        from_array("in_scope_score", "FP32", score),
        from_array("probabilities", "FP32", probabilities[:, :3]),
    ]


def answer(ask: wire.Ask) -> wire.Answer:
    """The default behaviour: answer at once."""
    texts = [e.decode() for e in decode_bytes(ask.inputs[0].data, ask.inputs[0].shape[0])]
    outputs = [t for t in tiny_outputs(texts) if not ask.outputs or t.name in ask.outputs]
    sure = tiny_outputs(texts)[1] if ask.wants_confidence else None
    confidence = [] if sure is None else [float(p) for p in to_array(sure)]
    return wire.Answer(ask.id, outputs, 0.1, 0.2, len(texts), 0.0, confidence)


def fail(code: str) -> Behaviour:
    """A behaviour: fail with this code."""
    return lambda ask: wire.Failure(ask.id, code, f"made to fail: {code}")


def hang(_: wire.Ask) -> None:
    """A behaviour: never reply."""


async def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    """Let the loop run until something that it does has made ``condition`` true."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the code under test has no event for every change
            await asyncio.sleep(0.002)


class FakeWorker:
    """One worker on one Unix socket."""

    def __init__(self, path: str, name: str = "w1", behave: Behaviour = answer) -> None:
        self.name = name
        self.where = address.parse(f"unix:{path}")
        self.behave = behave
        self.holds: list[str] = []
        self.costs: dict[str, Cost] = {}
        """Of the tickets that it holds; COST where there is no other."""
        self.load = wire.Load(0.0, 0.0)
        self.is_draining = False
        self.beats = True
        self.asks: list[wire.Ask] = []
        self.cancelled: list[int] = []
        self.shares: list[wire.Shares] = []
        self.frames = 0
        self.asked = asyncio.Event()
        self.told = asyncio.Event()
        """Set when a Cancel arrives."""
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._heart: asyncio.Task[None] | None = None

    @property
    def lease(self) -> Lease:
        return Lease(kind="worker", name=self.name, address=str(self.where), pid=1)

    async def __aenter__(self) -> "FakeWorker":
        self._server, _ = await address.serve(self.where, lambda: _Connection(self))
        self._heart = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def die(self) -> None:
        """Close the socket and every connection, as a killed process would."""
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.gather(self._heart, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        address.remove(self.where)
        await asyncio.sleep(0)

    def status(self) -> list[wire.Message]:
        """All that a worker says of itself on connection."""
        costs = {ticket: self.costs.get(ticket, COST) for ticket in self.holds}
        return [wire.Status(self.name, self.holds, 0.0, self.is_draining), wire.Costs(costs), self.load]

    def say(self, *messages: wire.Message) -> None:
        """Tell every gateway something, or all."""
        for connection in self.connections:
            connection.send(*(messages or self.status()))

    def unload(self, *tickets: str) -> None:
        """Hold them no more, and say so."""
        self.holds = [ticket for ticket in self.holds if ticket not in tickets]
        self.say(wire.Unloaded(list(tickets)))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self.beats:
                self.say(self.load)


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, worker: FakeWorker) -> None:
        self._worker = worker
        self._reader = wire.FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it
        self._worker.connections.add(self)
        if self._worker.beats:
            self.send(*self._worker.status())

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.connections.discard(self)

    def send(self, *messages: wire.Message) -> None:
        self.transport.write(wire.encode_frame(messages))

    def data_received(self, data: bytes) -> None:
        self._worker.frames += 1
        for message in self._reader.feed(data):
            match message:
                case wire.Ask():
                    self._worker.asks.append(message)
                    self._worker.asked.set()
                    reply = self._worker.behave(message)
                    if reply is not None:
                        self.send(reply)
                case wire.Cancel():
                    self._worker.cancelled.append(message.id)
                    self._worker.told.set()
                case wire.Shares():
                    self._worker.shares.append(message)
                case wire.Scrape():
                    self.send(wire.Metrics(message.id, self._worker.name, b"\x90"))
