"""The commit against a real Redis: one act changes everything it names, with its event, or nothing at all."""

import asyncio
import time

import msgspec
import pytest
import redis.asyncio

from routing.account import Limits
from routing.document import MAX_DOCUMENT_BYTES, DocumentError
from routing.embedded import EmbeddedRedis
from routing.redis.commit import EVENTS_KEPT
from routing.redis.errors import StoreTooNew
from routing.redis.keys import Keys
from routing.store import Store, StoreUnavailable, VersionConflict
from routing.table import FamilyTicket, Table, Tenant
from tests.routing.redis.accounts import account, change, event, key
from tests.routing.redis.relay import relay_to
from tests.routing.tables import example_table

pytestmark = pytest.mark.redis

TICKET = "ab" * 32


async def everything(raw: redis.asyncio.Redis, namespace: str) -> dict[bytes, bytes | None]:
    """All that stands in Redis under a namespace, as it would be written to a file."""
    return {name: await raw.dump(name) async for name in raw.scan_iter(f"{{{namespace}}}*")}


class TestWhole:
    async def test_table_accounts_report_and_event_stand_after_one_commit(self, store: Store) -> None:
        done = await store.commit(
            change(
                event=event("ticket.register", tenant="acme", subject=TICKET, after={"state": "registered"}),
                table=example_table(),
                accounts=(account(keys=[key("a")]),),
                reports={("acme", TICKET): b'{"accepted":true}'},
            )
        )
        assert done.table is not None
        assert (done.table.version, done.accounts[0].version, done.event.table_version) == (1, 1, 1)
        assert await store.load_table() == done.table
        assert await store.load_accounts() == {"acme": done.accounts[0]}
        assert await store.load_report("acme", TICKET) == b'{"accepted":true}'
        assert await store.events() == [done.event]

    async def test_an_event_has_the_time_of_redis_and_an_id(self, store: Store, raw: redis.asyncio.Redis) -> None:
        before = await raw.time()
        done = (await store.commit(change())).event
        after = await raw.time()
        assert before[0] + before[1] / 1e6 <= done.at <= after[0] + after[1] / 1e6
        assert abs(int(done.id.partition("-")[0]) / 1000 - done.at) < 1.0

    async def test_versions_count_up_for_each_document_by_itself(self, store: Store) -> None:
        first = await store.commit(change(accounts=(account("acme"), account("beta"))))
        second = await store.commit(change(accounts=(first.accounts[0],)))
        assert (second.accounts[0].version, second.table) == (2, None)
        assert {name: found.version for name, found in (await store.load_accounts()).items()} == {"acme": 2, "beta": 1}

    async def test_a_deleted_account_takes_its_reports_along(self, store: Store) -> None:
        made = await store.commit(change(accounts=(account(),), reports={("acme", TICKET): b"{}"}))
        await store.commit(change(event=event("tenant.delete"), gone=made.accounts))
        assert await store.load_accounts() == {}
        assert await store.load_report("acme", TICKET) is None
        assert (await store.commit(change(accounts=(account(),)))).accounts[0].version == 1

    async def test_a_tenant_that_never_had_an_account_can_be_deleted(self, store: Store) -> None:
        await store.commit(change(reports={("acme", TICKET): b"{}"}))
        await store.commit(change(gone=(account(),)))
        assert await store.load_report("acme", TICKET) is None

    async def test_one_report_is_forgotten_and_the_others_stay(self, store: Store) -> None:
        other = "cd" * 32
        await store.commit(change(reports={("acme", TICKET): b"1", ("acme", other): b"2", ("beta", TICKET): b"3"}))
        await store.commit(change(reports={("acme", TICKET): None}))
        reports = [await store.load_report(*at) for at in (("acme", TICKET), ("acme", other), ("beta", TICKET))]
        assert reports == [None, b"2", b"3"]


