"""The audit log's routes, over real HTTP: newest first, page by page, a tenant's own only, and no secret in it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from routing.event import Event
from routing.store import Store
from tests.server.admin.desk import Desk, desk

pytestmark = pytest.mark.redis


@pytest_asyncio.fixture
async def house(store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(store, tmp_path) as house:
        yield house


async def events(house: Desk, path: str = "/v1/events", key: str = "operator") -> list[dict[str, Any]]:
    response = await house.ask("GET", path, key)
    assert response.status_code == 200, response.text
    return list(response.json()["events"])


async def weigh(house: Desk, tenant: str, *weights: float) -> None:
    for weight in weights:
        response = await house.ask("PATCH", f"/v1/tenants/{tenant}", json={"weight": weight})
        assert response.status_code == 200


async def test_pages_follow_each_other_newest_first_without_gaps(house: Desk) -> None:
    await weigh(house, "acme", 2, 3, 4, 5)
    everything = await events(house)
    assert [event["after"].get("weight") for event in everything] == [5.0, 4.0, 3.0, 2.0, None]
    found, path, pages = [], "/v1/events?count=2", 0
    while True:
        page = (await house.ask("GET", path)).json()
        found += page["events"]
        pages += 1
        if page.get("next") is None:
            break
        path = f"/v1/events?count=2&before={page['next']}"
    assert found == everything
    assert pages == 3
    assert [event["at"] for event in everything] == sorted((event["at"] for event in everything), reverse=True)


async def test_operators_may_ask_for_one_tenants_events(house: Desk) -> None:
    await weigh(house, "acme", 2)
    await weigh(house, "rival", 3)
    assert [event["subject"] for event in await events(house, "/v1/events?tenant=rival")] == ["rival"]
    assert await events(house, "/v1/events?tenant=nobody") == []


@pytest.mark.parametrize("key", ["acme", "acme.register", "operator"])
async def test_a_tenant_sees_its_own_events_and_no_others(house: Desk, key: str) -> None:
    await weigh(house, "acme", 2)
    await weigh(house, "rival", 3)
    assert [event["tenant"] for event in await events(house, "/v1/tenants/acme/events", key)] == ["acme"]


async def test_another_tenant_under_a_name_sees_nothing_of_the_one_before(house: Desk) -> None:
    """Wherever its page begins."""
    await weigh(house, "acme", 7)
    old = (await events(house))[0]["id"]
    assert (await house.ask("DELETE", "/v1/tenants/acme?force=true")).status_code == 200
    new = (await house.ask("POST", "/v1/tenants", json={"name": "acme"})).json()
    assert await house.is_let_in(new["key"])
    await weigh(house, "acme", 8)
    own = await events(house, "/v1/tenants/acme/events", new["key"])
    assert [event["action"] for event in own] == ["tenant.change", "tenant.create"]
    for before in (own[-1]["id"], f"{int(old.partition('-')[0])}-999999"):
        assert await events(house, f"/v1/tenants/acme/events?before={before}", new["key"]) == []
    assert len(await events(house, "/v1/tenants/acme/events")) == 4  # operators see both


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("count=0", "count"),
        ("count=1001", "count"),
        ("count=x", "count"),
        ("before=x", "before"),
        ("before=1-x", "before"),
    ],
)
async def test_badly_typed_parameters_are_named(house: Desk, query: str, word: str) -> None:
    response = await house.ask("GET", f"/v1/events?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")
    assert word in response.json()["error"]


async def test_all_events_are_for_operators(house: Desk) -> None:
    response = await house.ask("GET", "/v1/events", "acme")
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert (await house.ask("GET", "/v1/tenants/acme/events", "acme.call")).status_code == 403


Act = Callable[[Desk], Awaitable[httpx.Response]]


def ask(method: str, path: str, key: str = "operator", **options: Any) -> Act:
    async def act(house: Desk) -> httpx.Response:
        if "{key}" in path:
            listed = (await house.ask("GET", path.partition("/{key}")[0])).json()["keys"]
            return await house.ask(method, path.replace("{key}", listed[-1]["id"]), key, **options)
        return await house.ask(method, path.replace("{own}", house.own), key, **options)

    return act


async def publish(house: Desk) -> httpx.Response:
    document = (await house.ask("GET", "/v1/table")).json()
    document["tenants"]["acme"]["keys"] = ["tk_" + "s" * 40]
    return await house.ask("PUT", "/v1/table", json=document, headers={"If-Match": "*"})


ANY: dict[str, Any] = {"headers": {"If-Match": "*"}}
KEYS, OPERATORS, OWN = "/v1/tenants/acme/keys", "/v1/operators/keys", "/v1/tenants/acme/tickets/{own}"
MUTATIONS: dict[str, tuple[Act, str, str, str | None]] = {
    "create": (ask("POST", "/v1/tenants", json={"name": "new"}), "tenant.create", "operator", "new"),
    "change": (ask("PATCH", "/v1/tenants/acme", json={"weight": 2}), "tenant.change", "operator", "acme"),
    "limits": (ask("PATCH", "/v1/tenants/acme", json={"limits": {"tickets": 5}}), "tenant.change", "operator", "acme"),
    "suspend": (ask("PATCH", "/v1/tenants/acme", json={"is_suspended": True}), "tenant.suspend", "operator", "acme"),
    "delete": (ask("DELETE", "/v1/tenants/acme?force=true"), "tenant.delete", "operator", "acme"),
    "key": (ask("POST", KEYS, "acme", json={"role": "call"}), "key.create", "acme", "acme"),
    "rotate": (ask("POST", f"{KEYS}/{{key}}/rotate", "acme"), "key.rotate", "acme", "acme"),
    "revoke": (ask("DELETE", f"{KEYS}/{{key}}", "acme"), "key.delete", "acme", "acme"),
    "operator key": (ask("POST", OPERATORS, json={"label": "x"}), "key.create", "operator", None),
    "operator rotate": (ask("POST", f"{OPERATORS}/{{key}}/rotate"), "key.rotate", "operator", None),
    "publish": (publish, "table.publish", "operator", None),
    "restore": (ask("POST", "/v1/table/restore", json={"version": 1}, **ANY), "table.restore", "operator", None),
    "rollback": (ask("POST", "/v1/tenants/acme/domains/own/rollback", "acme"), "", "acme", "acme"),
    "retire": (ask("POST", f"{OWN}/retire", "acme", json={"is_last": True}), "ticket.retire", "acme", "acme"),
}  # fmt: skip


@pytest.mark.parametrize(("act", "action", "key", "tenant"), MUTATIONS.values(), ids=MUTATIONS)
async def test_every_change_leaves_exactly_one_event_by_its_actor_and_without_any_secret(
    house: Desk, act: Act, action: str, key: str, tenant: str | None
) -> None:
    before = await house.store.events()
    hashes = {kept.hash for account in (await house.store.load_accounts()).values() for kept in account.keys}
    with capture_logs() as logs:
        response = await act(house)
    new = (await house.store.events())[: -len(before)]
    if not action:  # there is nothing to roll back to
        assert (response.status_code, new) == (409, [])
        return
    assert response.status_code in (200, 201), response.text
    assert [(event.action, event.tenant) for event in new] == [(action, tenant)]
    caller = house.keys[key]
    account = "@operator" if key == "operator" else key
    assert new[0].actor.startswith("operator/" if key == "operator" else f"tenant/{account}/")
    assert new[0].actor.rpartition("/")[2] in {digest[:12] for digest in hashes}
    assert new[0].before or new[0].after
    hashes |= {kept.hash for account in (await house.store.load_accounts()).values() for kept in account.keys}
    body = response.json() if response.content else {}
    secrets = {caller, *house.keys.values(), *hashes, body.get("key", caller), "tk_" + "s" * 40}
    written = msgspec.json.encode(new).decode() + repr(logs)
    assert not [secret for secret in secrets if secret in written]


async def test_an_event_says_what_was_before_and_after(house: Desk) -> None:
    await house.ask("PATCH", "/v1/tenants/acme", json={"weight": 2, "limits": {"concurrency": 4}})
    event: Event = (await house.store.events())[0]
    assert (event.before["weight"], event.after["weight"]) == (1.0, 2.0)
    assert (event.before["limits"]["concurrency"], event.after["limits"]["concurrency"]) == (None, 4)
    assert event.table_version == 2


async def test_what_is_refused_leaves_no_event(house: Desk) -> None:
    before = await house.store.events()
    for method, path, key in (
        ("DELETE", "/v1/tenants/acme", "operator"), ("DELETE", "/v1/tenants/acme?force=true", "rival"),
        ("POST", "/v1/tenants", "acme"), ("DELETE", "/v1/tenants/acme/keys/000000000000", "acme"),
    ):  # fmt: skip
        assert (await house.ask(method, path, key, json={})).status_code >= 400
    assert await house.store.events() == before
