"""The life of one gateway process: which parts there are, how they start, and how they drain.

Owns the composition of the parts and their order: worker links and lease first, then accounts and table,
then the ports; on stopping, the data port drains first. `server.run_gateway` makes the
Settings from options; nothing here or below reads an option.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from routing.lease import Lease
from routing.redis.shares import Shares
from routing.redis.trials import Trials
from routing.store import Store, StoreUnavailable
from server import address
from server.accounts import AccountFollower, Accounts
from server.admin.app import add_admin_routes, create_admin_app
from server.admin.counted import CountedRegistrations
from server.admin.registration import Registrations
from server.api import create_app
from server.catalogue import Catalogue
from server.control_metrics import RedisMetrics
from server.dashboard.board import Dashboard
from server.dashboard.routes import add_dashboard_routes
from server.dispatch import Dispatcher
from server.doorman import Doorman
from server.errors import NotReady
from server.fleet import WorkerFleet
from server.garbage import settle_garbage
from server.gate.runner import Gate
from server.gateway import Gateway
from server.http_server import HttpServer
from server.last_known import LastKnown
from server.limits import Limiter
from server.observing import Observing, observer
from server.ops import Gatherer, MetricsListener, create_ops_app
from server.overseer import Overseer
from server.surge import Surge
from server.tables import TableFollower
from server.telemetry import GatewayMetrics
from tickets.registry import Registry

LEASE_TTL_S = 3.0
LEASE_EVERY_S = 1.0
OPS_DRAIN_S = 1.0
FIRST_WORKER_S = 1.0
"""How long a start waits for a link to a known worker: until then every request would be refused."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    """What a gateway was asked for. Sizes in bytes, times in seconds."""

    name: str
    redis_url: str
    registry: Path
    run_dir: Path
    data: socket.socket
    ops: socket.socket
    max_in_flight: int
    max_body_bytes: int
    table_cache: Path | None
    drain_s: float
    namespace: str = "tombola"
    max_connections: int = 10_000
    admin: socket.socket | None = None
    """A port of its own for the admin API; None: it is on the data port."""
    observing: Observing = Observing()  # noqa: RUF009 - frozen
    """Traces and the request log."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """What one gateway consists of."""

    gateway: Gateway
    tables: TableFollower
    accounts: AccountFollower
    limiter: Limiter
    registrations: Registrations
    overseer: Overseer
    dashboard: Dashboard
    redis: RedisMetrics
    metrics: CollectorRegistry
    data: HttpServer
    ops: HttpServer
    admin: HttpServer | None

    @property
    def servers(self) -> list[HttpServer]:
        """In the order in which they drain."""
        return [self.data, *([self.admin] if self.admin is not None else []), self.ops]


async def run(settings: Settings, stop: asyncio.Event, listening: Callable[[], None] = lambda: None) -> None:
    """Serve until ``stop``; then finish what is in flight and return. ``listening``: called when all ports answer."""
    store = Store.connect(settings.redis_url, settings.namespace)
    try:
        with contextlib.suppress(StoreUnavailable):
            await store.prepare()
        parts = _compose(settings, store)
        dispatcher = parts.gateway.dispatcher
        async with observer(
            settings.observing, process=settings.name, version=parts.gateway.version, table=lambda: dispatcher.table
        ) as parts.gateway.observer:
            await _run(settings, store, parts, stop, listening)
    finally:
        await store.close()


def _compose(settings: Settings, store: Store) -> _Parts:
    """All parts, wired; nothing runs yet."""
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    tickets = Registry(settings.registry)
    cache = settings.table_cache
    fleet = WorkerFleet(store, LastKnown(_beside(cache, "workers")))
    dispatcher = Dispatcher(fleet, metrics, max_in_flight=settings.max_in_flight)
    catalogue = Catalogue(tickets)
    gateway = Gateway(dispatcher, catalogue, fleet, Doorman(), _version())
    limiter = Limiter(Shares(store.connection), settings.name, lambda: gateway.doorman.accounts)
    registrations = CountedRegistrations(store, tickets, Gate(), metrics.control, manifest=catalogue.manifest)
    overseer = Overseer(
        store, Trials(store.connection), settings.name, lambda: dispatcher.table, dispatcher.canaries.counts,
        metrics.control.judged,
    )  # fmt: skip
    gatherer = Gatherer(store, settings.name, registry)
    dashboard = Dashboard(gateway, store, gatherer.dumps, name=settings.name, judge=overseer)
    app = create_app(gateway, max_body_bytes=settings.max_body_bytes, limiter=limiter)
    admin = app if settings.admin is None else create_admin_app(gateway, registrations, overseer)
    if settings.admin is None:
        add_admin_routes(app, gateway, registrations, overseer)
    add_dashboard_routes(admin, gateway, dashboard)
    surge = Surge(lambda: dispatcher.usual_deadline_ms, metrics.unseen.inc)

    def use_accounts(accounts: Accounts) -> None:
        gateway.doorman.use_accounts(accounts)
        metrics.control.use_accounts(len(accounts))

    loop = asyncio.get_running_loop()
    metrics.control.table_stale_seconds.set_function(
        lambda: round(max(0.0, loop.time() - fleet.redis_seen_at - 1.0), 1)
    )
    fleet.on_change = lambda: _log_readiness(gateway)
    return _Parts(
        gateway=gateway,
        tables=TableFollower(store, catalogue, gateway.use_table, LastKnown(cache)),
        accounts=AccountFollower(store, use_accounts, LastKnown(_beside(cache, "accounts"))),
        limiter=limiter,
        registrations=registrations,
        overseer=overseer,
        dashboard=dashboard,
        redis=metrics.control.redis,
        metrics=registry,
        data=HttpServer(
            app, settings.data, drain_s=settings.drain_s, max_connections=settings.max_connections, admit=surge.admit
        ),
        ops=HttpServer(create_ops_app(gateway, gatherer), settings.ops, drain_s=OPS_DRAIN_S),
        admin=HttpServer(admin, settings.admin, drain_s=settings.drain_s) if settings.admin is not None else None,
    )


async def _run(
    settings: Settings, store: Store, parts: _Parts, stop: asyncio.Event, listening: Callable[[], None]
) -> None:
    fleet = parts.gateway.fleet
    workers = partial(_reachable, parts)
    async with _metrics_listener(settings, parts.metrics, workers) as where:
        lease = Lease(kind="gateway", name=settings.name, address=str(where), pid=os.getpid())
        background = [
            asyncio.create_task(fleet.run(), name="fleet"),
            asyncio.create_task(_keep_lease(store, lease, parts.redis), name="lease"),
        ]
        try:
            await parts.accounts.start()
            await parts.tables.start()
            await fleet.settle(FIRST_WORKER_S)
            settle_garbage()
            for name, part in (("tables", parts.tables), ("accounts", parts.accounts), ("limits", parts.limiter),
                               ("registrations", parts.registrations), ("overseer", parts.overseer),
                               ("dashboard", parts.dashboard)):  # fmt: skip
                background.append(asyncio.create_task(part.run(), name=name))
            await _serve(parts, background, stop, listening)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await parts.registrations.close()
            await parts.gateway.dispatcher.close()
            with contextlib.suppress(StoreUnavailable):
                await store.withdraw(lease)
    log.info("stopped", name=settings.name)


async def _serve(
    parts: _Parts, background: list[asyncio.Task[None]], stop: asyncio.Event, listening: Callable[[], None]
) -> None:
    """All ports until ``stop`` or until a background task fails; then drain, one port after the other."""
    serving = [asyncio.create_task(server.run_until_stopped(), name="serve") for server in parts.servers]
    stopping = asyncio.create_task(stop.wait(), name="stop")
    log.info("listening", data=_shown(parts.data), ops=_shown(parts.ops), admin=_shown(parts.admin or parts.data))
    listening()
    _log_readiness(parts.gateway)
    try:
        await asyncio.wait([*serving, *background, stopping], return_when=asyncio.FIRST_COMPLETED)
        parts.gateway.is_draining = True
        log.info("draining", in_flight=parts.gateway.dispatcher.in_flight)
        for server, task in zip(parts.servers, serving, strict=True):
            server.stop()
            await task
    finally:
        stopping.cancel()
        for task in serving:
            task.cancel()
        await asyncio.gather(stopping, *serving, return_exceptions=True)
    for ended in background:
        if ended.done():
            ended.result()  # a part that must run for ever has failed: say so and end with an error


def _reachable(parts: _Parts) -> list[str] | None:
    """The workers that may be sent to; None while the data port does not answer yet."""
    return parts.gateway.fleet.workers if parts.data.started else None


@contextlib.asynccontextmanager
async def _metrics_listener(
    settings: Settings, registry: CollectorRegistry, workers: Callable[[], list[str] | None]
) -> AsyncIterator[address.Address]:
    """The wire address at which this process gives its metrics and answers probes."""
    wanted = address.of_process(settings.run_dir, settings.name)
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    server, where = await address.serve(wanted, lambda: MetricsListener(settings.name, registry, workers))
    try:
        yield where
    finally:
        server.close()
        address.remove(where)


def _beside(cache: Path | None, what: str) -> Path | None:
    """Where something else is kept, beside the table."""
    return cache.with_name(f"{cache.name}.{what}") if cache is not None else None


async def _keep_lease(store: Store, lease: Lease, redis: RedisMetrics) -> None:
    while True:
        with contextlib.suppress(StoreUnavailable), redis.trip():
            await store.announce(lease, LEASE_TTL_S)
        await asyncio.sleep(LEASE_EVERY_S)


def _log_readiness(gateway: Gateway) -> None:
    try:
        gateway.check_ready()
    except NotReady as error:
        log.info("not_ready", reason=error.message)
    else:
        log.info("ready", workers=gateway.fleet.linked)


def _shown(server: HttpServer) -> str:
    host, port = server.listener.getsockname()[:2]
    return f"{host}:{port}"


def _version() -> str:
    try:
        return importlib.metadata.version("tombola")
    except importlib.metadata.PackageNotFoundError:
        return "0+checkout"