class TestNothing:
    async def test_a_conflict_over_the_table_changes_nothing(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        await store.publish(example_table())
        before = await everything(raw, namespace)
        with pytest.raises(VersionConflict, match="the table is at version 1, not 0") as conflict:
            await store.commit(change(table=Table(), accounts=(account(),), reports={("acme", TICKET): b"{}"}))
        assert (conflict.value.expected, conflict.value.current, conflict.value.what) == (0, 1, "the table")
        assert await everything(raw, namespace) == before

    async def test_a_conflict_over_any_account_changes_nothing(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        made = await store.commit(change(table=Table(), accounts=(account("acme"), account("beta"))))
        acme, beta = made.accounts
        await store.commit(change(accounts=(beta,)))
        before = await everything(raw, namespace)
        for stale in (change(table=made.table, accounts=(acme, beta)), change(accounts=(acme,), gone=(beta,))):
            with pytest.raises(VersionConflict, match="account beta is at version 2, not 1") as conflict:
                await store.commit(stale)
            assert conflict.value.what == "account beta"
        assert await everything(raw, namespace) == before

    async def test_an_account_that_must_not_exist_yet_and_does_is_a_conflict(self, store: Store) -> None:
        await store.commit(change(accounts=(account(),)))
        with pytest.raises(VersionConflict):
            await store.commit(change(accounts=(account(limits=Limits(tickets=1)),)))
        assert (await store.load_accounts())["acme"].limits == Limits()

    async def test_a_table_that_does_not_hold_together_changes_nothing(self, store: Store) -> None:
        with pytest.raises(DocumentError, match=r"families\.banking"):
            await store.commit(change(table=Table(families={"banking": []}), accounts=(account(),)))
        assert (await store.load_accounts(), await store.events()) == ({}, [])

    async def test_what_could_not_be_read_again_is_never_written(self, store: Store) -> None:
        """One field out of its bounds, made by whatever mistake, would lock everybody out of every change."""
        good = await store.commit(change(table=example_table(), accounts=(account(),)))
        assert good.table is not None
        family = {"wild": [FamilyTicket(id=TICKET, tier="fast", quality=5.0, service_ms=1.0)]}
        wild = msgspec.structs.replace(good.table, families=good.table.families | family)
        with pytest.raises(DocumentError, match="quality"):
            await store.commit(change(table=wild))
        with pytest.raises(DocumentError, match=r"account acme.*tickets"):
            await store.commit(change(accounts=(account(version=1, limits=Limits(tickets=-1)),)))
        assert (await store.load_table(), len(await store.events())) == (good.table, 1)

    async def test_a_table_that_is_too_large_to_be_read_is_never_written(self, store: Store) -> None:
        hashes = [f"{number:064x}" for number in range(MAX_DOCUMENT_BYTES // 67 + 1)]
        with pytest.raises(DocumentError, match="more than"):
            await store.commit(change(table=Table(tenants={"acme": Tenant(key_hashes=hashes)})))
        assert await store.load_table() is None

    async def test_a_later_release_s_store_is_left_alone(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        await raw.set(Keys(namespace).schema, 3)
        await raw.set(Keys(namespace).table, "something that only the later release reads")
        before = await everything(raw, namespace)
        with pytest.raises(StoreTooNew, match=r"layout 3.*knows 2"):
            await store.commit(change(table=Table()))
        assert await everything(raw, namespace) == before

    async def test_a_full_redis_refuses_and_nothing_is_half_done(self, own_redis: EmbeddedRedis) -> None:
        store, raw = Store.connect(own_redis.url), redis.asyncio.Redis.from_url(own_redis.url)
        namespace = "tombola"
        made = await store.commit(change(table=Table(), accounts=(account(),)))
        before = await everything(raw, namespace)
        await raw.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="Redis refuses"):
            await store.commit(change(table=made.table, accounts=made.accounts, reports={("acme", TICKET): b"{}"}))
        await raw.config_set("maxmemory", 0)
        assert await everything(raw, namespace) == before
        await store.close()
        await raw.aclose()


class TestTwice:
    async def test_a_commit_whose_reply_was_lost_is_made_once(self, redis_url: str, namespace: str) -> None:
        """redis-py sends it again; the second run finds the outcome of the first. Nothing tells the caller."""
        async with relay_to(redis_url) as relay:
            store = Store.connect(relay.url, namespace)
            await store.commit(change())
            relay.lose_the_reply_to(b"EVAL")
            done = await store.commit(
                change(event=event("tenant.create"), table=example_table(), accounts=(account(),))
            )
            assert relay.lost_replies == 1
            assert (done.table and done.table.version, done.accounts[0].version) == (1, 1)
            assert await store.load_table() == done.table
            assert [found.action for found in await store.events()] == ["tenant.create", "key.create"]
            assert (await store.events(count=1))[0] == done.event
            await store.close()

    async def test_a_change_that_was_made_twice_by_its_caller_is_a_conflict(self, store: Store) -> None:
        same = change(accounts=(account(),))
        await store.commit(same)
        with pytest.raises(VersionConflict):
            await store.commit(same)

    async def test_of_many_at_once_over_one_account_exactly_one_wins(self, store: Store) -> None:
        outcomes = await asyncio.gather(
            *(store.commit(change(accounts=(account(limits=Limits(tickets=i)),))) for i in range(8)),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Committed", *["VersionConflict"] * 7]
        assert len(await store.events()) == 1

    async def test_what_remembers_a_commit_is_itself_forgotten(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        await store.commit(change())
        prefix = Keys(namespace).done("")
        memory = [name async for name in raw.scan_iter(f"{prefix}*")]
        assert [0 < await raw.ttl(name) <= 60 for name in memory] == [True]


class TestForeign:
    async def test_values_of_another_kind_under_our_names_are_replaced(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        keys = Keys(namespace)
        for name in (keys.schema, keys.table, keys.history, keys.accounts, keys.accounts_changed, keys.events):
            await raw.lpush(name, "not ours")
        done = await store.commit(change(table=Table(), accounts=(account(),), reports={("acme", TICKET): b"{}"}))
        assert await store.load_table() == done.table
        assert await store.load_accounts() == {"acme": done.accounts[0]}
        assert await store.events() == [done.event]

    async def test_an_account_that_does_not_read_is_replaced_as_if_it_did_not_exist(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        for garbage in (b"", b"\xff", b"[]", b"3", b'{"version":"x"}'):
            await raw.hset(Keys(namespace).accounts, "acme", garbage)
            await store.commit(change(accounts=(account(),)))
            assert (await store.load_accounts())["acme"].version == 1


class TestEvents:
    async def test_they_come_newest_first_and_page_by_page(self, store: Store) -> None:
        made = [(await store.commit(change(event=event(subject=str(i))))).event for i in range(5)]
        assert await store.events(count=3) == made[:1:-1]
        assert await store.events(count=3, before=made[2].id) == made[1::-1]
        assert await store.events(before=made[0].id) == []

    async def test_a_tenant_s_are_found_among_many_others(self, store: Store) -> None:
        mine = [(await store.commit(change(event=event(tenant="acme", subject=str(i))))).event for i in range(2)]
        for i in range(700):
            await store.commit(change(event=event(tenant="beta", subject=str(i))))
        mine.append((await store.commit(change(event=event(tenant="acme")))).event)
        assert await store.events("acme") == mine[::-1]
        assert await store.events("acme", count=1) == mine[2:]
        assert await store.events("acme", before=mine[2].id, count=1) == [mine[1]]
        assert await store.events("gamma") == []

    async def test_what_does_not_read_is_passed_over(
        self, store: Store, raw: redis.asyncio.Redis, namespace: str
    ) -> None:
        first = (await store.commit(change())).event
        await raw.xadd(Keys(namespace).events, {"event": b"\xff", "tenant": "", "at": "1"})
        await raw.xadd(Keys(namespace).events, {"other": "program"})
        last = (await store.commit(change())).event
        assert await store.events() == [last, first]

    @pytest.mark.parametrize("before", ["", "-", "x", "1-", "(1-1", "+"])
    async def test_a_place_that_is_no_event_s_id_is_refused(self, store: Store, before: str) -> None:
        with pytest.raises(ValueError, match="not the id of an event"):
            await store.events(before=before)

    async def test_their_number_is_bounded(self, store: Store, raw: redis.asyncio.Redis, namespace: str) -> None:
        """Redis drops whole blocks, so a few more than the bound may stay."""
        name = Keys(namespace).events
        old = msgspec.json.encode(event())
        async with raw.pipeline(transaction=False) as pipe:
            for i in range(EVENTS_KEPT + 500):
                pipe.xadd(name, {"event": old, "tenant": "", "at": "1"}, id=f"{i + 1}-0")
            await pipe.execute()
        await store.commit(change())
        assert EVENTS_KEPT <= await raw.xlen(name) <= EVENTS_KEPT + 200
        assert abs((await store.events(count=1))[0].at - time.time()) < 3600

    async def test_a_publication_from_a_shell_names_who_made_it(self, store: Store) -> None:
        await store.publish(Table())
        await store.publish(Table(), actor="operator/0123456789ab", reason="because")
        second, first = await store.events()
        assert (first.action, first.actor.partition("/")[0]) == ("table.publish", "shell")
        assert (second.actor, second.reason, second.table_version) == ("operator/0123456789ab", "because", 2)
