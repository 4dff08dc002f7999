"""Moves in a running installation, made as an admin's process would: a file into the registry, a change into Redis.

Owns no rules: those are `routing.lifecycle`'s. Each move waits until every gateway works with the table it made.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from routing.change import Change
from routing.event import Event
from routing.lifecycle import promote, register, retire, rollback, start_canary
from routing.store import Store
from routing.table import FamilyTicket, Table
from server.starter import TENANT
from tests.e2e.installation import WAIT_S, Installation
from tickets.bundle import TicketId
from tickets.registry import Registry

DOMAIN = "home"
WHO: dict[str, Any] = {"tenant": TENANT, "actor": "shell/somebody@here"}


class Mover:
    """Makes moves in one installation."""

    def __init__(self, up: Installation, gateways: int = 1) -> None:
        self._up = up
        self._gateways = gateways
        self.store = Store.connect(up.redis_url)
        self.registry = Registry(up.state / "registry")

    async def register(self, bundle: bytes, *, tier: str, quality: float) -> TicketId:
        """A new ticket of the domain, callable by its id."""
        id_ = self.registry.put(bundle)
        ticket = FamilyTicket(id=id_, tier=tier, quality=quality, service_ms=1.0, bytes=len(bundle))
        await self._move(lambda table: register(table, **WHO, domain=DOMAIN, tier=tier, ticket=ticket))
        return id_

    async def promote(self, ticket: str) -> None:
        await self._move(lambda table: promote(table, **WHO, ticket=ticket, domain=DOMAIN))

    async def start_canary(self, ticket: str, **options: Any) -> None:
        await self._move(lambda table: start_canary(table, **WHO, ticket=ticket, domain=DOMAIN, now=1.0, **options))

    async def roll_back(self) -> None:
        await self._move(lambda table: rollback(table, **WHO, domain=DOMAIN))

    async def retire(self, ticket: str) -> None:
        await self._move(lambda table: retire(table, **WHO, ticket=ticket, domain=DOMAIN))

    async def states(self) -> dict[str, str]:
        """The states of the domain's tickets, as the table in Redis says."""
        table = await self._table()
        return {t.id: t.state for t in table.families[table.tenants[TENANT].domains[DOMAIN].family]}

    async def comes_to(self, ticket: str, state: str) -> None:
        """Wait until somebody else has brought a ticket to a state."""
        async with asyncio.timeout(WAIT_S):
            while (await self.states())[ticket] != state:  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.05)

    async def _table(self) -> Table:
        table = await self.store.load_table()
        assert table is not None
        return table

    async def _move(self, move: Callable[[Table], tuple[Table, Event]]) -> None:
        table, event = move(await self._table())
        done = await self.store.commit(Change(event=event, table=table))
        assert done.table is not None
        await self.used(done.table.version)

    async def used(self, version: int) -> None:
        """Wait until all gateways work with this table, or a later one."""
        async with httpx.AsyncClient() as client:

            async def versions() -> list[float]:
                page = (await client.get(f"{self._up.ops}/metrics")).text
                lines = [line for line in page.splitlines() if line.startswith("tombola_table_version{")]
                return [float(line.rpartition(" ")[2]) for line in lines]

            found: list[float] = []
            while len(found) < self._gateways or min(found) < version:
                found = await versions()
