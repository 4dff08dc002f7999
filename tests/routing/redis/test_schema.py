"""The layout of what stands in Redis: beginning, migrating from version 1, and refusing what is newer."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
import redis.asyncio

from routing.document import dump_json
from routing.lease import Lease
from routing.redis.errors import StoreTooNew
from routing.redis.keys import Keys
from routing.store import Store
from routing.table import Table
from tests.routing.tables import example_table

pytestmark = pytest.mark.redis


def as_version_1_wrote_it(table: Table) -> bytes:
    """Its documents had no `canary`, no `state`, no `bytes` and no `replaces`."""
    data = json.loads(dump_json(table))
    for tickets in data["families"].values():
        for ticket in tickets:
            for later in ("state", "bytes", "replaces"):
                del ticket[later]
    for tenant in data["tenants"].values():
        for domain in tenant["domains"].values():
            del domain["canary"]
    return json.dumps(data).encode()


async def write_version_1(raw: redis.asyncio.Redis, namespace: str, tables: list[Table]) -> None:
    """What the release before left behind: these tables, the last one standing, and the lease of a live worker."""
    for table in tables:
        document = as_version_1_wrote_it(table)
        fields: dict[Any, Any] = {"version": str(table.version), "publication": "5f" * 16, "document": document}
        await raw.hset(f"{namespace}:table", mapping=fields)
        await raw.hset(f"{namespace}:table:history", str(table.version), document)
    await raw.set(f"{namespace}:leases:worker:w1", b"{}", px=3_600_000)
    await raw.sadd(f"{namespace}:leases:worker", "w1")


def versions(*numbers: int) -> list[Table]:
    return [msgspec.structs.replace(example_table(), version=number) for number in numbers]


class TestMigration:
    async def test_the_table_and_its_history_are_taken_over(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        tables = versions(6, 7)
        await write_version_1(raw, namespace, tables)
        await store.prepare()
        assert await store.load_table() == tables[1]
        assert await store.load_table(6) == tables[0]
        assert await store.versions() == [6, 7]
        assert (await store.publish(Table(), expect_version=7)).version == 8

    async def test_it_is_an_event(self, store: Store, raw: redis.asyncio.Redis, namespace: str) -> None:
        await write_version_1(raw, namespace, versions(7))
        await store.prepare()
        (event,) = await store.events()
        assert (event.action, event.before, event.after) == ("store.migrate", {"layout": 1}, {"layout": 2})

    async def test_nothing_of_version_1_stays_but_what_runs_out(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        await write_version_1(raw, namespace, versions(7))
        await store.prepare()
        left = [name async for name in raw.scan_iter(f"{namespace}:*")]
        assert left == [f"{namespace}:leases:worker:w1".encode()]
        assert await store.leases("worker") == []

    async def test_any_number_of_processes_may_do_it_at_once(
        self, redis_url: str, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        await write_version_1(raw, namespace, versions(7))
        stores = [Store.connect(redis_url, namespace) for _ in range(8)]
        await asyncio.gather(*(store.prepare() for store in stores for _ in range(3)))
        assert len(await stores[0].events()) == 1
        assert await stores[0].versions() == [7]
        for store in stores:
            await store.close()

    async def test_a_table_of_version_2_is_never_overwritten(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        published = await store.publish(Table())
        await raw.delete(Keys(namespace).schema)
        await write_version_1(raw, namespace, versions(7))
        await store.prepare()
        assert await store.load_table() == published

    async def test_a_gateway_that_watches_migrates_too(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        """Redis may have been away when the process began."""
        (table,) = versions(7)
        await write_version_1(raw, namespace, [table])
        tables = store.watch_table()
        assert await asyncio.wait_for(anext(tables), 30.0) == table
        await tables.aclose()

    async def test_values_that_were_never_ours_stay(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        await raw.set(f"{namespace}:table", "somebody else's")
        await store.prepare()
        assert await raw.get(f"{namespace}:table") == b"somebody else's"
        assert await store.load_table() is None


class TestVersion:
    async def test_an_empty_store_is_given_the_layout_and_nothing_else(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        await store.prepare()
        names = [name async for name in raw.scan_iter(f"*{namespace}*")]
        assert names == [Keys(namespace).schema.encode()]
        assert await raw.get(Keys(namespace).schema) == b"2"

    async def test_a_commit_writes_it_too(self, store: Store, raw: redis.asyncio.Redis, namespace: str) -> None:
        await store.publish(Table())
        assert await raw.get(Keys(namespace).schema) == b"2"

    async def test_a_later_layout_is_refused_in_words(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        await raw.set(Keys(namespace).schema, 3)
        with pytest.raises(StoreTooNew, match="holds layout 3 of our data, this program knows 2"):
            await store.prepare()
        assert await raw.get(Keys(namespace).schema) == b"3"

    def test_no_lease_of_version_1_reads_as_one_of_ours(self, namespace: str) -> None:
        """The two layouts share no name."""
        keys, lease = Keys(namespace), Lease(kind="worker", name="w1", address="unix:/run/w1.sock", pid=41)
        for name in (keys.table, keys.history, keys.names("worker"), keys.lease("worker", lease.name)):
            assert name.startswith(f"{{{namespace}}}:")
