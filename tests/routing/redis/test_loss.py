"""The contract of docs/redis.md, tried on a real Redis that is killed, paused, filled, flushed and replaced."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from routing.redis.errors import OPERATION_S
from routing.store import Store, StoreUnavailable
from routing.table import Table
from tests.routing.redis.accounts import account, change, key
from tests.routing.redis.servers import Server, running
from tests.routing.redis.tour import WORKER, opened
from tests.routing.tables import example_table

pytestmark = pytest.mark.redis

PATIENCE_S = 30.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A Redis of this test's own that writes every change to disk."""
    server = Server(tmp_path / "redis", ["--appendonly", "yes", "--appendfsync", "always"])
    with running(server):
        yield server


def url(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}"


class Gateway:
    """What a gateway has of the control plane: the last table and the last accounts, as its watches gave them."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self.accounts: list[dict[str, Any]] = []
        self._changed = asyncio.Event()

    async def follow(self, store: Store) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_tables(store))
            group.create_task(self._follow_accounts(store))

    async def sees(self, version: int) -> None:
        """Wait until the table in use is this version."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.tables or self.tables[-1].version != version:
                self._changed.clear()
                await self._changed.wait()

    async def knows(self, *names: str) -> None:
        """Wait until the accounts in use are these."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.accounts or sorted(self.accounts[-1]) != sorted(names):
                self._changed.clear()
                await self._changed.wait()

    async def _follow_tables(self, store: Store) -> None:
        async with aclosing(store.watch_table(poll_s=0.05)) as tables:
            async for table in tables:
                self.tables.append(table)
                self._changed.set()

    async def _follow_accounts(self, store: Store) -> None:
        async with aclosing(store.watch_accounts(poll_s=0.05)) as all_accounts:
            async for accounts in all_accounts:
                self.accounts.append(accounts)
                self._changed.set()


@asynccontextmanager
async def gateway(redis_url: str) -> AsyncIterator[Gateway]:
    """A gateway that follows the store at this URL."""
    async with opened(redis_url) as store:
        following = Gateway()
        task = asyncio.create_task(following.follow(store))
        try:
            yield following
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def logged(logs: list[Any], event: str, times: int) -> None:
    """Wait until an event has been logged so often."""
    async with asyncio.timeout(PATIENCE_S):
        while sum(entry["event"] == event for entry in logs) < times:  # noqa: ASYNC110 - a log line has no event
            await asyncio.sleep(0.01)


class TestFlush:
    @pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
    async def test_gateways_keep_what_they_have_say_so_once_and_follow_what_comes_next(
        self, server: Server, command: str
    ) -> None:
        async with opened(url(server)) as store, gateway(url(server)) as ours:
            for _ in range(3):
                await store.publish(example_table())
            await store.commit(change(accounts=(account(keys=[key("a")]), account("beta"))))
            await ours.sees(3)
            await ours.knows("acme", "beta")
            tables, accounts = len(ours.tables), len(ours.accounts)
            with capture_logs() as logs:
                server.do(command)
                await logged(logs, "store_went_back", 2)
                await store.announce(WORKER, ttl_s=60)  # the store works again, and holds nothing
                assert (await store.load_table(), await store.load_accounts()) == (None, {})
                assert (len(ours.tables), len(ours.accounts)) == (tables, accounts)
                await store.publish(Table())
                await store.commit(change(accounts=(account("gamma"),)))
                await ours.sees(1)
                await ours.knows("gamma")
        gone = [entry for entry in logs if entry["event"] == "store_went_back"]
        assert sorted((entry["what"], entry["verdict"]) for entry in gone) == [
            ("accounts", "vanished"),
            ("table", "vanished"),
        ]

    async def test_nobody_writes_anything_back_by_himself(self, server: Server) -> None:
        async with opened(url(server)) as store, gateway(url(server)) as ours:
            await store.publish(example_table())
            await ours.sees(1)
            with capture_logs() as logs:
                server.do("FLUSHALL")
                await logged(logs, "store_went_back", 1)
            with server.client() as client:
                assert client.keys() == []

    async def test_a_restart_without_its_data_is_the_same(self, server: Server) -> None:
        async with opened(url(server)) as store, gateway(url(server)) as ours:
            await store.publish(example_table())
            await ours.sees(1)
            with capture_logs() as logs:
                server.stop()
                for path in sorted(server.folder.rglob("*"), reverse=True):
                    path.rmdir() if path.is_dir() else path.unlink()
                server.start()
                await logged(logs, "store_went_back", 1)
                assert ours.tables[-1].families == example_table().families
                await store.publish(Table())
                async with asyncio.timeout(PATIENCE_S):
                    while ours.tables[-1].families:  # noqa: ASYNC110 - both tables are version 1
                        await asyncio.sleep(0.01)


class TestDeath:
    async def test_after_kill_and_restart_everything_that_was_answered_is_there(self, server: Server) -> None:
        async with opened(url(server)) as store, gateway(url(server)) as ours:
            done = await store.commit(change(table=example_table(), accounts=(account(),)))
            await ours.sees(1)
            server.stop()
            with pytest.raises(StoreUnavailable):
                await store.commit(change(table=done.table))
            server.start()
            assert await store.load_table() == done.table
            assert await store.load_accounts() == {"acme": done.accounts[0]}
            assert await store.events() == [done.event]
            await store.commit(change(table=done.table))
            await ours.sees(2)

    async def test_killed_again_and_again_under_commits_no_commit_is_ever_half(self, server: Server) -> None:
        """Each commit moves the table and one account together: whatever survives, they agree."""
        committed = 0
        async with opened(url(server)) as store:
            for round_ in range(4):
                table, accounts = await store.load_table(), await store.load_accounts()
                stop = asyncio.Event()

                async def commit(table: Table | None, acme: Any, stop: asyncio.Event) -> int:
                    made = 0
                    while not stop.is_set():
                        try:
                            done = await store.commit(change(table=table or Table(), accounts=(acme,)))
                        except StoreUnavailable:
                            break
                        table, acme, made = done.table, done.accounts[0], made + 1
                        if made == 5:
                            stop.set()
                    return made

                task = asyncio.create_task(commit(table, accounts.get("acme", account()), stop))
                if round_ % 2:
                    await asyncio.sleep(0)  # another moment of the commit to die in
                else:
                    await stop.wait()
                server.stop()
                committed += await task
                server.start()
                table, accounts = await store.load_table(), await store.load_accounts()
                versions = (table.version if table else 0, accounts["acme"].version if accounts else 0)
                assert versions[0] == versions[1] == len(await store.events())
                assert versions[0] >= committed
        assert committed >= 10


class TestSlowness:
    async def test_every_operation_on_a_stopped_redis_ends_in_time_and_says_why(self, server: Server) -> None:
        async with opened(url(server)) as store:
            await store.publish(Table())
            server.pause()
            try:
                async with asyncio.timeout(OPERATION_S + PATIENCE_S):
                    outcomes = await asyncio.gather(
                        store.load_table(), store.load_accounts(), store.commit(change()), store.events(),
                        store.announce(WORKER, ttl_s=1.0), return_exceptions=True,
                    )  # fmt: skip
                assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 5
                assert all("Redis cannot be reached" in str(outcome) for outcome in outcomes)
                assert not await store.ping()
            finally:
                server.resume()
            assert await store.load_table() == Table(version=1)

    async def test_a_commit_given_up_may_still_be_made_but_whole_and_once(self, server: Server) -> None:
        """Redis reads it when it wakes up, long after nobody waits for it."""
        async with opened(url(server)) as store:
            assert await store.load_table() is None  # so there is a connection that the commit goes into
            server.pause()
            try:
                with pytest.raises(StoreUnavailable):
                    await store.commit(change(table=Table(), accounts=(account(),)))
            finally:
                server.resume()
            async with asyncio.timeout(PATIENCE_S):
                while not await store.events():  # noqa: ASYNC110 - Redis tells nobody
                    await asyncio.sleep(0.01)
            assert (await store.load_table(), (await store.load_accounts())["acme"].version) == (Table(version=1), 1)
            await store.commit(change())
            assert len(await store.events()) == 2

    async def test_while_writes_are_held_back_reading_goes_on(self, server: Server) -> None:
        async with opened(url(server)) as store, gateway(url(server)) as ours:
            await store.publish(Table())
            await ours.sees(1)
            server.do("CLIENT", "PAUSE", 60_000, "WRITE")
            try:
                with pytest.raises(StoreUnavailable):
                    await store.commit(change(accounts=(account(),)))
                assert await store.versions() == [1]
            finally:
                server.do("CLIENT", "UNPAUSE")
            await store.publish(Table(), expect_version=1)
            await ours.sees(2)

    async def test_a_replica_refuses_changes_and_says_so(self, server: Server) -> None:
        async with opened(url(server)) as store:
            await store.publish(Table())
            server.do("REPLICAOF", "127.0.0.1", 1)
            with pytest.raises(StoreUnavailable, match=r"Redis (refuses|cannot be reached)"):
                await store.publish(Table(), expect_version=1)
            assert await store.load_table() == Table(version=1)
