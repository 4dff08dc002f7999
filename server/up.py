"""One run of `tombola up`: which processes, in which order they start and stop.

Owns the order of things: Redis, workers and gateways at once, the first table, the wait for
readiness, the stop. How each process is started is in `server.parts`, keeping it alive in
`server.supervisor`, the state directory in `server.state`, the starter tickets in
`server.starter`; the words on the terminal are `server.run_up`'s. Slow imports wait until
the children have been started, because their own start-up is what takes time.
"""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routing.embedded import EmbeddedRedis, EmbeddedRedisError
from server.parts import GATEWAY, REDIS, WORKER, Common, gateway, worker
from server.ready import POLL_S, wait_until_ready
from server.state import State
from server.supervisor import Death, Part, Supervisor

if TYPE_CHECKING:
    from routing.store import Store
    from routing.table import Table
    from tickets.registry import Registry

HOPELESS_FAILURES = 3
"""A part that dies this often in a row before anything has been served will not come up."""
REDIS_WITHIN_S = 15.0
OTHER_REDIS_WITHIN_S = 3.0
"""A Redis that somebody else runs should be there already."""
READY_WITHIN_S = 120.0
REDIS_GRACE_S = 10.0
STOP_MARGIN_S = 5.0
"""What a gateway or worker gets on top of its drain time before it is killed."""


class UpError(Exception):
    """`up` cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `tombola up` was asked for."""

    gateways: int
    workers: int
    redis_url: str | None
    """None: the embedded one."""
    starter: Path | None
    """None: the folder in the package."""
    is_empty: bool
    drain_s: float


@dataclass(frozen=True, slots=True)
class Example:
    """A request that the running installation answers."""

    key: str
    domain: str
    text: str


@dataclass(frozen=True, slots=True)
class Running:
    """What there is to say once everything is up."""

    redis_url: str
    table_version: int
    example: Example | None
    """None: there is no tenant whose key we have."""
    took_s: float


