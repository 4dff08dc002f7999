"""Edits where something else than a version is wrong: a store that was emptied, a change that cannot stand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import redis.asyncio

from routing.change import Change, Committed
from routing.event import Event
from routing.store import Store
from server.admin import edits
from server.admin.edits import Standing
from tests.server.admin.desk import Desk, desk


@pytest_asyncio.fixture
async def house(store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(store, tmp_path) as house:
        yield house


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/tenants/acme"),
        ("GET", "/v1/tenants"),
        ("PATCH", "/v1/tenants/acme"),
        ("POST", "/v1/operators/keys"),
    ],
)
async def test_over_an_emptied_redis_an_operator_is_told_what_to_do(
    house: Desk, raw: redis.asyncio.Redis, namespace: str, method: str, path: str
) -> None:
    """The key is sound and the tenants are not gone: an operator must not go looking for them."""
    await raw.delete(*[name async for name in raw.scan_iter(f"{{{namespace}}}*")])
    body = {"weight": 2.0} if method == "PATCH" else {} if method == "POST" else None
    answer = await house.ask(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (503, "control_plane_unavailable")
    assert "tombola route recover" in answer.json()["error"]


async def test_a_change_that_makes_the_table_too_large_is_a_conflict(
    house: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document of a legal size may become a larger one once it is written out."""
    standing = len((await house.ask("GET", "/v1/table")).content)
    monkeypatch.setattr("routing.document.MAX_DOCUMENT_BYTES", standing + 400)
    names = [f"tenant-{number}" for number in range(8)]
    answers = [await house.ask("POST", "/v1/tenants", json={"name": name}) for name in names]
    assert {answer.status_code for answer in answers} == {201, 409}
    assert answers[-1].json()["code"] == "conflict"
    assert (await house.ask("GET", "/v1/table")).status_code == 200


async def test_who_has_lost_once_goes_first(house: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tenants share one table: a busy one must not make the others' changes fail again and again."""
    store, caller = house.store, house.gateway.caller({b"x-api-key": house.keys["operator"].encode()})
    plain, busy = store.commit, list[asyncio.Task[Committed]]()

    def another(who: str) -> Callable[[Standing], Change]:
        event = Event(action="test.edit", actor=who)
        return lambda standing: Change(event=event, table=standing.table)

    async def overtaken(change: Change) -> Committed:
        if change.event.actor == "slow":  # whenever it is about to commit, somebody else is about to begin
            busy.append(asyncio.create_task(edits.commit(store, caller, another("busy"))))
            await asyncio.wait(busy[-1:], timeout=0.2)
        return await plain(change)

    monkeypatch.setattr(store, "commit", overtaken)
    assert (await edits.commit(store, caller, another("slow"))).event.actor == "slow"
    assert {done.event.actor for done in await asyncio.gather(*busy)} == {"busy"}
    assert len(busy) == 2
