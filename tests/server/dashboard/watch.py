"""A dashboard under test: its routes over real HTTP beside the admin desk, real Redis, metrics of two real registries.

Samples are taken when a test says so. It holds no assertions.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from routing.redis.trials import Trials
from routing.store import Store
from server import openapi
from server.api import add_error_handlers
from server.dashboard.board import Dashboard
from server.dashboard.routes import add_dashboard_routes
from server.exposition import dump
from server.http_server import HttpServer
from server.listen import listen
from server.methods import HeadAndOptions
from server.overseer import Overseer
from server.telemetry import GatewayMetrics
from server.worker_metrics import WorkerMetrics
from tests.server.admin.desk import Desk, desk


class Watch:
    """The running parts. ``keys``: the desk's."""

    def __init__(self, house: Desk) -> None:
        self.desk = house
        self.gateway_registry, self.worker_registry = CollectorRegistry(), CollectorRegistry()
        self.metrics = GatewayMetrics(self.gateway_registry)
        self.worker = WorkerMetrics(self.worker_registry)
        self.collected = 0
        self.dumps: dict[str, bytes] | None = None
        """What processes answer instead of what they have counted."""
        table = house.gateway.dispatcher
        overseer = Overseer(house.store, Trials(house.store.connection), "gw", lambda: table.table, dict)
        self.dashboard = Dashboard(house.gateway, house.store, self.collect, name="gw", judge=overseer)
        self.app = FastAPI(title="watch", redirect_slashes=False, docs_url=None, redoc_url=None)
        self.app.add_middleware(HeadAndOptions, gateway=house.gateway)
        add_dashboard_routes(self.app, house.gateway, self.dashboard)
        add_error_handlers(self.app, house.gateway)
        self.app.openapi = lambda: openapi.document(self.app)  # type: ignore[method-assign]
        self.server = HttpServer(self.app, listen("127.0.0.1", 0, "--port"), drain_s=2.0)
        self.url = "http://{}:{}".format(*self.server.listener.getsockname()[:2])

    async def collect(self) -> dict[str, bytes]:
        """As `Gatherer.dumps`."""
        self.collected += 1
        if self.dumps is not None:
            return self.dumps
        return {"gw": dump(self.gateway_registry), "w": dump(self.worker_registry)}

    async def get(self, path: str, key: str | None = "operator", **options: Any) -> httpx.Response:
        """The response to one request; ``key``: a name of the desk's."""
        return await self.desk.at(self.url, "GET", path, key, **options)

    async def overview(self, key: str = "operator", window_s: int = 60) -> Any:
        """The JSON that a key gets."""
        response = await self.get(f"/v1/overview?window_s={window_s}", key)
        response.raise_for_status()
        return response.json()

    def ask(self, tenant: str, domain: str, ticket: str, count: int = 1) -> None:
        """So many requests were answered."""
        for _ in range(count):
            self.metrics.record(
                tenant=tenant, domain=domain, tier="accurate", outcome="ok", total_s=0.004, queue_s=0.001, run_s=0.002,
                met_sla=True, ticket=ticket, step=0,
            )  # fmt: skip


@contextlib.asynccontextmanager
async def watch(store: Store, folder: Path) -> AsyncIterator[Watch]:
    """Start everything; stop it at the end."""
    async with desk(store, folder) as house:
        it = Watch(house)
        serving = asyncio.create_task(it.server.run_until_stopped())
        try:
            yield it
        finally:
            await house.close()  # connections that are kept alive would be waited for
            it.server.stop()
            await serving
            it.dashboard.close()
