"""The routes of tickets: looking at them and moving them on, over real HTTP and a real Redis.

Which moves are legal is tested with `routing.lifecycle`; here, that each route makes its own, from what stands, with an
event, and for who may.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from routing.store import Store
from tests.server.admin.registrar import Registrar, registrar
from tests.tiny import tiny_bundle

BETTER = tiny_bundle("accurate", 0.97, scale=0.5)
BETTER_ID = hashlib.sha256(BETTER).hexdigest()
PATH = f"/tickets/{BETTER_ID[:12]}"


@pytest_asyncio.fixture
async def house(store: Store, tmp_path: Path) -> AsyncIterator[Registrar]:
    """With a second ticket registered beside the promoted one."""
    async with registrar(store, tmp_path) as house:
        assert (await house.upload(BETTER)).status_code == 201
        yield house


async def states(house: Registrar) -> dict[str, str]:
    listed = (await house.get("/tickets")).json()["tickets"]
    return {row["ticket"]: row["state"] for row in listed}


async def test_the_list_shows_every_ticket_that_may_answer(house: Registrar) -> None:
    response = await house.get("/tickets", key="acme.register")
    assert response.headers["etag"] == f'"{response.json()["version"]}"'
    assert await states(house) == {house.ticket: "promoted", BETTER_ID: "registered"}
    rows = {row["ticket"]: row for row in response.json()["tickets"]}
    assert rows[BETTER_ID]["bytes"] == len(BETTER)
    assert rows[BETTER_ID]["domain"] == "home"


async def test_a_ticket_that_an_operator_put_there_has_no_report(house: Registrar) -> None:
    shown = (await house.get(f"/tickets/{house.ticket}")).json()
    assert shown["report"] is None
    assert shown["promise"] == {"deadline_ms": 500.0, "quality_floor": 0.0}


async def test_promote_and_roll_back_and_roll_back_no_further(house: Registrar) -> None:
    promoted = await house.post(f"{PATH}/promote", {"deadline_ms": 50.0, "reason": "it is better"})
    assert (promoted.status_code, promoted.json()["state"]) == (200, "promoted")
    assert promoted.json()["replaces"] == [house.ticket]
    assert await states(house) == {house.ticket: "registered", BETTER_ID: "promoted"}
    assert (await house.table()).tenants["acme"].domains["home"].tiers["accurate"].deadline_ms == 50.0
    back = await house.post("/domains/home/rollback", {"reason": "it was not"})
    assert [row["ticket"] for row in back.json()["promoted"]] == [house.ticket]
    assert await states(house) == {house.ticket: "promoted", BETTER_ID: "registered"}
    further = await house.post("/domains/home/rollback")
    assert (further.status_code, further.json()["code"]) == (409, "conflict")
    actions = [(event.action, event.reason) for event in await house.store.events("acme")][:2]
    assert actions == [("ticket.roll_back", "it was not"), ("ticket.promote", "it is better")]


async def test_a_canary_starts_stands_and_is_withdrawn(house: Registrar) -> None:
    started = await house.post(f"{PATH}/canary", {"share": 0.25, "mode": "shadow"})
    assert (started.status_code, started.json()["state"]) == (200, "canary")
    shown = (await house.get("/domains/home/canary")).json()["canary"]
    assert (shown["ticket"], shown["current"], shown["share"]) == (BETTER_ID, house.ticket, 0.25)
    assert (await house.get(PATH)).json()["canary"] == shown
    withdrawn = await house.post(f"{PATH}/withdraw")
    assert withdrawn.json()["state"] == "registered"
    assert (await house.get("/domains/home/canary")).json() == {"canary": None, "standing": None}


async def test_every_move_is_an_event_of_who_made_it(house: Registrar) -> None:
    for path in ("canary", "withdraw", "promote"):
        assert (await house.post(f"{PATH}/{path}")).status_code == 200
    assert (await house.post("/domains/home/rollback", key="operator")).status_code == 200
    assert (await house.post(f"{PATH}/retire")).status_code == 200
    events = list(reversed(await house.store.events("acme")))[-6:]
    assert [event.action for event in events] == [
        "ticket.register", "canary.start", "canary.withdraw", "ticket.promote", "ticket.roll_back", "ticket.retire",
    ]  # fmt: skip
    assert [event.actor.partition("/")[0] for event in events] == ["tenant"] * 4 + ["operator", "tenant"]
    assert all(event.table_version for event in events)


@pytest.mark.parametrize("path", [f"{PATH}/{move}" for move in ("canary", "promote", "withdraw", "retire")])
async def test_moves_are_for_admins(house: Registrar, path: str) -> None:
    response = await house.post(path, key="acme.register")
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/tickets/00000000/promote", "unknown_ticket"),
        ("/tickets/nonsense/retire", "unknown_ticket"),
        ("/domains/nowhere/rollback", "unknown_domain"),
    ],
)
async def test_what_is_not_there_has_a_name(house: Registrar, path: str, code: str) -> None:
    response = await house.post(path)
    assert (response.status_code, response.json()["code"]) == (404, code)


async def test_an_illegal_move_says_what_to_do(house: Registrar) -> None:
    response = await house.post(f"/tickets/{house.ticket}/retire")
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert "promote another first" in response.json()["error"]


async def test_a_move_may_be_made_conditional_on_the_table(house: Registrar) -> None:
    stale = await house.post(f"{PATH}/promote", **{"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert (await states(house))[BETTER_ID] == "registered"
    version = (await house.table()).version
    moved = await house.post(f"{PATH}/promote", **{"If-Match": f'W/"9", "{version}"'})
    assert moved.status_code == 200
    assert moved.headers["etag"] == f'"{version + 1}"'


@pytest.mark.parametrize(
    "body", [{"share": 0.0}, {"share": "much"}, {"mode": "quiet"}, {"shares": 0.1}, [], {"share": 1e400}]
)
async def test_a_body_that_cannot_be_is_refused(house: Registrar, body: object) -> None:
    import json

    async with house.client() as client:
        response = await client.post(f"/v1/tenants/acme{PATH}/canary", content=json.dumps(body))
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")


async def test_moves_at_once_are_made_one_after_the_other(house: Registrar) -> None:
    """Whoever comes second sees what the first one made, and hears why it cannot be done any more."""
    responses = await asyncio.gather(*(house.post(f"{PATH}/promote") for _ in range(4)))
    assert sorted(response.status_code for response in responses) == [200, 409, 409, 409]
    assert len([event for event in await house.store.events("acme") if event.action == "ticket.promote"]) == 1


async def test_different_moves_at_once_all_get_through(house: Registrar) -> None:
    others = [tiny_bundle(f"t{i}", 0.9, scale=0.5 + i / 8) for i in range(3)]
    made = await asyncio.gather(*(house.upload(data, query="?domain=cellar") for data in others))
    assert {response.status_code for response in made} == {201}
    tickets = [hashlib.sha256(data).hexdigest() for data in others]
    moves = [house.post(f"/tickets/{ticket}/promote") for ticket in tickets] + [house.post(f"{PATH}/promote")]
    assert {response.status_code for response in await asyncio.gather(*moves)} == {200}
