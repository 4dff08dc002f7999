"""A dispatcher over real links to fake workers: what the tests of dispatching stand on."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import CollectorRegistry

from routing.store import Store
from routing.table import Table
from server.call import Call, Reply
from server.dispatch import Dispatcher
from server.fleet import WorkerFleet
from server.telemetry import GatewayMetrics
from server.tensor import from_texts
from tests.server.fake_worker import FakeWorker, until
from tests.server.gateways import tiny_table

ACCURATE, FAST = "a" * 64, "b" * 64


class House:
    """A dispatcher over real links to fake workers."""

    def __init__(self, workers: list[FakeWorker], max_in_flight: int = 1024) -> None:
        self.registry = CollectorRegistry()
        self.workers = workers
        self.fleet = WorkerFleet(Store.connect("unix:///nonexistent/redis"))
        self.dispatcher = Dispatcher(self.fleet, GatewayMetrics(self.registry), max_in_flight=max_in_flight)
        self.use(tiny_table(ACCURATE, FAST, deadline_ms=10_000.0))

    def use(self, table: Table) -> None:
        self.dispatcher.replace(table)

    async def link(self) -> None:
        self.fleet.meet([worker.lease for worker in self.workers])
        await until(lambda: self.fleet.linked == len(self.workers))

    async def ask(self, **changes: object) -> Reply:
        call = {"tenant": "acme", "domain": "home", "inputs": [from_texts("text", ["song"])]} | changes
        return await self.dispatcher.infer(Call(**call, arrived=time.perf_counter()))  # type: ignore[arg-type]

    def count(self, outcome: str) -> float:
        total = 0.0
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name == "tombola_requests_total" and sample.labels["outcome"] == outcome:
                    total += sample.value
        return total

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def two_workers() -> AsyncIterator[House]:
    """w1 and w2, both holding ACCURATE and FAST."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="tombola-"))
        workers = [FakeWorker(str(Path(folder) / f"{name}.sock"), name) for name in ("w1", "w2")]
        for worker in workers:
            worker.holds = [ACCURATE, FAST]
            await stack.enter_async_context(worker)
        house = House(workers)
        await house.link()
        await until(lambda: all(len(view.costs) == 2 for view in house.fleet.snapshot().workers))
        yield house
        await house.fleet.close()
