"""Following the accounts against a real Redis: each change reaches a gateway, and none costs more than itself."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
import redis.asyncio
from structlog.testing import capture_logs

from routing.account import Account
from routing.redis.accounts import Accounts, AccountsState
from routing.redis.keys import Keys
from routing.store import Store, StoreCorrupt
from routing.table import Table
from tests.routing.redis.accounts import account, change, key

pytestmark = pytest.mark.redis

PATIENCE_S = 30.0
NEVER_S = 3600.0


async def following(accounts: AsyncGenerator[dict[str, Account], None]) -> dict[str, Account]:
    return await asyncio.wait_for(anext(accounts), PATIENCE_S)


class TestWatch:
    async def test_an_announcement_brings_each_change_without_waiting_for_the_poll(self, store: Store) -> None:
        acme = (await store.commit(change(accounts=(account(),)))).accounts[0]
        async with aclosing(store.watch_accounts(poll_s=NEVER_S)) as accounts:
            assert await following(accounts) == {"acme": acme}
            beta = (await store.commit(change(accounts=(account("beta"),)))).accounts[0]
            assert await following(accounts) == {"acme": acme, "beta": beta}
            await store.commit(change(gone=(acme,)))
            assert await following(accounts) == {"beta": beta}
            acme = (await store.commit(change(accounts=(account(keys=[key("a")]),)))).accounts[0]
            assert await following(accounts) == {"acme": acme, "beta": beta}

    async def test_a_redis_that_is_emptied_between_two_looks_makes_nobody_forget(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its stamp has been read, its accounts not yet: that there are none then is no news."""
        acme = (await store.commit(change(accounts=(account(),)))).accounts[0]
        follow, emptied = Accounts.follow, asyncio.Event()

        async def late(self: Accounts, known: AccountsState) -> AccountsState:
            if "acme" in known.accounts and not emptied.is_set():
                await raw.delete(*[name async for name in raw.scan_iter(f"{{{namespace}}}*")])
                emptied.set()
            return await follow(self, known)

        monkeypatch.setattr(Accounts, "follow", late)
        async with aclosing(store.watch_accounts(poll_s=0.01)) as accounts:
            assert await following(accounts) == {"acme": acme}
            waiting = asyncio.ensure_future(anext(accounts))
            await store.commit(change(accounts=(account("beta"),)))
            await asyncio.wait_for(emptied.wait(), PATIENCE_S)
            with capture_logs() as logs:
                async with asyncio.timeout(PATIENCE_S):
                    while not any(line["event"] == "store_went_back" for line in logs):  # noqa: ASYNC110 - no event
                        await asyncio.sleep(0.01)
            assert not waiting.done()
            gamma = (await store.commit(change(accounts=(account("gamma"),)))).accounts[0]
            assert await asyncio.wait_for(waiting, PATIENCE_S) == {"gamma": gamma}

    async def test_a_new_table_is_no_news_of_accounts(self, store: Store) -> None:
        await store.commit(change(accounts=(account(),)))
        async with aclosing(store.watch_accounts(poll_s=0.01)) as accounts:
            await following(accounts)
            waiting = asyncio.ensure_future(anext(accounts))
            await store.publish(Table())
            async with aclosing(store.watch_table(poll_s=0.01)) as tables:
                await asyncio.wait_for(anext(tables), PATIENCE_S)
            assert not waiting.done()
            beta = (await store.commit(change(accounts=(account("beta"),)))).accounts[0]
            assert (await asyncio.wait_for(waiting, PATIENCE_S))["beta"] == beta

    async def test_many_changes_at_once_are_all_seen(self, store: Store) -> None:
        await store.commit(change(accounts=(account(),)))
        async with aclosing(store.watch_accounts(poll_s=NEVER_S)) as accounts:
            await following(accounts)
            await asyncio.gather(*(store.commit(change(accounts=(account(f"t{i}"),))) for i in range(30)))
            found: dict[str, Account] = {}
            while len(found) < 31:
                found = await following(accounts)

    async def test_a_suspension_lost_in_transit_comes_with_the_poll(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        acme = (await store.commit(change(accounts=(account(),)))).accounts[0]
        keys = Keys(namespace)
        async with aclosing(store.watch_accounts(poll_s=0.05)) as accounts:
            await following(accounts)
            waiting = asyncio.ensure_future(anext(accounts))
            async with raw.pipeline(transaction=True) as pipe:  # as a commit writes, and nothing is announced
                pipe.hset(keys.accounts, "acme", b'{"name":"acme","version":2,"is_suspended":true}')
                pipe.zadd(keys.accounts_changed, {"acme": 9e15})
                pipe.set(keys.accounts_version, "9000000000000-0")
                await pipe.execute()
            assert (await asyncio.wait_for(waiting, PATIENCE_S))["acme"].is_suspended
        assert not acme.is_suspended

    async def test_an_account_that_does_not_read_stays_as_it_was(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        acme = (await store.commit(change(accounts=(account(keys=[key("a")]),)))).accounts[0]
        async with aclosing(store.watch_accounts(poll_s=NEVER_S)) as accounts:
            await following(accounts)
            await raw.hset(Keys(namespace).accounts, "acme", b"\xffgarbage")
            with capture_logs() as logs:
                beta = (await store.commit(change(accounts=(account("beta"),)))).accounts[0]
                assert await following(accounts) == {"acme": acme, "beta": beta}
            with pytest.raises(StoreCorrupt, match="'acme'"):
                await store.load_accounts()
        assert [entry["event"] for entry in logs] == ["account_unreadable"]


class TestFollow:
    """What one look reads, without any watching."""

    async def test_only_what_has_changed_is_read(self, store: Store, raw: redis.asyncio.Redis, namespace: str) -> None:
        """The unchanged accounts are made unreadable behind its back: it never meets them."""
        accounts = Accounts(store.connection)
        made = await store.commit(change(accounts=tuple(account(f"t{i}") for i in range(5))))
        await asyncio.sleep(0.002)  # another millisecond: accounts of the same one are read again
        await store.commit(change(accounts=(account("acme"),)))
        known = await accounts.follow(AccountsState())
        for i in range(5):
            await raw.hset(Keys(namespace).accounts, f"t{i}", b"garbage")
        await store.commit(change(accounts=(account("beta"),)))
        with capture_logs() as logs:
            state = await accounts.follow(known)
        assert logs == []
        assert sorted(state.accounts) == ["acme", "beta", "t0", "t1", "t2", "t3", "t4"]
        assert state.accounts["t0"] == made.accounts[0]

    async def test_who_has_seen_another_history_reads_everything(self, store: Store) -> None:
        """As after a fail-over that lost the last changes: what is not in the store must not be kept."""
        acme = (await store.commit(change(accounts=(account(),)))).accounts[0]
        elsewhere = AccountsState(stamp=b"1-0", accounts={"ghost": account("ghost", 3), "acme": account("acme", 9)})
        state = await Accounts(store.connection).follow(elsewhere)
        assert state.accounts == {"acme": acme}

    async def test_deletions_that_nobody_can_ask_for_any_more_are_forgotten(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        keys = Keys(namespace)
        made = await store.commit(change(accounts=(account(),)))
        await store.commit(change(gone=made.accounts))
        assert await raw.zrange(keys.accounts_gone, 0, -1) == [b"acme"]
        await raw.xtrim(keys.events, maxlen=0, approximate=False)
        await asyncio.sleep(0.002)
        await store.commit(change(accounts=(account("beta"),)))
        assert await raw.zrange(keys.accounts_gone, 0, -1) == []
