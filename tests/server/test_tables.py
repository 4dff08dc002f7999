"""How a gateway follows its table while it looks for tickets that are missing."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from routing.store import Store
from routing.table import Table
from server import tables
from server.catalogue import Catalogue
from server.last_known import LastKnown
from server.tables import TableFollower
from tests.server.fake_worker import until
from tests.server.gateways import tiny_table
from tickets.registry import Registry

pytestmark = pytest.mark.redis


class SlowCatalogue(Catalogue):
    """A catalogue on a slow disk; it counts the reads that overlap."""

    reading = 0
    most = 0

    async def read(self, table: Table) -> None:
        self.reading += 1
        self.most = max(self.most, self.reading)
        await asyncio.sleep(0.01)
        await super().read(table)
        self.reading -= 1


async def test_looking_for_missing_tickets_does_not_mix_with_a_new_table(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what the old table misses would be remembered of the new one."""
    monkeypatch.setattr(tables, "MISSING_RETRY_S", 0.001)
    catalogue = SlowCatalogue(Registry(tmp_path))
    used: list[int] = []
    follower = TableFollower(store, catalogue, lambda table: used.append(table.version), LastKnown(None))
    await store.publish(tiny_table("a" * 64, "b" * 64))
    await follower.start()
    running = asyncio.create_task(follower.run())
    try:
        for digit in "cdef":
            version = (await store.publish(tiny_table(digit * 64, digit * 63 + "0"))).version
            await until(lambda version=version: used[-1] == version)  # type: ignore[misc]
        await until(lambda: catalogue.missing == {"f" * 64, "f" * 63 + "0"})
        assert catalogue.most == 1
        assert msgspec.json.encode(used) == b"[1,2,3,4,5]"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
