"""The accounts reach a gateway from Redis, and from its own disk where Redis is away."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from routing.access import make_key
from routing.account import Account
from routing.change import Change
from routing.embedded import EmbeddedRedis
from routing.event import Event
from routing.store import Store
from server.accounts import AccountFollower, Accounts
from server.last_known import LastKnown
from tests.server.fake_worker import until

pytestmark = pytest.mark.redis
CREATE = Event(action="tenant.create", actor="operator/000000000000")


def account(name: str) -> Account:
    return Account(name=name, keys=[make_key("call", 0.0)[1]])


async def test_a_change_arrives_and_is_kept(store: Store, tmp_path: Path) -> None:
    seen: list[Accounts] = []
    await store.commit(Change(event=CREATE, accounts=(account("acme"),)))
    follower = AccountFollower(store, seen.append, LastKnown(tmp_path / "accounts"))
    await follower.start()
    assert set(seen[-1]) == {"acme"}
    running = asyncio.create_task(follower.run())
    try:
        await store.commit(Change(event=CREATE, accounts=(account("rival"),)))
        await until(lambda: set(seen[-1]) == {"acme", "rival"})
        await until(lambda: b"rival" in (LastKnown(tmp_path / "accounts").read() or b""))
    finally:
        running.cancel()


async def test_without_redis_those_that_were_kept_are_used(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    store = Store.connect(own_redis.url)
    try:
        await store.commit(Change(event=CREATE, accounts=(account("acme"),)))
        seen: list[Accounts] = []
        follower = AccountFollower(store, seen.append, LastKnown(tmp_path / "accounts"))
        running = asyncio.create_task(follower.run())
        await until(lambda: bool(LastKnown(tmp_path / "accounts").read()))
        running.cancel()
        own_redis.stop()
        after: list[Accounts] = []
        await AccountFollower(store, after.append, LastKnown(tmp_path / "accounts")).start()
        assert after == [seen[-1]]
    finally:
        await store.close()


async def test_a_damaged_cache_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "accounts").write_bytes(b'{"acme": 3}')
    store = Store.connect("unix:///nonexistent/redis")
    seen: list[Accounts] = []
    await AccountFollower(store, seen.append, LastKnown(tmp_path / "accounts")).start()
    assert seen == []
    await store.close()


async def test_an_emptied_redis_makes_a_gateway_that_starts_forget_nothing(store: Store, tmp_path: Path) -> None:
    kept = account("acme")
    LastKnown(tmp_path / "accounts").write(msgspec.json.encode({"acme": kept}))
    seen: list[Accounts] = []
    await AccountFollower(store, seen.append, LastKnown(tmp_path / "accounts")).start()
    assert seen == [{"acme": kept}]
