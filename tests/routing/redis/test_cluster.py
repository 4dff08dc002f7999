"""A real Redis Cluster: all our names are in one slot, so every atomic step is one there too."""

from collections.abc import Iterator

import pytest

from routing.store import StoreUnavailable
from routing.table import Table
from tests.routing.redis.rights import documented_rights
from tests.routing.redis.servers import Server, running, wait_until
from tests.routing.redis.tour import opened, tour

pytestmark = pytest.mark.redis

NODES = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("cluster")
    options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
    nodes = [Server(folder / str(i), options) for i in range(NODES)]
    with running(*nodes):
        share = 16384 // NODES
        for i, node in enumerate(nodes):
            end = 16384 if i == NODES - 1 else (i + 1) * share
            node.do("CLUSTER", "ADDSLOTS", *range(i * share, end))
            node.do("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in nodes[1:]:
            node.do("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        for node in nodes:
            wait_until(node, "CLUSTER", "INFO", holds="cluster_state:ok")
            wait_until(node, "CLUSTER", "INFO", holds=f"cluster_known_nodes:{NODES}")
        yield nodes


@pytest.mark.parametrize("namespace", ["tombola", "other", "a.third-one"])
async def test_everything_works_wherever_the_namespace_lies(cluster: list[Server], namespace: str) -> None:
    """Three names, three slots; entered at every node."""
    nodes = ",".join(f"127.0.0.1:{node.port}" for node in cluster)
    await tour(f"redis+cluster://{nodes}", namespace)


async def test_one_living_node_is_enough_to_find_the_others(cluster: list[Server]) -> None:
    await tour(f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster[-1].port}", "found")


async def test_a_node_taken_for_a_single_server_is_named(cluster: list[Server]) -> None:
    """At least one of three nodes does not have the slot."""
    errors = []
    for node in cluster:
        async with opened(f"redis://127.0.0.1:{node.port}", "plain") as store:
            try:
                await store.load_table()
            except StoreUnavailable as error:
                errors.append(str(error))
    assert len(errors) == NODES - 1
    assert all("redis+cluster://" in error for error in errors)


async def test_a_cluster_that_cannot_be_reached_is_unavailable() -> None:
    async with opened("redis+cluster://127.0.0.1:1") as store:
        with pytest.raises(StoreUnavailable):
            await store.load_table()
        assert not await store.ping()


async def test_a_user_with_the_documented_rights_suffices(cluster: list[Server]) -> None:
    for node in cluster:
        for rights in documented_rights("guarded"):
            assert node.do("ACL", "SETUSER", *rights) == b"OK"
    await tour(f"redis+cluster://tombola:PASSWORD@127.0.0.1:{cluster[0].port}", "guarded")
    async with opened(f"redis+cluster://tombola:PASSWORD@127.0.0.1:{cluster[0].port}", "other") as store:
        with pytest.raises(StoreUnavailable, match=r"(?i)no permissions"):
            await store.publish(Table())
