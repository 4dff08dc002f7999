"""The tour: everything that a store can do, once, over any URL. It is how a way of reaching Redis is shown to work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from routing.lease import Lease
from routing.store import Store, VersionConflict
from routing.table import Table
from tests.routing.redis.accounts import account, change, event, key
from tests.routing.tables import example_table

WORKER = Lease(kind="worker", name="w1", address="unix:/run/w1.sock", pid=41)
PATIENCE_S = 30.0


@asynccontextmanager
async def opened(url: str, namespace: str = "tombola") -> AsyncIterator[Store]:
    """A store that is closed at the end, whatever happens."""
    store = Store.connect(url, namespace)
    try:
        yield store
    finally:
        await store.close()


async def tour(url: str, namespace: str = "tombola") -> None:
    """Raises AssertionError, or what the store raises, where something does not work over ``url``."""
    async with opened(url, namespace) as store:
        await store.prepare()
        assert await store.ping()
        await _commits(store)
        await _watches(store)
        await store.announce(WORKER, ttl_s=3600.0)
        assert await store.leases("worker") == [WORKER]
        await store.withdraw(WORKER)
        assert await store.leases("worker") == []


async def _commits(store: Store) -> None:
    base = await store.publish(example_table())
    done = await store.commit(
        change(
            event=event("ticket.register", tenant="acme"), table=base, accounts=(account(), account("beta")),
            reports={("acme", "ab" * 32): b"{}", ("beta", "cd" * 32): b"{}"},
        )
    )  # fmt: skip
    assert await store.load_table() == done.table
    assert await store.load_accounts() == {found.name: found for found in done.accounts}
    assert await store.load_report("acme", "ab" * 32) == b"{}"
    assert await store.events("acme") == [done.event]
    assert len(await store.versions()) >= 2
    try:
        await store.commit(change(accounts=(account(),)))
    except VersionConflict:
        pass
    else:
        raise AssertionError("a conflict went unnoticed")
    await store.commit(change(gone=(done.accounts[1],)))


async def _watches(store: Store) -> None:
    async with aclosing(store.watch_table(poll_s=0.2)) as tables, aclosing(store.watch_accounts(poll_s=0.2)) as all_:
        await asyncio.wait_for(anext(tables), PATIENCE_S)
        accounts = await asyncio.wait_for(anext(all_), PATIENCE_S)
        assert sorted(accounts) == ["acme"]
        published = await store.publish(Table())
        assert await asyncio.wait_for(anext(tables), PATIENCE_S) == published
        await store.commit(change(accounts=(account("acme", 1, keys=[key("a")]),)))
        assert (await asyncio.wait_for(anext(all_), PATIENCE_S))["acme"].keys == [key("a")]
