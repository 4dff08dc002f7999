"""The store against a real Redis: what it promises to gateways, workers and operators."""

import asyncio

import msgspec
import pytest
import redis.asyncio

from routing.document import DocumentError, parse_toml
from routing.keys import new_key
from routing.lease import Lease
from routing.redis.keys import Keys
from routing.store import HISTORY_VERSIONS, Store, StoreCorrupt, VersionConflict
from routing.table import Table
from tests.routing.tables import example_table

pytestmark = pytest.mark.redis

WORKER = Lease(kind="worker", name="w1", address="unix:/run/w1.sock", pid=41)
PATIENCE_S = 30.0
NEVER_S = 3600.0


TIER = example_table().tenants["acme"].domains["banking"].tiers["fast"]


class TestTable:
    async def test_an_empty_store_has_no_table(self, store: Store) -> None:
        assert await store.load_table() is None
        assert await store.versions() == []

    async def test_what_is_published_is_loaded_again(self, store: Store) -> None:
        table = example_table()
        published = await store.publish(table)
        assert published == msgspec.structs.replace(table, version=1)
        assert await store.load_table() == published

    async def test_each_publication_gets_the_next_version_whatever_the_document_says(self, store: Store) -> None:
        await store.publish(example_table())
        second = await store.publish(msgspec.structs.replace(example_table(), version=700))
        assert second.version == 2

    async def test_an_edit_of_an_old_version_is_refused_and_changes_nothing(self, store: Store) -> None:
        await store.publish(example_table(), expect_version=0)
        standing = await store.publish(example_table(), expect_version=1)
        with pytest.raises(VersionConflict) as conflict:
            await store.publish(Table(), expect_version=1)
        assert (conflict.value.expected, conflict.value.current) == (1, 2)
        assert await store.load_table() == standing

    async def test_the_same_document_again_is_an_edit_like_any_other(self, store: Store) -> None:
        await store.publish(example_table(), expect_version=0)
        with pytest.raises(VersionConflict):
            await store.publish(example_table(), expect_version=0)
        assert (await store.publish(example_table(), expect_version=1)).version == 2

    async def test_concurrent_publications_all_count_and_none_is_half_written(self, store: Store) -> None:
        families = [example_table(fast=msgspec.structs.replace(TIER, deadline_ms=float(i))) for i in range(1, 9)]
        published = await asyncio.gather(*(store.publish(table) for table in families))
        assert sorted(table.version for table in published) == list(range(1, 9))
        assert await store.load_table() == max(published, key=lambda table: table.version)

    async def test_of_two_edits_of_one_version_exactly_one_wins(self, store: Store) -> None:
        outcomes = await asyncio.gather(
            store.publish(example_table(), expect_version=0),
            store.publish(Table(), expect_version=0),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Table", "VersionConflict"]

    async def test_an_inconsistent_table_is_never_published(self, store: Store) -> None:
        with pytest.raises(DocumentError, match=r"families\.banking"):
            await store.publish(Table(families={"banking": []}))
        assert await store.load_table() is None

    async def test_earlier_versions_stay_readable_and_their_number_is_bounded(self, store: Store) -> None:
        first = await store.publish(example_table())
        assert await store.load_table(1) == first
        for _ in range(HISTORY_VERSIONS):
            await store.publish(Table())
        assert await store.versions() == list(range(2, HISTORY_VERSIONS + 2))
        assert await store.load_table(1) is None

    async def test_a_document_that_does_not_read_is_named_and_publishing_heals_it(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        for hostile in (b"", b"\xff\xfe", b"{}x", b'{"families": 3}', b'{"tenants":{"a":{"extra":1}}}', b"[" * 100_000):
            await raw.hset(Keys(namespace).table, mapping={"version": 1, "publication": "x", "document": hostile})
            with pytest.raises(StoreCorrupt, match="publish it again"):
                await store.load_table()
        assert (await store.publish(example_table())).version == 2
        assert await store.load_table() is not None

    async def test_a_foreign_value_under_our_name_is_named_and_publishing_replaces_it(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        await raw.set(Keys(namespace).table, "not ours")
        with pytest.raises(StoreCorrupt, match="something else"):
            await store.load_table()
        assert await store.publish(example_table()) == await store.load_table()

    async def test_namespaces_do_not_mix(self, store: Store, redis_url: str, namespace: str) -> None:
        other = Store.connect(redis_url, namespace=f"{namespace}.b")
        await store.publish(example_table())
        await store.announce(WORKER, ttl_s=NEVER_S)
        assert await other.load_table() is None
        assert await other.leases("worker") == []
        await other.close()

    async def test_no_api_key_reaches_redis(self, store: Store, raw: redis.asyncio.Redis, namespace: str) -> None:
        """Only hashes do: every value of every kind is looked at."""
        key = new_key()
        published = await store.publish(parse_toml(f'[tenants.acme]\nkeys = ["{key}"]'.encode()))
        found = {}
        async for name in raw.scan_iter(f"{{{namespace}}}*"):
            found[name.decode()] = str(await read_any(raw, name))
        keys = Keys(namespace)
        assert {keys.table, keys.history, keys.events, keys.schema} <= found.keys()
        assert not [name for name, value in found.items() if key[3:] in value]
        with_hash = [name for name, value in found.items() if published.tenants["acme"].key_hashes[0] in value]
        assert sorted(with_hash) == sorted([keys.table, keys.history])


async def read_any(raw: redis.asyncio.Redis, name: bytes) -> object:
    """All that stands under a name, whatever kind it is."""
    match await raw.type(name):
        case b"hash":
            return await raw.hgetall(name)
        case b"stream":
            return await raw.xrange(name)
        case b"set":
            return await raw.smembers(name)
        case b"zset":
            return await raw.zrange(name, 0, -1)
        case _:
            return await raw.get(name)


class TestLeases:
    async def test_an_announced_lease_is_listed_under_its_kind(self, store: Store) -> None:
        gateway = Lease(kind="gateway", name="w1", address="unix:/run/g1.sock", pid=42)
        await store.announce(WORKER, ttl_s=NEVER_S)
        await store.announce(gateway, ttl_s=NEVER_S)
        assert await store.leases("worker") == [WORKER]
        assert await store.leases("gateway") == [gateway]

    async def test_leases_come_ordered_by_name_and_a_repeated_one_once(self, store: Store) -> None:
        leases = [msgspec.structs.replace(WORKER, name=name) for name in ("w3", "w1", "w2", "w1")]
        for lease in leases:
            await store.announce(lease, ttl_s=NEVER_S)
        assert [lease.name for lease in await store.leases("worker")] == ["w1", "w2", "w3"]

    async def test_a_lease_that_is_not_renewed_expires_and_leaves_nothing(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        await store.announce(WORKER, ttl_s=0.02)
        while await store.leases("worker"):  # noqa: ASYNC110 - the clock that counts is Redis's
            await asyncio.sleep(0.01)
        assert [name async for name in raw.scan_iter(f"{{{namespace}}}*")] == []

    async def test_a_withdrawn_lease_is_gone_at_once(self, store: Store) -> None:
        await store.announce(WORKER, ttl_s=NEVER_S)
        await store.withdraw(WORKER)
        assert await store.leases("worker") == []

    async def test_a_late_withdrawal_does_not_touch_the_successor(self, store: Store) -> None:
        successor = msgspec.structs.replace(WORKER, pid=99)
        await store.announce(successor, ttl_s=NEVER_S)
        await store.withdraw(WORKER)
        assert await store.leases("worker") == [successor]

    async def test_an_unreadable_lease_is_passed_over(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        await store.announce(WORKER, ttl_s=NEVER_S)
        await raw.set(Keys(namespace).lease("worker", "bad"), b"\xff")
        await raw.sadd(Keys(namespace).names("worker"), "bad")
        assert await store.leases("worker") == [WORKER]
