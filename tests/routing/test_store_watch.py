"""The store's gateways' side against a real Redis: watching the table, and the loss and return of Redis."""

import asyncio
import os
import signal
import time
from contextlib import aclosing
from pathlib import Path

import pytest
import redis.asyncio
from structlog.testing import capture_logs

from routing.embedded import EmbeddedRedis
from routing.lease import Lease
from routing.redis.keys import Keys
from routing.store import Store, StoreUnavailable
from routing.table import Table
from tests.routing.tables import example_table

pytestmark = pytest.mark.redis

WORKER = Lease(kind="worker", name="w1", address="unix:/run/w1.sock", pid=41)
PATIENCE_S = 30.0
NEVER_S = 3600.0


class TestWatch:
    async def test_it_begins_with_the_table_that_stands(self, store: Store) -> None:
        published = await store.publish(example_table())
        async with aclosing(store.watch_table()) as tables:
            assert await anext(tables) == published

    async def test_an_announcement_brings_a_new_table_without_waiting_for_the_poll(self, store: Store) -> None:
        """The poll would come after an hour. Three times, because the first look comes with the subscription."""
        with capture_logs() as logs:
            async with aclosing(store.watch_table(poll_s=NEVER_S)) as tables:
                for _ in range(3):
                    published = await store.publish(example_table())
                    assert await asyncio.wait_for(anext(tables), PATIENCE_S) == published
        assert logs == []

    async def test_polling_brings_a_table_whose_announcement_was_lost(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        keys = Keys(namespace)
        async with aclosing(store.watch_table(poll_s=0.05)) as tables:
            waiting = asyncio.ensure_future(anext(tables))
            await raw.hset(keys.table, mapping={"version": 1, "publication": "silent", "document": b'{"version":1}'})
            assert (await asyncio.wait_for(waiting, PATIENCE_S)).version == 1

    async def test_a_publication_is_seen_once(self, store: Store) -> None:
        async with aclosing(store.watch_table(poll_s=0.01)) as tables:
            for version in (1, 2, 3):
                await store.publish(example_table())
                assert (await anext(tables)).version == version

    async def test_an_unreadable_document_is_logged_and_passed_over(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        """The caller keeps its last good table, and the next good one comes through."""
        await store.publish(example_table())
        async with aclosing(store.watch_table(poll_s=0.01)) as tables:
            await anext(tables)
            with capture_logs() as logs:
                waiting = asyncio.ensure_future(anext(tables))
                await raw.hset(Keys(namespace).table, mapping={"publication": "bad", "document": b"\x00garbage"})
                while not logs:  # noqa: ASYNC110 - a log line has no event
                    await asyncio.sleep(0.01)
                assert not waiting.done()
                published = await store.publish(Table())
                assert await waiting == published
        assert [entry["event"] for entry in logs] == ["table_unreadable"]

    async def test_it_survives_the_death_and_return_of_redis(self, own_redis: EmbeddedRedis) -> None:
        store = Store.connect(own_redis.url)
        published = await store.publish(example_table())
        async with aclosing(store.watch_table(poll_s=0.05)) as tables:
            assert await anext(tables) == published
            with capture_logs() as logs:
                waiting = asyncio.ensure_future(anext(tables))
                kill(own_redis)
                while not logs:  # noqa: ASYNC110 - a log line has no event
                    await asyncio.sleep(0.01)
                assert not waiting.done()
                await asyncio.to_thread(own_redis.start, PATIENCE_S)
                assert await store.load_table() == published, "the published table was on disk"
                newer = await store.publish(Table())
                assert await asyncio.wait_for(waiting, PATIENCE_S) == newer
        await store.close()
        assert [entry["event"] for entry in logs] == ["store_unavailable", "store_available"]

    async def test_it_may_begin_before_redis_does(self, own_redis: EmbeddedRedis) -> None:
        kill(own_redis)
        store = Store.connect(own_redis.url)
        async with aclosing(store.watch_table(poll_s=0.05)) as tables:
            waiting = asyncio.ensure_future(anext(tables))
            await asyncio.to_thread(own_redis.start, PATIENCE_S)
            published = await store.publish(example_table())
            assert await asyncio.wait_for(waiting, PATIENCE_S) == published
        await store.close()


class TestAvailability:
    async def test_ping_says_whether_redis_answers(self, store: Store, tmp_path: Path) -> None:
        nobody = Store.connect(f"unix://{tmp_path}/none.sock")
        assert await store.ping()
        assert not await nobody.ping()
        await nobody.close()

    async def test_every_operation_names_the_loss_of_redis(self, tmp_path: Path) -> None:
        store = Store.connect(f"unix://{tmp_path}/none.sock")
        for operation in (
            store.load_table(), store.versions(), store.publish(Table()), store.announce(WORKER, ttl_s=1.0),
            store.withdraw(WORKER), store.leases("worker"),
        ):  # fmt: skip
            with pytest.raises(StoreUnavailable, match="Redis"):
                await operation
        await store.close()

    async def test_a_redis_that_hangs_counts_as_lost(self, own_redis: EmbeddedRedis) -> None:
        """A stopped process accepts connections and never answers: the socket timeout ends the wait."""
        store = Store.connect(own_redis.url)
        assert own_redis.pid is not None
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(store.load_table(), PATIENCE_S)
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        await store.close()

    async def test_a_restart_of_redis_between_two_operations_goes_unnoticed(self, own_redis: EmbeddedRedis) -> None:
        store = Store.connect(own_redis.url)
        published = await store.publish(example_table())
        kill(own_redis)
        own_redis.start(PATIENCE_S)
        assert await store.load_table() == published
        await store.close()

    @pytest.mark.parametrize("url", ["", "localhost", "http://localhost", "redis://localhost:port"])
    def test_a_url_that_cannot_be_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            Store.connect(url)

    @pytest.mark.parametrize("namespace", ["", "a:b", "a b", "ä", "x" * 65, "a\n"])
    def test_a_namespace_that_could_overlap_another_is_refused(self, namespace: str) -> None:
        with pytest.raises(ValueError, match="namespace"):
            Keys(namespace)


def kill(server: EmbeddedRedis) -> None:
    """SIGKILL: no farewell, no flush."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.is_running():
        time.sleep(0.001)
