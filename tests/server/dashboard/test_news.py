"""The last events for all who watch: from a real audit log, one look for many."""

import pytest

from routing.change import Change
from routing.embedded import EmbeddedRedis
from routing.event import Event
from routing.store import Store
from server.dashboard.news import FRESH_S, KEPT, News

pytestmark = pytest.mark.redis


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def happen(store: Store, *subjects: str, tenant: str | None = "acme") -> None:
    for subject in subjects:
        await store.commit(Change(event=Event(action="ticket.promote", actor="test", tenant=tenant, subject=subject)))


async def subjects(news: News, tenant: str | None = None) -> list[str]:
    return [event.subject for event in await news.of(tenant)]


async def test_operators_get_all_a_tenant_its_own_however_far_back(store: Store) -> None:
    await happen(store, "mine")
    await happen(store, *(f"theirs{n}" for n in range(KEPT + 5)), tenant="rival")
    await happen(store, "table", tenant=None)
    news = News(store)
    assert (await subjects(news))[:2] == ["table", f"theirs{KEPT + 4}"]
    assert len(await subjects(news)) == KEPT
    assert await subjects(news, "acme") == ["mine"]
    assert await subjects(news, "nobody") == []


async def test_nothing_is_looked_up_again_while_it_is_fresh(store: Store) -> None:
    clock = Clock()
    news = News(store, clock)
    await happen(store, "first")
    assert await subjects(news, "acme") == ["first"]
    await happen(store, "second")
    assert await subjects(news) == ["first"]
    assert await subjects(news, "acme") == ["first"]
    clock.now += FRESH_S
    assert await subjects(news) == ["second", "first"]
    assert await subjects(news, "acme") == ["second", "first"]


@pytest.mark.parametrize("count", [1, KEPT - 1, KEPT, KEPT + 20])
async def test_a_tenants_events_stay_complete_however_many_came_between(store: Store, count: int) -> None:
    """Also where so many came that the last look does not reach back to the one before."""
    clock = Clock()
    news = News(store, clock)
    await happen(store, "old")
    assert await subjects(news, "acme") == ["old"]
    await happen(store, "new")
    await happen(store, *(f"theirs{n}" for n in range(count)), tenant="rival")
    clock.now += FRESH_S
    assert await subjects(news, "acme") == ["new", "old"]
    clock.now += FRESH_S
    assert await subjects(news, "acme") == ["new", "old"]


async def test_an_event_between_two_looks_is_there_once(store: Store) -> None:
    """A tenant is looked for after the last look at all, and something has happened in between."""
    clock = Clock()
    news = News(store, clock)
    await happen(store, "first", tenant="rival")
    assert await subjects(news) == ["first"]
    await happen(store, "second")
    await subjects(news, "acme")
    clock.now += FRESH_S
    assert await subjects(news, "acme") == ["second"]


async def test_without_redis_the_last_events_stay(own_redis: EmbeddedRedis, namespace: str) -> None:
    store = Store.connect(own_redis.url, namespace)
    clock = Clock()
    news = News(store, clock)
    await happen(store, "first")
    assert await subjects(news, "acme") == ["first"]
    own_redis.stop()
    clock.now += FRESH_S
    assert await subjects(news, "acme") == ["first"]
    own_redis.start(timeout_s=60)
    seen = [news.are_fresh]
    clock.now += FRESH_S
    await subjects(news)
    seen.append(news.are_fresh)
    assert seen == [False, True]
    await store.close()


async def test_where_redis_is_known_to_be_away_nobody_waits_for_it() -> None:
    store = Store.connect("unix:///nonexistent/redis")
    news = News(store)
    assert await news.of(None, may_look=False) == []
    assert not news.are_fresh
    await store.close()
