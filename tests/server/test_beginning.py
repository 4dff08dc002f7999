"""What an installation begins with: a table, an operator's key, and after a loss what its gateways had kept."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from routing.access import Access, make_key
from routing.account import OPERATOR, Account
from routing.embedded import EmbeddedRedis
from routing.store import Store
from routing.table import Table
from server.beginning import BeginningError, first_table
from server.last_known import LastKnown
from server.state import State, read_key

pytestmark = pytest.mark.redis


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A state directory."""
    state = State(tmp_path / "state")
    yield state
    state.close()


async def begin(url: str, state: State) -> Table:
    return await first_table(url, state, starter=None, is_empty=True, within_s=10.0)


async def accounts(url: str) -> dict[str, Account]:
    store = Store.connect(url)
    try:
        return await store.load_accounts()
    finally:
        await store.close()


async def test_a_first_start_gives_the_operators_a_key_that_only_its_owner_reads(
    own_redis: EmbeddedRedis, state: State
) -> None:
    await begin(own_redis.url, state)
    key = read_key(state.operator_key_file)
    assert key is not None
    assert state.operator_key_file.stat().st_mode & 0o777 == 0o600
    found = Access(None, await accounts(own_redis.url)).find(key, 0.0)
    assert found is not None
    assert (found.tenant, found.role) == (None, "operator")


async def test_a_second_start_changes_nothing(own_redis: EmbeddedRedis, state: State) -> None:
    first = await begin(own_redis.url, state)
    before = await accounts(own_redis.url)
    assert await begin(own_redis.url, state) == first
    assert await accounts(own_redis.url) == before


async def test_the_key_on_disk_stays_the_operators_when_redis_has_forgotten_it(
    own_redis: EmbeddedRedis, state: State
) -> None:
    key, _ = make_key("admin", 0.0)
    state.operator_key_file.write_text(key)
    await begin(own_redis.url, state)
    assert read_key(state.operator_key_file) == key
    assert Access(None, await accounts(own_redis.url)).find(key, 0.0) is not None


async def test_what_gateways_had_kept_comes_back_over_an_emptied_redis(own_redis: EmbeddedRedis, state: State) -> None:
    acme = Account(name="acme", version=3, keys=[make_key("call", 0.0)[1]])
    kept = Account(name=OPERATOR, version=1, keys=[make_key("admin", 0.0)[1]])
    table = state.table_cache("gateway-0")
    LastKnown(table).write(msgspec.json.encode(Table(version=7)))
    LastKnown(table.with_name(f"{table.name}.accounts")).write(msgspec.json.encode({"acme": acme, OPERATOR: kept}))
    assert (await begin(own_redis.url, state)).version == 8
    found = await accounts(own_redis.url)
    assert found["acme"].keys == acme.keys
    assert found[OPERATOR].keys == kept.keys


async def test_kept_files_that_do_not_read_are_not_passed_over_in_silence(
    own_redis: EmbeddedRedis, state: State
) -> None:
    state.table_cache("gateway-0").write_bytes(b"half a ta")
    with pytest.raises(BeginningError, match="Remove those files"):
        await begin(own_redis.url, state)
