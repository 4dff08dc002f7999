"""Fixtures for the serving core: a registry with tiny tickets, workers in this process and out of it."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from server.address import UnixAddress
from server.memory import heap_bytes
from server.quarantine import Marker
from server.sessions import Sessions
from server.worker import Worker
from server.worker_metrics import WorkerMetrics
from tests.server.peers import WireClient, WorkerProcess
from tests.tiny import tiny_bundle
from tickets.registry import Registry

CPU = ["CPUExecutionProvider"]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty registry."""
    return Registry(tmp_path / "registry")


@pytest.fixture
def ticket(registry: Registry) -> str:
    """A tiny ticket in the registry."""
    return registry.put(tiny_bundle())


@pytest.fixture
def other_ticket(registry: Registry) -> str:
    """Another tiny ticket in the registry."""
    return registry.put(tiny_bundle("accurate", 0.95, scale=2.0))


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A folder with a path short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="tombola-run-") as folder:
        yield Path(folder)


@pytest.fixture
def worker_metrics() -> WorkerMetrics:
    """Metrics on a registry of their own."""
    return WorkerMetrics(CollectorRegistry())


MakeSessions = Callable[..., Sessions]


@pytest.fixture
def make_sessions(registry: Registry, worker_metrics: WorkerMetrics) -> Iterator[MakeSessions]:
    """To make sessions on a clock that stands still, where every ticket counts for the least that one can;
    closed at the end of the test."""
    made: list[Sessions] = []

    def make(memory_bytes: int = 1 << 30, **options: Any) -> Sessions:
        options = {"clock": lambda: 100.0, "heap": lambda: 0} | options
        made.append(Sessions(registry, worker_metrics, memory_bytes=memory_bytes, providers=CPU, **options))
        return made[-1]

    yield make
    for sessions in made:
        sessions.close()


MakeWorker = Callable[..., Awaitable[tuple[Worker, str]]]


@pytest_asyncio.fixture
async def make_worker(registry: Registry, run_dir: Path) -> AsyncIterator[MakeWorker]:
    """To start workers in this process; closed at the end of the test."""
    workers: list[Worker] = []

    async def make(
        *,
        run_thread: bool = True,
        batch_tokens: int = 512,
        queue_texts: int = 4096,
        memory_bytes: int = 1 << 30,
        heap: Callable[[], int] = heap_bytes,
        marker: Marker | None = None,
    ) -> tuple[Worker, str]:
        collectors = CollectorRegistry()
        metrics = WorkerMetrics(collectors)
        sessions = Sessions(registry, metrics, memory_bytes=memory_bytes, providers=CPU, heap=heap, marker=marker)
        name = f"w{len(workers)}"
        worker = Worker(
            name, sessions, collectors, metrics, batch_tokens=batch_tokens, queue_texts=queue_texts, marker=marker
        )
        workers.append(worker)
        address = await worker.start(UnixAddress(path=str(run_dir / f"{name}.sock")), run_thread=run_thread)
        return worker, str(address)

    yield make
    for worker in workers:
        await worker.close()


MakeClient = Callable[[str], Awaitable[WireClient]]


@pytest_asyncio.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    """To connect a gateway's side to an address; closed at the end of the test."""
    clients: list[WireClient] = []

    async def make(address: str) -> WireClient:
        client = await WireClient.connect(address)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


MakeWorkerProcess = Callable[..., WorkerProcess]


@pytest.fixture
def make_worker_process(registry: Registry, run_dir: Path) -> Iterator[MakeWorkerProcess]:
    """To start worker processes: a Redis URL, then options. Killed at the end of the test."""
    processes: list[WorkerProcess] = []

    def make(redis_url: str, *options: str, name: str = "w1", prelude: str = "") -> WorkerProcess:
        process = WorkerProcess(registry.root, run_dir, redis_url, *options, name=name, prelude=prelude)
        processes.append(process)
        return process

    yield make
    for process in processes:
        process.stop()
