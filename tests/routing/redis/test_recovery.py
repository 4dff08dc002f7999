"""Publishing again what a gateway kept, over a Redis that was emptied."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
import redis.asyncio

from routing.account import OPERATOR
from routing.document import dump_json
from routing.redis.recovery import Kept, RecoveryError, read_kept, recover
from routing.store import Store
from routing.table import Table
from server.last_known import LastKnown
from tests.routing.redis.accounts import account, change, key
from tests.routing.tables import example_table

pytestmark = pytest.mark.redis

KEPT = Kept(
    table=msgspec.structs.replace(example_table(), version=41),
    accounts={"acme": account(version=7, keys=[key("a")]), OPERATOR: account(OPERATOR, 3, keys=[key("b")])},
)


class TestReading:
    def test_the_files_of_a_gateway_are_read(self, tmp_path: Path) -> None:
        tables, accounts = LastKnown(tmp_path / "table-g1.json"), LastKnown(tmp_path / "table-g1.json.accounts")
        tables.write(dump_json(KEPT.table))
        accounts.write(msgspec.json.encode(KEPT.accounts, order="deterministic"))
        table = tables.read()
        assert table is not None
        assert read_kept(table, accounts.read()) == KEPT
        assert read_kept(table, None) == Kept(table=KEPT.table)

    @pytest.mark.parametrize(
        ("table", "accounts"),
        [
            (b"", None), (b"{", None), (b'{"families":{"f":[]}}', None), (b"{}", b""), (b"{}", b"[]"),
            (b"{}", b'{"acme":{}}'), (b"{}", b'{"acme":{"name":"beta"}}'), (b"{}", b"[" * 100_000),
        ],
    )  # fmt: skip
    def test_what_does_not_read_whole_is_not_recovered_from(self, table: bytes, accounts: bytes | None) -> None:
        with pytest.raises(RecoveryError, match="not read"):
            read_kept(table, accounts)


class TestRecovery:
    async def test_an_emptied_store_holds_everything_again_under_a_later_version(self, store: Store) -> None:
        done = await recover(store, KEPT, actor="shell/me@here")
        assert done.table == msgspec.structs.replace(KEPT.table, version=42)
        assert await store.load_table() == done.table
        assert await store.load_accounts() == {
            name: msgspec.structs.replace(kept, version=1) for name, kept in KEPT.accounts.items()
        }
        (event,) = await store.events()
        assert (event.action, event.actor, event.table_version) == ("store.recover", "shell/me@here", 42)
        assert (await store.publish(Table(), expect_version=42)).version == 43

    async def test_gateways_follow_it_although_redis_had_forgotten(self, redis_url: str, namespace: str) -> None:
        store, raw = Store.connect(redis_url, namespace), redis.asyncio.Redis.from_url(redis_url)
        published = await store.publish(example_table())
        async with aclosing(store.watch_table(poll_s=0.05)) as tables:
            await asyncio.wait_for(anext(tables), 30.0)
            async for name in raw.scan_iter(f"{{{namespace}}}*"):
                await raw.delete(name)
            done = await recover(store, Kept(table=published))
            assert await asyncio.wait_for(anext(tables), 30.0) == done.table
        await raw.aclose()
        await store.close()

    async def test_a_store_that_is_in_use_is_not_replaced_unless_forced(self, store: Store) -> None:
        await store.publish(Table())
        with pytest.raises(RecoveryError, match=r"holds a table \(version 1\).*--force"):
            await recover(store, KEPT)
        assert await store.load_table() == Table(version=1)
        assert (await recover(store, KEPT, is_forced=True)).table == msgspec.structs.replace(KEPT.table, version=42)

    async def test_accounts_count_as_use_but_an_operator_s_own_does_not(self, store: Store) -> None:
        await store.commit(change(accounts=(account("beta"), account(OPERATOR))))
        with pytest.raises(RecoveryError, match="accounts of 1 tenants"):
            await recover(store, KEPT)

    async def test_the_operator_that_tombola_up_made_again_is_replaced_by_the_one_kept(self, store: Store) -> None:
        await store.commit(change(accounts=(account(OPERATOR),)))
        await recover(store, KEPT)
        assert (await store.load_accounts())[OPERATOR].keys == [key("b")]

    async def test_an_account_that_is_not_behind_the_kept_one_stays(self, store: Store) -> None:
        """Its key ``c`` was revoked since: version 2 has none."""
        made = await store.commit(change(accounts=(account(keys=[key("c")]),)))
        await store.commit(change(accounts=(msgspec.structs.replace(made.accounts[0], keys=[]),)))
        await recover(store, Kept(table=Table(version=1), accounts={"acme": made.accounts[0]}), is_forced=True)
        assert (await store.load_accounts())["acme"].keys == []

    async def test_of_two_who_recover_at_once_one_does(self, store: Store) -> None:
        outcomes = await asyncio.gather(recover(store, KEPT), recover(store, KEPT), return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes)[0] == "Committed"
        assert len(await store.events()) == 1
