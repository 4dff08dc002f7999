"""A whole gateway for tests: real HTTP, real Redis, its own event loop in a thread, fake workers beside it."""

import asyncio
import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvloop

from routing.document import check
from routing.keys import key_hash
from routing.store import Store
from routing.table import Cascade, Domain, FamilyTicket, Policy, Table, Tenant, Tier
from server.gateway_process import Settings, run
from server.listen import listen
from tests.server.fake_worker import FakeWorker
from tests.tiny import tiny_bundle
from tickets.registry import Registry

ACME_KEY = "tk_" + "a" * 43
RIVAL_KEY = "tk_" + "b" * 43
T = TypeVar("T")


def tiny_table(
    accurate: str, fast: str, deadline_ms: float = 5000.0, *, policy: Policy = "tier", threshold: float = 0.9
) -> Table:
    """Two tenants: acme has `home` (tiers accurate and fast), rival has `secret`, both of one family."""
    family = [
        FamilyTicket(id=accurate, tier="accurate", quality=0.95, service_ms=2.0),
        FamilyTicket(id=fast, tier="fast", quality=0.9, service_ms=1.0),
    ]
    tiers = {"accurate": Tier(deadline_ms=deadline_ms), "fast": Tier(deadline_ms=deadline_ms)}
    rule = Cascade(small=fast, large=accurate, threshold=threshold, accuracy=0.95)
    domain = Domain(
        family="home", default_tier="fast", tiers=tiers, policy=policy, cascade=rule if policy == "cascade" else None
    )
    return check(
        Table(
            families={"home": family},
            tenants={
                "acme": Tenant(key_hashes=[key_hash(ACME_KEY)], domains={"home": domain}),
                "rival": Tenant(key_hashes=[key_hash(RIVAL_KEY)], domains={"secret": domain}),
            },
        )
    )


class GatewayThread:
    """A running gateway. Call coroutines in its loop with `do`."""

    def __init__(self, redis_url: str, namespace: str, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.data, self.ops = listen("127.0.0.1", 0, "--port"), listen("127.0.0.1", 0, "--ops-port")
        self.url, self.ops_url = _url(self.data), _url(self.ops)
        self.redis_url, self.namespace = redis_url, namespace
        options: dict[str, Any] = {
            "name": "gw", "redis_url": redis_url, "registry": folder / "registry", "run_dir": folder, "data": self.data,
            "ops": self.ops, "max_in_flight": 64, "max_body_bytes": 1 << 20, "table_cache": folder / "table.json",
            "drain_s": 5.0, "namespace": namespace,
        }  # fmt: skip
        self.settings = Settings(**(options | changes))
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._stop = asyncio.Event()
        self._listening = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gateway")

    def start(self) -> None:
        self._thread.start()
        assert self._listening.wait(30), "the gateway did not start"
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """As SIGTERM does: drain and end. Raises what the gateway raised."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the gateway did not stop"
        if self._failure is not None:
            raise self._failure

    def begin_stop(self) -> None:
        """Ask it to stop, and do not wait."""
        self.loop.call_soon_threadsafe(self._stop.set)

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def wait_ready(self) -> None:
        wait_until(lambda: httpx.get(f"{self.url}/v2/health/ready").status_code == 200)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(run(self.settings, self._stop, self._listening.set))
        except BaseException as error:
            self._failure = error
        finally:
            self._listening.set()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()


class Installation:
    """A gateway with two tiny tickets, a published table, and one fake worker that holds them."""

    def __init__(self, gateway: GatewayThread, worker: FakeWorker, tickets: tuple[str, str]) -> None:
        self.gateway = gateway
        self.worker = worker
        self.accurate, self.fast = tickets
        self.url, self.ops_url = gateway.url, gateway.ops_url


@contextlib.contextmanager
def installation(redis_url: str, namespace: str, **changes: Any) -> Iterator[Installation]:
    """Start everything; stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="tombola-") as name:
        folder = Path(name)
        registry = Registry(folder / "registry")
        accurate, fast = registry.put(tiny_bundle("accurate", 0.95)), registry.put(tiny_bundle("fast", 0.9))
        asyncio.run(publish(redis_url, namespace, tiny_table(accurate, fast)))
        gateway = GatewayThread(redis_url, namespace, folder, **changes)
        gateway.start()
        try:
            worker = gateway.do(add_worker(gateway, "w1", [accurate, fast]))
            try:
                gateway.wait_ready()
                yield Installation(gateway, worker, (accurate, fast))
            finally:
                gateway.do(worker.die())
        finally:
            gateway.stop()


async def add_worker(gateway: GatewayThread, name: str, holds: list[str]) -> FakeWorker:
    """A fake worker with a lease that outlives the test. Call it in the gateway's loop."""
    worker = FakeWorker(str(gateway.folder / f"{name}.sock"), name)
    worker.holds = list(holds)
    await worker.__aenter__()
    store = Store.connect(gateway.redis_url, gateway.namespace)
    await store.announce(worker.lease, 3600.0)
    await store.close()
    return worker


async def publish(redis_url: str, namespace: str, table: Table) -> Table:
    store = Store.connect(redis_url, namespace)
    try:
        return await store.publish(table)
    finally:
        await store.close()


def wait_until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    """Poll a condition that another thread or process makes true."""
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "the condition did not come true"
        time.sleep(0.02)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"
