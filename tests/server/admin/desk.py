"""An operator's desk under test: a gateway with the whole admin API, over real HTTP and a real Redis; no worker.

Tenants: acme has keys of all roles, a domain on a shared family and one on its own; rival has an admin key and a domain
on the shared family. The admin API is on the data port and on a port of its own, and a second data port is without it.
Everything runs in the test's own event loop.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from routing.access import make_key
from routing.account import OPERATOR, Account
from routing.change import Change
from routing.event import Event
from routing.store import Store
from routing.table import Domain, FamilyTicket, Table, Tenant, Tier
from server.accounts import AccountFollower
from server.admin.app import add_admin_routes, create_admin_app
from server.admin.registration import Registrations
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

WAIT_S = 30.0
KEYS = ("operator", "acme", "acme.register", "acme.call", "rival")
OWN = "acme/own"


class Desk:
    """The running parts. ``keys`` by name: see `KEYS`."""

    def __init__(
        self, store: Store, gateway: Gateway, urls: list[str], keys: dict[str, str], tickets: Sequence[str]
    ) -> None:
        self.store = store
        self.gateway = gateway
        self.url, self.admin_url, self.bare_url = urls
        self.keys = keys
        self.shared, self.own = tickets
        self._client = httpx.AsyncClient(timeout=WAIT_S)

    async def ask(self, method: str, path: str, key: str | None = "operator", **options: Any) -> httpx.Response:
        """The response to one request at the data port; ``key``: a name of `KEYS`, or a key itself."""
        return await self.at(self.url, method, path, key, **options)

    async def at(
        self, url: str, method: str, path: str, key: str | None = "operator", **options: Any
    ) -> httpx.Response:
        """The response to one request at one of the ports."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {self.keys.get(key, key)}"
        return await self._client.request(method, url + path, headers=headers, **options)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def is_let_in(self, key: str, is_known: bool = True) -> bool:
        """Wait until the gateway knows a key, or does not know it any more."""
        async with asyncio.timeout(WAIT_S):
            while ((await self.ask("GET", "/v1/tenants", key)).status_code != 401) is not is_known:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return True

    async def table(self) -> Table:
        """The table that stands."""
        table = await self.store.load_table()
        assert table is not None
        return table

    async def account(self, name: str = "acme") -> Account:
        """An account that stands."""
        return (await self.store.load_accounts())[name]


@contextlib.asynccontextmanager
async def desk(store: Store, folder: Path) -> AsyncIterator[Desk]:
    """Start everything; stop it at the end."""
    registry = Registry(folder / "registry")
    tickets = [registry.put(tiny_bundle("accurate", 0.95)), registry.put(tiny_bundle("fast", 0.9))]
    keys = await _settle(store, *tickets)
    fleet = WorkerFleet(store)
    catalogue = Catalogue(registry)
    gateway = Gateway(Dispatcher(fleet, GatewayMetrics(CollectorRegistry())), catalogue, fleet, Doorman(), "test")
    registrations = Registrations(store, registry, Gate())
    tables = TableFollower(store, catalogue, gateway.use_table, LastKnown(None))
    accounts = AccountFollower(store, gateway.doorman.use_accounts, LastKnown(None))
    await accounts.start()
    await tables.start()
    both, bare = create_app(gateway), create_app(gateway)
    add_admin_routes(both, gateway, registrations)
    servers = [_serve(app) for app in (both, create_admin_app(gateway, registrations), bare)]
    urls = ["http://{}:{}".format(*server.listener.getsockname()[:2]) for server in servers]
    serving = [asyncio.create_task(server.run_until_stopped()) for server in servers]
    following = [asyncio.create_task(one) for one in (tables.run(), accounts.run())]
    house = Desk(store, gateway, urls, keys, tickets)
    try:
        yield house
    finally:
        await house.close()
        for server in servers:
            server.stop()
        await asyncio.gather(*serving)
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await registrations.close()
        await fleet.close()


def _serve(app: FastAPI) -> HttpServer:
    return HttpServer(app, listen("127.0.0.1", 0, "--port"), drain_s=2.0)


async def _settle(store: Store, shared: str, own: str) -> dict[str, str]:
    """Publish the table and the accounts; the keys."""
    made = {name: make_key("admin", 0.0, label=name) for name in KEYS}
    made["acme.register"], made["acme.call"] = make_key("register", 0.0), make_key("call", 0.0)
    of_acme = [kept for name, (_, kept) in made.items() if name.startswith("acme")]
    accounts = (
        Account(name=OPERATOR, keys=[made["operator"][1]]),
        Account(name="acme", keys=of_acme),
        Account(name="rival", keys=[made["rival"][1]]),
    )
    home = Domain(family="home", default_tier="accurate", tiers={"accurate": Tier(deadline_ms=500)})
    table = Table(
        families={
            "home": [FamilyTicket(id=shared, tier="accurate", quality=0.95, service_ms=1.0)],
            OWN: [FamilyTicket(id=own, tier="accurate", quality=0.9, service_ms=1.0, bytes=3000)],
        },
        tenants={
            "acme": Tenant(domains={"home": home, "own": msgspec.structs.replace(home, family=OWN)}),
            "rival": Tenant(domains={"home": home}),
        },
    )
    event = Event(action="test.settle", actor="test")
    await store.commit(Change(event=event, table=table, accounts=accounts, reports={("acme", own): b"{}"}))
    return {name: key for name, (key, _) in made.items()}
