"""The key routes, over real HTTP: keys are shown once, expire, are rotated and deleted; nobody locks themselves out."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from routing.account import ApiKey
from routing.change import Change
from routing.event import Event
from routing.keys import key_hash
from routing.store import Store
from server.admin.keyring import IN_TABLE, MAX_KEYS
from tests.server.admin.desk import Desk, desk

pytestmark = pytest.mark.redis
KEYS = "/v1/tenants/acme/keys"
OPERATORS = "/v1/operators/keys"


@pytest_asyncio.fixture
async def house(store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(store, tmp_path) as house:
        yield house


def assert_error(response: Any, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    assert response.json()["code"] == code
    return str(response.json()["error"])


async def made(house: Desk, key: str = "acme", path: str = KEYS, **body: Any) -> dict[str, Any]:
    response = await house.ask("POST", path, key, json=body)
    assert response.status_code == 201, response.text
    return dict(response.json())


async def ids(house: Desk, path: str = KEYS) -> list[str]:
    return [item["id"] for item in (await house.ask("GET", path)).json()["keys"]]


async def put_keys(house: Desk, *keys: ApiKey) -> None:
    """Give acme these keys beside its own."""
    account = await house.account()
    new = msgspec.structs.replace(account, keys=[*account.keys, *keys])
    await house.store.commit(Change(event=Event(action="test.keys", actor="test"), accounts=(new,)))


@pytest.mark.parametrize("role", ["call", "register", "admin"])
async def test_a_new_key_works_with_its_role_and_is_never_shown_again(house: Desk, role: str) -> None:
    new = await made(house, role=role, label="CI", expires_in_s=3600)
    assert await house.is_let_in(new["key"])
    listed = await house.ask("GET", KEYS)
    shown = next(item for item in listed.json()["keys"] if item["id"] == new["id"])
    assert shown == {name: new[name] for name in ("id", "role", "label", "created_at", "expires_at")}
    assert new["expires_at"] == pytest.approx(new["created_at"] + 3600)
    hashes = [key.hash for key in (await house.account()).keys]
    assert key_hash(new["key"]) in hashes
    assert not any(secret in listed.text for secret in [new["key"], *hashes])
    status = (await house.ask("GET", KEYS, new["key"])).status_code
    assert status == (200 if role == "admin" else 403)


@pytest.mark.parametrize("key", ["acme.register", "acme.call"])
async def test_keys_are_for_admin_keys_and_operators_only(house: Desk, key: str) -> None:
    some = (await ids(house))[0]
    for method, path in (
        ("GET", KEYS), ("POST", KEYS), ("POST", f"{KEYS}/{some}/rotate"), ("DELETE", f"{KEYS}/{some}")
    ):  # fmt: skip
        assert_error(await house.ask(method, path, key), 403, "forbidden")


async def test_rotation_without_grace_ends_the_old_key_at_once(house: Desk) -> None:
    old = await made(house, role="call", label="shop")
    assert await house.is_let_in(old["key"])
    answer = await house.ask("POST", f"{KEYS}/{old['id']}/rotate", "acme")
    assert answer.status_code == 201, answer.text
    new = answer.json()
    assert (new["role"], new["label"], new["expires_at"]) == ("call", "shop", None)
    assert await house.is_let_in(new["key"])
    assert await house.is_let_in(old["key"], is_known=False)
    assert old["id"] not in await ids(house)


async def test_rotation_with_grace_lets_both_live_until_it_is_over(house: Desk) -> None:
    old = await made(house, role="register", expires_in_s=7200)
    new = (await house.ask("POST", f"{KEYS}/{old['id']}/rotate", "acme", json={"grace_s": 600})).json()
    assert await house.is_let_in(old["key"])
    assert await house.is_let_in(new["key"])
    listed = {item["id"]: item for item in (await house.ask("GET", KEYS)).json()["keys"]}
    assert listed[old["id"]]["expires_at"] == pytest.approx(new["created_at"] + 600)
    assert new["expires_at"] == pytest.approx(new["created_at"] + 7200)  # as long as the old one was made to live


async def test_grace_never_lengthens_a_keys_life(house: Desk) -> None:
    old = await made(house, role="call", expires_in_s=60)
    await house.ask("POST", f"{KEYS}/{old['id']}/rotate", "acme", json={"grace_s": 86400})
    listed = {item["id"]: item for item in (await house.ask("GET", KEYS)).json()["keys"]}
    assert listed[old["id"]]["expires_at"] == old["expires_at"]


async def test_a_deleted_key_is_unknown_and_deleting_it_again_says_so(house: Desk) -> None:
    old = await made(house, role="call")
    assert await house.is_let_in(old["key"])
    gone = await house.ask("DELETE", f"{KEYS}/{old['id']}", "acme")
    assert gone.json() == {"deleted": old["id"]}
    assert await house.is_let_in(old["key"], is_known=False)
    assert_error(await house.ask("DELETE", f"{KEYS}/{old['id']}", "acme"), 404, "unknown_key")
    assert_error(await house.ask("POST", f"{KEYS}/{old['id']}/rotate", "acme"), 404, "unknown_key")


async def test_a_key_of_another_tenant_is_as_unknown_as_none(house: Desk) -> None:
    theirs = (await house.account("rival")).keys[0].id
    assert_error(await house.ask("DELETE", f"{KEYS}/{theirs}", "acme"), 404, "unknown_key")
    assert len((await house.account("rival")).keys) == 1


async def test_the_last_admin_key_goes_by_an_operators_hand_only(house: Desk) -> None:
    last = next(key.id for key in (await house.account()).keys if key.role == "admin")
    assert "last admin key" in assert_error(await house.ask("DELETE", f"{KEYS}/{last}", "acme"), 409, "conflict")
    second = await made(house, role="admin", expires_in_s=60)
    assert (await house.ask("DELETE", f"{KEYS}/{second['id']}", "acme")).status_code == 200
    assert (await house.ask("DELETE", f"{KEYS}/{last}")).status_code == 200
    assert await house.is_let_in("acme", is_known=False)


async def test_the_last_operators_key_cannot_be_deleted(house: Desk) -> None:
    only = (await ids(house, OPERATORS))[0]
    assert_error(await house.ask("DELETE", f"{OPERATORS}/{only}"), 409, "conflict")
    new = await made(house, "operator", OPERATORS, label="second")
    assert new["role"] == "operator"
    assert await house.is_let_in(new["key"])
    assert (await house.ask("GET", "/v1/events", new["key"])).status_code == 200
    assert (await house.ask("DELETE", f"{OPERATORS}/{only}", new["key"])).status_code == 200
    assert await house.is_let_in("operator", is_known=False)


@pytest.mark.parametrize("key", ["acme", "rival"])
async def test_operators_keys_are_nobody_elses_business(house: Desk, key: str) -> None:
    only = (await ids(house, OPERATORS))[0]
    for method, path in (
        ("GET", OPERATORS), ("POST", OPERATORS), ("POST", f"{OPERATORS}/{only}/rotate"),
        ("DELETE", f"{OPERATORS}/{only}"),
    ):  # fmt: skip
        assert_error(await house.ask(method, path, key), 403, "forbidden")


async def test_expired_keys_are_not_shown_and_go_when_the_account_is_written(house: Desk) -> None:
    await put_keys(house, ApiKey(id="0" * 12, hash="0" * 64, role="admin", expires_at=1000.0))
    assert "0" * 12 not in await ids(house)
    assert_error(await house.ask("POST", f"{KEYS}/{'0' * 12}/rotate", "acme"), 404, "unknown_key")
    assert len((await house.account()).keys) == 4
    await house.ask("PATCH", "/v1/tenants/acme", json={"limits": {"concurrency": 5}})
    assert len((await house.account()).keys) == 3


async def test_there_are_at_most_so_many_keys_and_expired_ones_do_not_count(house: Desk) -> None:
    def kept(i: int, expires_at: float | None) -> ApiKey:
        return ApiKey(id=f"{i:012x}", hash=f"{i:064x}", expires_at=expires_at)

    await put_keys(house, *(kept(i, 1000.0 if i == 1 else None) for i in range(1, MAX_KEYS - 2)))
    assert (await made(house, role="call"))["id"]
    assert_error(await house.ask("POST", KEYS, "acme", json={"role": "call"}), 409, "conflict")


async def test_a_key_that_the_table_gives_is_listed_rotated_and_deleted_like_any_other(house: Desk) -> None:
    document = (await house.ask("GET", "/v1/table")).json()
    keys = ["tk_" + "q" * 40, "tk_" + "r" * 40]
    document["tenants"]["acme"]["keys"] = keys
    put = await house.ask("PUT", "/v1/table", json=document, headers={"If-Match": '"1"'})
    assert put.status_code == 200, put.text
    first, second = (key_hash(key)[:12] for key in keys)
    listed = {item["id"]: item for item in (await house.ask("GET", KEYS)).json()["keys"]}
    assert (listed[first]["label"], listed[first]["role"]) == (IN_TABLE, "call")
    assert await house.is_let_in(keys[0])
    assert await house.is_let_in(keys[1])
    assert (await house.ask("DELETE", f"{KEYS}/{first}", "acme")).status_code == 200
    rotated = await house.ask("POST", f"{KEYS}/{second}/rotate", "acme", json={"grace_s": 900})
    assert rotated.status_code == 201, rotated.text
    assert (await house.table()).tenants["acme"].key_hashes == []
    assert await house.is_let_in(keys[0], is_known=False)
    assert await house.is_let_in(keys[1])  # in its grace time, in the account now
    assert await house.is_let_in(rotated.json()["key"])


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        (KEYS, {}, "role"),
        (KEYS, {"role": "root"}, "root"),
        (KEYS, {"role": "operator"}, "operator"),
        (KEYS, {"role": "call", "expires_in_s": 0}, "expires_in_s"),
        (KEYS, {"role": "call", "expires_in_s": 1e300}, "expires_in_s"),
        (KEYS, {"role": "call", "label": "x" * 65}, "label"),
        (KEYS, {"role": "call", "key": "tk_mine"}, "key"),
        (OPERATORS, {"role": "admin"}, "role"),
    ],
)
async def test_what_a_key_cannot_be_is_refused_by_name(house: Desk, path: str, body: Any, word: str) -> None:
    assert word in assert_error(await house.ask("POST", path, json=body), 400, "bad_request")


async def test_two_admins_do_not_overwrite_each_other_unknowingly(house: Desk) -> None:
    tag = (await house.ask("GET", KEYS, "acme")).headers["etag"]
    body = {"role": "call"}
    assert (await house.ask("POST", KEYS, "acme", json=body, headers={"If-Match": tag})).status_code == 201
    assert_error(
        await house.ask("POST", KEYS, "acme", json=body, headers={"If-Match": tag}), 412, "precondition_failed"
    )
    assert (await house.account("acme")).version == 2


async def test_an_account_that_has_never_been_stored_is_an_operators_to_begin(house: Desk) -> None:
    """A tenant of an authored table gets its first admin key."""
    document = (await house.ask("GET", "/v1/table")).json()
    document["tenants"]["listed"] = {"key_hashes": []}
    await house.ask("PUT", "/v1/table", json=document, headers={"If-Match": '"1"'})
    new = await made(house, "operator", "/v1/tenants/listed/keys", role="admin")
    assert await house.is_let_in(new["key"])
    account = await house.account("listed")
    assert (account.version, [key.role for key in account.keys]) == (1, ["admin"])
