"""A gateway's admin side under test: real HTTP, real Redis, the real gate; no worker, nobody infers.

Two tenants: acme has the domain `home`, served by a shared family of one tiny ticket, and keys of all roles; rival has
no domain yet. Everything runs in the test's own event loop.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from routing.access import make_key
from routing.account import OPERATOR, Account, Limits, Policy
from routing.change import Change
from routing.event import Event
from routing.store import Store
from routing.table import Domain, FamilyTicket, Table, Tenant, Tier
from server.accounts import AccountFollower
from server.admin.registration import Registrations
from server.admin.tickets_api import add_ticket_routes
from server.api import create_app
from server.catalogue import Catalogue
from server.dispatch import Dispatcher
from server.doorman import Doorman
from server.fleet import WorkerFleet
from server.gate.runner import Gate
from server.gateway import Gateway
from server.http_server import HttpServer
from server.last_known import LastKnown
from server.listen import listen
from server.tables import TableFollower
from server.telemetry import GatewayMetrics
from tests.tiny import tiny_bundle
from tickets.registry import Registry

WAIT_S = 60.0


class Registrar:
    """The running parts, and the keys: ``operator``, ``acme`` (admin), ``acme.register``, ``acme.call``, ``rival``."""

    def __init__(
        self, store: Store, registry: Registry, registrations: Registrations, gateway: Gateway, url: str,
        keys: dict[str, str], ticket: str,
    ) -> None:  # fmt: skip
        self.store = store
        self.registry = registry
        self.registrations = registrations
        self.gateway = gateway
        self.url = url
        self.keys = keys
        self.ticket = ticket
        """The promoted one of the shared family."""

    def client(self, key: str = "acme", **headers: str) -> httpx.AsyncClient:
        """A client with one of the keys."""
        given = {"Authorization": f"Bearer {self.keys[key]}"} | headers
        return httpx.AsyncClient(base_url=self.url, headers=given, timeout=WAIT_S)

    async def upload(self, data: Any, key: str = "acme", tenant: str = "acme", query: str = "", **headers: str) -> Any:
        """The response to an upload."""
        async with self.client(key) as client:
            return await client.post(f"/v1/tenants/{tenant}/tickets{query}", content=data, headers=headers)

    async def post(self, path: str, body: Any = None, key: str = "acme", **headers: str) -> httpx.Response:
        """The response to a POST below the tenant acme."""
        async with self.client(key) as client:
            return await client.post(f"/v1/tenants/acme{path}", json=body, headers=headers)

    async def get(self, path: str, key: str = "acme", tenant: str = "acme") -> httpx.Response:
        """The response to a GET below a tenant."""
        async with self.client(key) as client:
            return await client.get(f"/v1/tenants/{tenant}{path}")

    async def table(self) -> Table:
        """The table that stands."""
        table = await self.store.load_table()
        assert table is not None
        return table

    async def change(self, tenant: str, **changes: Any) -> None:
        """Give a tenant's account other limits or another policy."""
        import msgspec

        account = (await self.store.load_accounts())[tenant]
        new = msgspec.structs.replace(account, **changes)
        await self.store.commit(Change(event=Event(action="tenant.change", actor="test"), accounts=(new,)))

    def left(self) -> list[str]:
        """What lies among the incoming uploads, but for the lock."""
        folder = self.registry.root / ".incoming"
        return sorted(path.name for path in folder.glob("*") if path.name != ".lock") if folder.exists() else []

    async def is_clean(self) -> bool:
        """Whether no upload is left, once those whose client has gone have been cleared away."""
        async with asyncio.timeout(WAIT_S):
            while self.left():  # noqa: ASYNC110 - another task's thread removes them
                await asyncio.sleep(0.01)
        return True


@contextlib.asynccontextmanager
async def registrar(
    store: Store, folder: Path, gate: Gate | None = None, limits: Limits | None = None, policy: Policy | None = None,
    **options: Any,
) -> AsyncIterator[Registrar]:  # fmt: skip
    """Start everything; stop it at the end. ``limits`` and ``policy`` are acme's, ``options`` the Registrations'."""
    registry = Registry(folder / "registry")
    ticket = registry.put(tiny_bundle("accurate", 0.95))
    keys = await _settle(store, ticket, limits or Limits(), policy or Policy())
    fleet = WorkerFleet(store)
    dispatcher = Dispatcher(fleet, GatewayMetrics(CollectorRegistry()), max_in_flight=8)
    catalogue = Catalogue(registry)
    gateway = Gateway(dispatcher, catalogue, fleet, Doorman(), "test")
    registrations = Registrations(store, registry, gate or Gate(), manifest=catalogue.manifest, **options)
    tables = TableFollower(store, catalogue, gateway.use_table, LastKnown(None))
    accounts = AccountFollower(store, gateway.doorman.use_accounts, LastKnown(None))
    await accounts.start()
    await tables.start()
    app = create_app(gateway)
    add_ticket_routes(app, gateway, registrations)
    listener = listen("127.0.0.1", 0, "--port")
    server = HttpServer(app, listener, drain_s=2.0)
    url = "http://{}:{}".format(*listener.getsockname()[:2])
    tasks = [asyncio.create_task(one) for one in (server.run_until_stopped(), tables.run(), accounts.run())]
    try:
        yield Registrar(store, registry, registrations, gateway, url, keys, ticket)
    finally:
        server.stop()
        await tasks[0]
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await registrations.close()
        await fleet.close()


async def _settle(store: Store, ticket: str, limits: Limits, policy: Policy) -> dict[str, str]:
    """Publish the table and the accounts; the keys."""
    made = {
        "operator": make_key("admin", 0.0), "acme": make_key("admin", 0.0), "acme.register": make_key("register", 0.0),
        "acme.call": make_key("call", 0.0), "rival": make_key("admin", 0.0),
    }  # fmt: skip
    of_acme = [kept for name, (_, kept) in made.items() if name.startswith("acme")]
    accounts = (
        Account(name=OPERATOR, keys=[made["operator"][1]]),
        Account(name="acme", keys=of_acme, limits=limits, policy=policy),
        Account(name="rival", keys=[made["rival"][1]]),
    )
    table = Table(
        families={"home": [FamilyTicket(id=ticket, tier="accurate", quality=0.95, service_ms=1.0)]},
        tenants={
            "acme": Tenant(
                domains={
                    "home": Domain(family="home", default_tier="accurate", tiers={"accurate": Tier(deadline_ms=500)})
                }
            ),
            "rival": Tenant(),
        },
    )
    await store.commit(Change(event=Event(action="test.settle", actor="test"), table=table, accounts=accounts))
    return {name: key for name, (key, _) in made.items()}
