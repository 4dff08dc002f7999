"""One run of `tombola up`: which processes, in which order they start and stop.

Owns the order of things: Redis, workers and gateways at once, the first table, the wait for
readiness, the stop; and what is done about a death. How each process is started is in
`server.parts`, keeping it alive in `server.supervisor`, finding out whether it works in
`server.watch`, replacing it in `server.roll`, the first table in `server.beginning`; the words on
the terminal are `server.run_up`'s. Slow imports wait until the children have been started,
because their own start-up is what takes time.
"""

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routing.embedded import EmbeddedRedis, EmbeddedRedisError
from server.parts import GATEWAY, REDIS, WORKER, Common, Ports, gateway, worker
from server.ready import wait_until_ready
from server.state import State
from server.supervisor import Death, Part, Supervisor

if TYPE_CHECKING:
    from server.beginning import Example
    from server.control import Order
    from server.watch import Watch

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
    patience_s: float = 5.0
    """How long a process may owe an answer to a probe; 0: for ever."""


@dataclass(frozen=True, slots=True)
class Running:
    """What there is to say once everything is up."""

    redis_url: str
    table_version: int
    example: "Example | None"
    """None: there is no tenant whose key we have."""
    took_s: float


class Up:
    """The processes of one installation, from start to stop. Use it once."""

    def __init__(self, settings: Settings, state: State, ports: Ports) -> None:
        self._settings = settings
        self._state = state
        self._ports = ports
        self._began = time.monotonic()
        self._stop = asyncio.Event()
        self._failure: UpError | None = None
        self._is_up = False
        self._names = {f"{WORKER}-{i}": f"{WORKER}-{i}" for i in range(settings.workers)}
        self._names |= {f"{GATEWAY}-{i}": f"{GATEWAY}-{i}" for i in range(settings.gateways)}

    async def run(self, announce: Callable[[Running], None]) -> None:
        """Start everything, call ``announce`` when it serves, and stop in order when a signal comes.

        Raises UpError when it does not come up; nothing is left running then.
        """
        with self._redis() as (redis_url, redis_parts):
            common = Common(redis_url, self._state.registry, self._state.run, self._settings.drain_s)
            async with Supervisor(self._died) as supervisor:
                self._listen_to_signals(supervisor)
                for part in (*redis_parts, *(self._part(place, name, common) for place, name in self._names.items())):
                    supervisor.start(part)
                try:
                    async with self._tended(supervisor, common):
                        await self._serve(redis_url, announce)
                finally:
                    await self._shut_down(supervisor)
        if self._failure is not None:
            raise self._failure

    @contextlib.asynccontextmanager
    async def _tended(self, supervisor: Supervisor, common: Common) -> AsyncIterator[None]:
        """While the block runs, processes that are stuck are replaced, and orders are taken."""
        from server.control import control_file, serving
        from server.logs import configure_logging
        from server.watch import Watch

        configure_logging()
        watch = Watch(supervisor, self._state.run, patience_s=self._settings.patience_s or math.inf)
        for name in self._names.values():
            watch.begin(name)
        try:
            async with serving(control_file(self._state.run), {"restart": self._restart(supervisor, watch, common)}):
                yield
        finally:
            await watch.close()

    def _restart(self, supervisor: Supervisor, watch: "Watch", common: Common) -> "Order":
        from server.blame import forget
        from server.control import OrderFailed, Say
        from server.roll import Roll, RollError

        roll = Roll(
            supervisor, watch, self._names, lambda place, name: self._part(place, name, common),
            ready_within_s=READY_WITHIN_S, grace_s=self._settings.drain_s + STOP_MARGIN_S,
            forget=lambda name: forget(self._state.run, name),
        )  # fmt: skip

        async def restart(say: Say) -> None:
            if not self._is_up:
                raise OrderFailed("it is still coming up: try again in a moment")
            try:
                await roll.run(say)
            except RollError as error:
                raise OrderFailed(str(error)) from error

        return restart

    async def _serve(self, redis_url: str, announce: Callable[[Running], None]) -> None:
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
        from server.beginning import BeginningError, example, first_table

        within_s = REDIS_WITHIN_S if self._settings.redis_url is None else OTHER_REDIS_WITHIN_S
        try:
            table = await first_table(
                redis_url, self._state, starter=self._settings.starter, is_empty=self._settings.is_empty,
                within_s=within_s,
            )  # fmt: skip
        except BeginningError as error:
            raise UpError(str(error)) from error
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await wait_until_ready(self._ports.api)
        except TimeoutError:
            raise UpError(f"no answer to /v2/health/ready within {READY_WITHIN_S:g} s; see the log above") from None
        return Running(redis_url, table.version, example(table, self._state), time.monotonic() - self._began)

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

    def _part(self, place: str, name: str, common: Common) -> Part:
        """The process called ``name`` for a place. What a gateway keeps on disk belongs to the place."""
        if place.startswith(WORKER):
            return worker(name, common)
        return gateway(name, common, self._ports, self._state.table_cache(place))

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
            failures=death.failures, restart_in_s=death.restart_in_s, killed_for=death.killed_for or None,
        )  # fmt: skip
        if death.part.startswith(WORKER):
            from server.blame import hold_against

            hold_against(death, self._state.run, patience_s=self._settings.patience_s)
        if not self._is_up and death.failures >= HOPELESS_FAILURES:
            hint = f"see {self._state.redis / 'redis.log'}" if death.part == "redis" else "its log is above"
            self._failure = self._failure or UpError(f"{death.part} does not come up ({death.how}): {hint}")
            self._stop.set()

    async def _shut_down(self, supervisor: Supervisor) -> None:
        """Gateways first, so that workers live until the last request has its answer; Redis last."""
        # While we hold the sockets, new connections would queue up for gateways that accept no more.
        for port in self._ports:
            if port is not None:
                port.close()
        grace_s = self._settings.drain_s + STOP_MARGIN_S
        await supervisor.stop(GATEWAY, grace_s)
        await supervisor.stop(WORKER, grace_s)
        await supervisor.stop(REDIS, REDIS_GRACE_S)