class Up:
    """The processes of one installation, from start to stop. Use it once."""

    def __init__(self, settings: Settings, state: State, api: socket.socket, ops: socket.socket) -> None:
        self._settings = settings
        self._state = state
        self._api = api
        self._ops = ops
        self._began = time.monotonic()
        self._stop = asyncio.Event()
        self._failure: UpError | None = None
        self._is_up = False

    async def run(self, announce: Callable[[Running], None]) -> None:
        """Start everything, call ``announce`` when it serves, and stop in order when a signal comes.

        Raises UpError when it does not come up; nothing is left running then.
        """
        with self._redis() as (redis_url, redis_parts):
            async with Supervisor(self._died) as supervisor:
                self._listen_to_signals(supervisor)
                for part in (*redis_parts, *self._parts(redis_url)):
                    supervisor.start(part)
                try:
                    await self._serve(redis_url, announce)
                finally:
                    await self._shut_down(supervisor)
        if self._failure is not None:
            raise self._failure

    async def _serve(self, redis_url: str, announce: Callable[[Running], None]) -> None:
        from server.logs import configure_logging

        configure_logging()
        starting = asyncio.create_task(self._bring_up(redis_url), name="bring up")
        stopping = asyncio.create_task(self._stop.wait(), name="wait for a signal")
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                running = starting.result()
                self._is_up = True
                announce(running)
                await stopping
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)

    async def _bring_up(self, redis_url: str) -> Running:
        """Everything between the start of the processes and the first answer."""
        from routing.store import Store
        from server.starter import StarterError
        from tickets.registry import Registry

        registry = Registry(self._state.registry)
        try:
            store = Store.connect(redis_url)
        except ValueError as error:
            raise UpError(f"--redis-url {redis_url}: {error}") from error
        try:
            table = await self._table(store, registry)
        except StarterError as error:
            raise UpError(str(error)) from error
        finally:
            await store.close()
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await wait_until_ready(self._api)
        except TimeoutError:
            raise UpError(f"no answer to /v2/health/ready within {READY_WITHIN_S:g} s; see the log above") from None
        return Running(redis_url, table.version, self._example(table, registry), time.monotonic() - self._began)

    async def _table(self, store: "Store", registry: "Registry") -> "Table":
        """The table in Redis; when there is none, the default one, published."""
        from routing.keys import key_hash, new_key
        from routing.store import StoreCorrupt, StoreUnavailable, VersionConflict
        from routing.table import Table
        from server.starter import default_table, fill, packaged

        families = {} if self._settings.is_empty else fill(registry, self._settings.starter or packaged())
        is_ours = self._settings.redis_url is None
        last_try = time.monotonic() + (REDIS_WITHIN_S if is_ours else OTHER_REDIS_WITHIN_S)
        while True:
            try:
                table = await store.load_table()
                if table is not None:
                    return table
                if self._settings.is_empty:
                    return await store.publish(Table(), expect_version=0)
                key = self._state.read_key() or new_key()
                self._state.write_key(key)
                return await store.publish(default_table(families, key_hash(key)), expect_version=0)
            except VersionConflict:
                continue  # another `up` on the same Redis was faster: take its table
            except StoreCorrupt as error:
                raise UpError(f"{error}, or start afresh with another --state or --redis-url") from error
            except StoreUnavailable as error:
                if time.monotonic() > last_try:
                    raise UpError(f"Redis does not answer: {error}") from error
            await asyncio.sleep(POLL_S)

    def _example(self, table: "Table", registry: "Registry") -> Example | None:
        """A request that works as printed, if the demo key is one of the table's."""
        from routing.keys import tenant_of
        from server.starter import example_text
        from tickets.bundle import BundleError
        from tickets.registry import TicketMissing

        key = self._state.read_key()
        tenant = tenant_of(table, key) if key else None
        if key is None or tenant is None:
            return None
        for name, domain in table.tenants[tenant].domains.items():
            with contextlib.suppress(TicketMissing, BundleError, OSError):
                return Example(key, name, example_text(registry.get(table.families[domain.family][-1].id)))
        return None

    @contextlib.contextmanager
    def _redis(self) -> Iterator[tuple[str, tuple[Part, ...]]]:
        """Redis's URL, and the part that runs it where it is ours to run."""
        if self._settings.redis_url is not None:
            yield self._settings.redis_url, ()
            return
        directory = self._state.redis
        redis = EmbeddedRedis(directory, socket_path=self._state.run / "redis.sock")
        try:
            argv = redis.prepare(REDIS_WITHIN_S)
        except EmbeddedRedisError as error:
            raise UpError(str(error)) from error
        try:
            yield redis.url, (Part("redis", REDIS, (*argv, "--logfile", str(directory / "redis.log"))),)
        finally:
            redis.stop()

    def _parts(self, redis_url: str) -> Iterator[Part]:
        common = Common(redis_url, self._state.registry, self._state.run, self._settings.drain_s)
        for i in range(self._settings.workers):
            yield worker(f"worker-{i}", common)
        for i in range(self._settings.gateways):
            name = f"gateway-{i}"
            yield gateway(name, common, self._api, self._ops, self._state.table_cache(name))

    def _listen_to_signals(self, supervisor: Supervisor) -> None:
        def asked_to_stop() -> None:
            if self._stop.is_set():  # asked twice: no more waiting
                supervisor.kill_all()
            self._stop.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, asked_to_stop)

    def _died(self, death: Death) -> None:
        import structlog

        log: Any = structlog.get_logger(__name__)
        log.error(
            "process_died", part=death.part, pid=death.pid, how=death.how, lived_s=round(death.lived_s, 3),
            failures=death.failures, restart_in_s=death.restart_in_s,
        )  # fmt: skip
        if not self._is_up and death.failures >= HOPELESS_FAILURES:
            hint = f"see {self._state.redis / 'redis.log'}" if death.part == "redis" else "its log is above"
            self._failure = self._failure or UpError(f"{death.part} does not come up ({death.how}): {hint}")
            self._stop.set()

    async def _shut_down(self, supervisor: Supervisor) -> None:
        """Gateways first, so that workers live until the last request has its answer; Redis last."""
        # While we hold the sockets, new connections would queue up for gateways that accept no more.
        self._api.close()
        self._ops.close()
        grace_s = self._settings.drain_s + STOP_MARGIN_S
        await supervisor.stop(GATEWAY, grace_s)
        await supervisor.stop(WORKER, grace_s)
        await supervisor.stop(REDIS, REDIS_GRACE_S)
