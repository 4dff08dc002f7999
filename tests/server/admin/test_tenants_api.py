"""The tenant routes, over real HTTP: making, changing, suspending and deleting tenants."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from routing.account import OPERATOR, Limits
from routing.store import Store
from tests.server.admin.desk import Desk, desk

pytestmark = pytest.mark.redis
SIGNER = base64.b64encode(bytes(range(32))).decode()


@pytest_asyncio.fixture
async def house(store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(store, tmp_path) as house:
        yield house


def assert_error(response: Any, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    assert body["code"] == code
    assert body["request_id"] == response.headers["x-request-id"]
    return str(body["error"])


async def test_a_tenant_is_made_with_an_admin_key_that_works_and_is_shown_once(house: Desk) -> None:
    made = await house.ask("POST", "/v1/tenants", json={"name": "new", "weight": 2, "limits": {"concurrency": 3}})
    assert made.status_code == 201, made.text
    body = made.json()
    key = body.pop("key")
    assert made.headers["etag"] == '"1"'
    assert made.headers["cache-control"] == "no-store"
    assert await house.is_let_in(key)
    own = await house.ask("GET", "/v1/tenants/new", key)
    assert own.json() == {name: value for name, value in body.items() if name != "key_id"}
    assert (own.json()["weight"], own.json()["limits"]["concurrency"]) == (2.0, 3)
    keys = await house.ask("GET", "/v1/tenants/new/keys", key)
    assert [(item["id"], item["role"]) for item in keys.json()["keys"]] == [(body["key_id"], "admin")]
    assert key not in keys.text + own.text
    assert (await house.account("new")).keys[0].hash not in keys.text + own.text + made.text


async def test_a_name_that_is_taken_is_refused_and_nothing_changes(house: Desk) -> None:
    for name in ("acme", "rival"):
        assert name in assert_error(await house.ask("POST", "/v1/tenants", json={"name": name}), 409, "conflict")
    assert (await house.table()).version == 1


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"name": "@operator"}, "name"),
        ({"name": "A"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "x\n"}, "name"),
        ({}, "name"),
        ({"name": "x", "colour": "red"}, "colour"),
        ({"name": "x", "weight": 0}, "weight"),
        ({"name": "x", "weight": "2"}, "weight"),
        ({"name": "x", "limits": {"rate_per_s": -1}}, "rate_per_s"),
        ({"name": "x", "limits": {"rate_per_s": 1e-300}}, "rate_per_s"),  # a wait that is no number any more
        ({"name": "x", "limits": {"rate": 1}}, "rate"),
        ({"name": "x", "policy": {"signers": {"me": "!" * 43}}}, "policy.signers.me"),
        ({"name": "x", "policy": {"signers": {"me": SIGNER[:-5] + "=" * 4}}}, "signers"),
    ],
)
async def test_what_a_new_tenant_cannot_be_is_refused_by_name(house: Desk, body: Any, word: str) -> None:
    assert word in assert_error(await house.ask("POST", "/v1/tenants", json=body), 400, "bad_request")
    assert (await house.table()).version == 1


async def test_signers_are_public_keys_with_or_without_padding(house: Desk) -> None:
    policy = {"requires_signature": True, "signers": {"ci": SIGNER, "me": SIGNER.rstrip("=")}}
    changed = await house.ask("PATCH", "/v1/tenants/acme", json={"policy": policy})
    assert changed.json()["policy"]["signers"] == policy["signers"]


async def test_operators_see_all_tenants_and_a_tenant_itself(house: Desk) -> None:
    def names(response: Any) -> list[str]:
        return [tenant["tenant"] for tenant in response.json()["tenants"]]

    assert names(await house.ask("GET", "/v1/tenants")) == ["acme", "rival"]
    for key in ("acme", "acme.register", "acme.call"):
        assert names(await house.ask("GET", "/v1/tenants", key)) == ["acme"]


async def test_a_tenant_shows_what_its_quota_is_for_and_not_what_it_was_given(house: Desk) -> None:
    """Its own family has one ticket of 3000 bytes; the shared family counts for nobody."""
    acme = (await house.ask("GET", "/v1/tenants/acme")).json()
    assert (acme["tickets"], acme["ticket_bytes"], acme["keys"]) == (1, 3000, 3)
    assert acme["domains"] == ["home", "own"]
    rival = (await house.ask("GET", "/v1/tenants/rival")).json()
    assert (rival["tickets"], rival["ticket_bytes"]) == (0, 0)


async def test_limits_are_changed_member_by_member_and_null_takes_one_away(house: Desk) -> None:
    await house.ask("PATCH", "/v1/tenants/acme", json={"limits": {"rate_per_s": 5, "concurrency": 2}})
    changed = await house.ask("PATCH", "/v1/tenants/acme", json={"limits": {"rate_per_s": None, "tickets": 7}})
    assert changed.status_code == 200, changed.text
    assert (await house.account()).limits == Limits(concurrency=2, tickets=7)
    assert changed.json()["limits"] == {
        "rate_per_s": None, "burst": None, "concurrency": 2, "daily_requests": None, "ticket_bytes": 4 << 30,
        "tickets": 7,
    }  # fmt: skip
    text = assert_error(
        await house.ask("PATCH", "/v1/tenants/acme", json={"limits": {"tickets": None}}), 400, "bad_request"
    )
    assert "tickets" in text


@pytest.mark.parametrize("body", [None, {}, {"reason": "none"}])
async def test_a_change_of_nothing_is_refused(house: Desk, body: Any) -> None:
    assert_error(await house.ask("PATCH", "/v1/tenants/acme", json=body), 400, "bad_request")
    assert (await house.account()).version == 1


async def test_weight_and_memory_are_changed_in_the_table_and_keys_stay(house: Desk) -> None:
    before = await house.account()
    changed = await house.ask("PATCH", "/v1/tenants/acme", json={"weight": 3, "reserved_bytes": 5})
    assert (changed.json()["weight"], changed.json()["reserved_bytes"]) == (3.0, 5)
    row = (await house.table()).tenants["acme"]
    assert (row.weight, row.reserved_bytes, sorted(row.domains)) == (3.0, 5, ["home", "own"])
    after = await house.account()
    assert (after.keys, after.version) == (before.keys, before.version + 1)


async def test_a_change_of_an_older_version_is_refused(house: Desk) -> None:
    tag = (await house.ask("GET", "/v1/tenants/acme")).headers["etag"]
    first = await house.ask("PATCH", "/v1/tenants/acme", json={"weight": 2}, headers={"If-Match": tag})
    assert first.status_code == 200
    assert first.headers["etag"] != tag
    for method, body in (("PATCH", {"weight": 5}), ("DELETE", None)):
        late = await house.ask(method, "/v1/tenants/acme?force=true", json=body, headers={"If-Match": tag})
        assert_error(late, 412, "precondition_failed")
    assert (await house.table()).tenants["acme"].weight == 2.0


async def test_a_suspended_tenant_is_refused_with_every_key_until_it_is_resumed(house: Desk) -> None:
    await house.ask("PATCH", "/v1/tenants/acme", json={"is_suspended": True, "reason": "unpaid"})
    for key in ("acme", "acme.register", "acme.call"):
        while (refused := await house.ask("GET", "/v1/tenants", key)).status_code == 200:
            pass
        assert_error(refused, 403, "suspended")
    assert (await house.ask("GET", "/v1/tenants/rival", "rival")).status_code == 200
    await house.ask("PATCH", "/v1/tenants/acme", json={"is_suspended": False})
    while (await house.ask("GET", "/v1/tenants", "acme")).status_code != 200:
        pass
    actions = [event.action for event in await house.store.events("acme")]
    assert actions == ["tenant.resume", "tenant.suspend"]
    assert (await house.store.events("acme"))[1].reason == "unpaid"


async def test_a_tenant_that_answers_is_deleted_by_force_only(house: Desk) -> None:
    text = assert_error(await house.ask("DELETE", "/v1/tenants/acme"), 409, "conflict")
    assert "force=true" in text
    assert "home" in text
    gone = await house.ask("DELETE", "/v1/tenants/acme?force=true")
    assert gone.json() == {"deleted": "acme"}
    table = await house.table()
    assert sorted(table.families) == ["home"]
    assert sorted(table.tenants) == ["rival"]
    assert "acme" not in await house.store.load_accounts()
    assert await house.store.load_report("acme", house.own) is None
    for key in ("acme", "acme.call"):
        assert await house.is_let_in(key, is_known=False)
    assert_error(await house.ask("GET", "/v1/tenants/acme"), 404, "unknown_tenant")
    assert_error(await house.ask("DELETE", "/v1/tenants/acme?force=true"), 404, "unknown_tenant")


async def test_a_tenant_that_stands_in_the_table_only_can_be_changed_and_deleted(house: Desk) -> None:
    table = await house.table()
    document = (await house.ask("GET", "/v1/table")).json()
    document["tenants"]["listed"] = {"key_hashes": []}
    put = await house.ask("PUT", "/v1/table", json=document, headers={"If-Match": f'"{table.version}"'})
    assert put.status_code == 200, put.text
    shown = await house.ask("GET", "/v1/tenants/listed")
    assert (shown.json()["version"], shown.headers["etag"]) == (0, '"0"')
    changed = await house.ask("PATCH", "/v1/tenants/listed", json={"limits": {"concurrency": 1}})
    assert changed.json()["version"] == 1
    assert (await house.ask("DELETE", "/v1/tenants/listed")).status_code == 200
    assert "listed" not in (await house.table()).tenants


@pytest.mark.parametrize("path", [f"/v1/tenants/{OPERATOR}", f"/v1/tenants/{OPERATOR}/keys"])
async def test_the_operators_account_is_no_tenant(house: Desk, path: str) -> None:
    assert_error(await house.ask("GET", path), 404, "unknown_tenant")
    assert_error(await house.ask("DELETE", f"/v1/tenants/{OPERATOR}?force=true"), 404, "unknown_tenant")
    assert_error(await house.ask("PATCH", f"/v1/tenants/{OPERATOR}", json={"weight": 2}), 404, "unknown_tenant")
    assert OPERATOR in await house.store.load_accounts()
