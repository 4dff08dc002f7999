"""Fail-over by a real Sentinel: writes go on at the new primary, and an older table replaces no newer one."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from routing.store import Store, StoreUnavailable, VersionConflict
from routing.table import Table
from tests.routing.redis.accounts import account, change
from tests.routing.redis.servers import Server, running, wait_until
from tests.routing.redis.test_loss import PATIENCE_S, gateway, logged
from tests.routing.redis.tour import opened, tour
from tests.routing.tables import example_table

pytestmark = pytest.mark.redis

PASSWORD = "s3cret-w0rd"


class House:
    """A primary, its replica and a Sentinel over both."""

    def __init__(self, folder: Path) -> None:
        common = ["--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"]
        common += ["--requirepass", PASSWORD, "--masterauth", PASSWORD]
        self.primary = Server(folder / "primary", common, password=PASSWORD)
        self.replica = Server(
            folder / "replica", [*common, "--replicaof", "127.0.0.1", str(self.primary.port)], password=PASSWORD
        )
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor main 127.0.0.1 {self.primary.port} 1\n"
            f"sentinel auth-pass main {PASSWORD}\n"
            "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 3000\n"
        )
        self.sentinel = Server(folder / "sentinel", [str(config), "--sentinel"])
        self.url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:1,127.0.0.1:{self.sentinel.port}/main"

    def wait_for_replica(self) -> None:
        """Until it has everything, on disk too."""
        wait_until(self.replica, "INFO", "replication", holds="master_link_status:up")
        wait_until(self.replica, "INFO", "persistence", holds="aof_rewrite_scheduled:0")
        wait_until(self.replica, "INFO", "persistence", holds="aof_rewrite_in_progress:0")

    def wait_for_sentinel(self) -> None:
        """Until it knows the replica. It asks the primary when it begins, and then every ten seconds."""
        wait_until(self.sentinel, "SENTINEL", "REPLICAS", "main", holds=str(self.replica.port))

    def wait_for_primary(self, server: Server) -> None:
        wait_until(self.sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main", holds=str(server.port))
        wait_until(server, "INFO", "replication", holds="role:master")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    with running(house.primary, house.replica):
        house.wait_for_replica()
        with running(house.sentinel):
            house.wait_for_sentinel()
            yield house


async def until_committed(store: Store, version: int) -> Table:
    """As an operator does it: try again until it is through, having looked at what stands."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await store.publish(Table(), expect_version=version)
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            except VersionConflict as conflict:
                found = await store.load_table()  # an attempt whose outcome was unknown had been made
                if found is None or conflict.current != version + 1:
                    raise
                return found


async def test_everything_works_through_a_sentinel(house: House) -> None:
    """The first Sentinel of the URL does not live: the next one is asked."""
    await tour(house.url)


async def test_after_the_primary_dies_reads_and_writes_go_on_at_the_replica(house: House) -> None:
    async with opened(house.url) as store, gateway(house.url) as ours:
        await store.commit(change(table=example_table(), accounts=(account(),)))
        assert house.primary.do("WAIT", 1, 5000) == 1
        await ours.sees(1)
        house.primary.stop()
        await until_committed(store, 1)
        await ours.sees(2)
        assert (await store.load_accounts())["acme"].version == 1
        house.wait_for_primary(house.replica)
    assert [table.version for table in ours.tables] == [1, 2], "nothing in between, nothing twice"


async def test_a_replica_that_had_missed_the_last_table_makes_no_gateway_go_back(house: House) -> None:
    """Version 3 is lost. Gateways serve it on, until somebody publishes upon what the new primary has."""
    async with opened(house.url) as store, gateway(house.url) as ours:
        for _ in range(2):
            await store.publish(example_table())
        assert house.primary.do("WAIT", 1, 5000) == 1
        house.replica.stop()
        await store.publish(Table())
        await ours.sees(3)
        with capture_logs() as logs:
            house.primary.stop()
            house.replica.start()
            await asyncio.to_thread(house.wait_for_primary, house.replica)
            await logged(logs, "store_went_back", 1)
            standing = await store.load_table()
            assert standing is not None
            assert (standing.version, ours.tables[-1].version) == (2, 3)
            upon_it = await store.publish(example_table(), expect_version=2)
            assert upon_it.version == 3, "the lost number is given again, to another table"
            async with asyncio.timeout(PATIENCE_S):
                while ours.tables[-1] != upon_it:  # noqa: ASYNC110 - both tables are version 3
                    await asyncio.sleep(0.01)
    went_back = [entry for entry in logs if entry["event"] == "store_went_back"]
    assert [(entry["what"], entry["verdict"]) for entry in went_back] == [("table", "older")]
    versions = [table.version for table in ours.tables]
    assert (versions, versions[-2:]) == (sorted(versions), [3, 3])


async def test_without_any_sentinel_the_store_is_unavailable_and_no_password_is_said() -> None:
    async with opened(f"redis+sentinel://u:{PASSWORD}@127.0.0.1:1/main?sentinel_password={PASSWORD}") as store:
        with pytest.raises(StoreUnavailable, match="Sentinel") as error:
            await store.load_table()
        assert PASSWORD not in f"{error.value} {store!r}"
