"""A gateway's side of the wire for tests, and a real worker process."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from routing.cost import Cost
from server import address, wire
from server.telemetry import merge
from server.tensor import Tensor, from_texts

GENEROUS_S = 45.0


Reply = wire.Answer | wire.Failure | wire.Metrics | wire.Probed


class WireClient(asyncio.Protocol):
    """Speaks the wire to a worker and keeps everything it says."""

    def __init__(self) -> None:
        self.replies: dict[int, Reply] = {}
        self.order: list[int] = []
        """Ids in the order in which their replies came."""
        self.frames: list[list[wire.Message]] = []
        self.statuses: list[wire.Status] = []
        self.loads: list[wire.Load] = []
        self.costs: dict[str, Cost] = {}
        """Of the tickets that it holds, as it has said by now."""
        self.told: list[wire.Costs | wire.Unloaded] = []
        self.duplicates = 0
        self.is_lost = False
        self.transport: asyncio.Transport
        self._reader = wire.FrameReader()
        self._changed = asyncio.Condition()
        self._notes: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(cls, where: str) -> "WireClient":
        return await address.connect(address.parse(where), cls, timeout_s=GENEROUS_S)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._note()

    def data_received(self, data: bytes) -> None:
        messages = self._reader.feed(data)
        if messages:
            self.frames.append(messages)
        for message in messages:
            match message:
                case wire.Status():
                    self.statuses.append(message)
                case wire.Load():
                    self.loads.append(message)
                case wire.Costs():
                    self.told.append(message)
                    self.costs |= message.costs
                case wire.Unloaded():
                    self.told.append(message)
                    for ticket in message.tickets:
                        del self.costs[ticket]
                case wire.Answer() | wire.Failure() | wire.Metrics() | wire.Probed():
                    self.duplicates += message.id in self.replies
                    self.replies[message.id] = message
                    self.order.append(message.id)
                case _:
                    raise AssertionError(message)
        self._note()

    def send(self, *messages: wire.Message) -> None:
        self.transport.write(wire.encode_frame(messages))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()`` holds; it is looked at whenever something has arrived."""
        async with asyncio.timeout(GENEROUS_S), self._changed:
            await self._changed.wait_for(condition)

    async def reply(self, ask_id: int) -> Reply:
        await self.until(lambda: ask_id in self.replies or self.is_lost)
        return self.replies[ask_id]

    async def answer(self, ask_id: int) -> wire.Answer:
        reply = await self.reply(ask_id)
        assert isinstance(reply, wire.Answer), reply
        return reply

    async def failure(self, ask_id: int) -> wire.Failure:
        reply = await self.reply(ask_id)
        assert isinstance(reply, wire.Failure), reply
        return reply

    async def scrape(self, scrape_id: int = 900_000) -> dict[str, float]:
        """The worker's samples by name, summed over labels; those with one label also as name{value}."""
        self.replies.pop(scrape_id, None)
        self.send(wire.Scrape(scrape_id))
        reply = await self.reply(scrape_id)
        assert isinstance(reply, wire.Metrics)
        samples: dict[str, float] = {}
        for family in text_string_to_metric_families(merge({reply.process: reply.families}).decode()):
            for sample in family.samples:
                samples[sample.name] = samples.get(sample.name, 0.0) + sample.value
                for value in sample.labels.values():
                    samples[f"{sample.name}{{{value}}}"] = samples.get(f"{sample.name}{{{value}}}", 0.0) + sample.value
        return samples

    async def close(self) -> None:
        self.transport.close()
        await self.until(lambda: self.is_lost)

    def _note(self) -> None:
        task = asyncio.get_running_loop().create_task(self._notify())
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread or process brings about, and announces to nobody."""
    async with asyncio.timeout(GENEROUS_S):
        while not condition():  # noqa: ASYNC110 - see the docstring
            await asyncio.sleep(0.005)


def ask(
    ask_id: int,
    ticket: str,
    *texts: str,
    remaining_ms: float = 60_000.0,
    outputs: Sequence[str] = (),
    tenant: str = "acme",
    priority: int = 2,
    wants_confidence: bool = False,
) -> wire.Ask:
    """An ask for these texts."""
    inputs = [from_texts("text", texts)]
    return wire.Ask(ask_id, ticket, tenant, remaining_ms, inputs, list(outputs), priority, wants_confidence)


def output(answer: wire.Answer, name: str) -> Tensor:
    """One output of an answer."""
    return next(tensor for tensor in answer.outputs if tensor.name == name)


class WorkerProcess:
    """``tombola worker`` as a real process. ``events`` are its log lines; ``prelude`` is code to run before it."""

    def __init__(
        self, registry: Path, run_dir: Path, redis_url: str, *options: str, name: str = "w1", prelude: str = ""
    ) -> None:
        code = f"{prelude}\nfrom server.run_worker import command; command()"
        arguments = ["--name", name, "--registry", str(registry), "--run-dir", str(run_dir), "--redis-url", redis_url]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments, *options], stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        self.events: list[dict[str, object]] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def address(self) -> str:
        """Where it listens, once it is ready."""
        assert self._ready.wait(GENEROUS_S), self.events
        ready = [event for event in self.events if event.get("event") == "ready"]
        assert ready, f"the worker ended before it was ready: {self.events}"
        return str(ready[0]["address"])

    def terminate(self) -> None:
        self.process.terminate()

    def wait(self) -> int:
        """Its exit code."""
        code = self.process.wait(GENEROUS_S)
        self._reader.join(GENEROUS_S)
        return code

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                event = msgspec.json.decode(line, type=dict[str, object])
            except msgspec.DecodeError:
                event = {"event": line.decode(errors="replace").rstrip()}
            self.events.append(event)
            if event.get("event") == "ready":
                self._ready.set()
        self._ready.set()
