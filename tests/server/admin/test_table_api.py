"""The table routes, over real HTTP: publish, validate, explain, compare and restore; nobody overwrites anybody."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from routing.keys import key_hash
from routing.store import Store
from routing.table import Table
from tests.server.admin.desk import OWN, Desk, desk

pytestmark = pytest.mark.redis
replace = msgspec.structs.replace


@pytest_asyncio.fixture
async def house(store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(store, tmp_path) as house:
        yield house


def assert_error(response: Any, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    assert response.json()["code"] == code
    return str(response.json()["error"])


async def document(house: Desk, **query: int) -> dict[str, Any]:
    response = await house.ask("GET", "/v1/table", params=query)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def put(house: Desk, table: Any, version: int | str, query: str = "", key: str = "operator") -> Any:
    tag = version if isinstance(version, str) else f'"{version}"'
    return await house.ask("PUT", f"/v1/table{query}", key, json=table, headers={"If-Match": tag})


async def with_key(house: Desk) -> str:
    """Give acme a key in the table; its hash."""
    table = await document(house)
    table["tenants"]["acme"]["keys"] = ["tk_" + "k" * 40]
    assert (await put(house, table, table["version"])).status_code == 200
    return key_hash("tk_" + "k" * 40)


async def test_what_is_shown_can_be_edited_and_sent_back_with_its_hashes_shortened(house: Desk) -> None:
    digest = await with_key(house)
    table = await document(house)
    assert table["tenants"]["acme"]["key_hashes"] == [f"{digest[:12]}..."]
    table["tenants"]["acme"]["domains"]["home"]["tiers"]["accurate"]["deadline_ms"] = 40
    published = await put(house, table, table["version"])
    assert published.status_code == 200, published.text
    assert published.headers["etag"] == '"3"'
    assert published.json()["version"] == 3
    assert [d["path"] for d in published.json()["differences"]] == [
        "tenants.acme.domains.home.tiers.accurate.deadline_ms"
    ]
    stands = await house.table()
    assert stands.tenants["acme"].key_hashes == [digest]
    assert stands.tenants["acme"].domains["home"].tiers["accurate"].deadline_ms == 40.0


async def test_a_shortened_hash_that_nobody_has_is_refused(house: Desk) -> None:
    table = await document(house)
    table["tenants"]["acme"]["key_hashes"] = ["0123456789ab..."]
    text = assert_error(await put(house, table, 1), 400, "bad_request")
    assert "tenants.acme" in text


async def test_a_table_is_replaced_only_over_the_version_it_was_made_from(house: Desk) -> None:
    table = await document(house)
    refused = await house.ask("PUT", "/v1/table", json=table)
    assert "If-Match" in assert_error(refused, 400, "bad_request")
    assert_error(await put(house, table, 7), 412, "precondition_failed")
    assert_error(await put(house, table, "no tag"), 412, "precondition_failed")
    assert (await put(house, table, 1)).status_code == 200
    assert_error(await put(house, table, 1), 412, "precondition_failed")
    assert (await put(house, table, "*")).status_code == 200
    assert (await house.table()).version == 3


async def test_a_document_that_does_not_hold_together_is_refused_with_every_problem(house: Desk) -> None:
    table = await document(house)
    table["tenants"]["acme"]["domains"]["home"]["family"] = "nowhere"
    table["tenants"]["rival"]["weight"] = -1
    table["tenants"]["rival"]["colour"] = "red"
    text = assert_error(await put(house, table, 1), 400, "bad_request")
    assert "weight" in text
    assert "colour" in text
    checked = await house.ask("POST", "/v1/table/validate", json=table)
    assert checked.status_code == 200
    assert checked.json()["valid"] is False
    assert any(problem.startswith("tenants.rival.colour") for problem in checked.json()["problems"])
    assert (await house.table()).version == 1


async def test_validation_says_what_would_change_and_changes_nothing(house: Desk) -> None:
    table = await document(house)
    table["tenants"]["acme"]["weight"] = 4
    checked = (await house.ask("POST", "/v1/table/validate", json=table)).json()
    assert (checked["valid"], checked["problems"]) == (True, [])
    assert [d["words"] for d in checked["differences"]] == ["1 -> 4"]
    assert (await house.table()).version == 1


@pytest.mark.parametrize(
    "body", [b'{"format": 1, "format": 1}', b'{"tenants": {"a": {"key_hashes": ["0123456789ab..."]}, "a": {}}}']
)
async def test_a_name_written_twice_is_a_problem(house: Desk, body: bytes) -> None:
    checked = await house.ask("POST", "/v1/table/validate", content=body)
    assert checked.json()["valid"] is False
    assert "twice" in checked.text


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"\xff", b'"x"', b"[" * 5000])
async def test_what_is_no_document_is_told_so(house: Desk, body: bytes) -> None:
    checked = await house.ask("POST", "/v1/table/validate", content=body)
    if body:
        assert (checked.status_code, checked.json()["valid"]) == (200, False)
    else:
        assert_error(checked, 400, "bad_request")
    refused = await house.ask("PUT", "/v1/table", content=body, headers={"If-Match": '"1"'})
    assert_error(refused, 400, "bad_request")
    assert (await house.table()).version == 1


async def test_tenants_with_accounts_are_dropped_only_on_purpose(house: Desk) -> None:
    table = await document(house)
    del table["tenants"]["rival"]
    assert "rival" in assert_error(await put(house, table, 1), 409, "conflict")
    assert (await put(house, table, 1, "?drop_tenants=true")).status_code == 200
    assert sorted((await house.table()).tenants) == ["acme"]
    assert "rival" in await house.store.load_accounts()
    assert (await house.ask("GET", "/v1/tenants/rival", "rival")).status_code == 200


async def test_earlier_versions_are_shown_while_they_are_kept(house: Desk) -> None:
    first = await document(house)
    first["tenants"]["acme"]["weight"] = 2
    await put(house, first, 1)
    assert (await document(house, version=1))["tenants"]["acme"]["weight"] == 1.0
    assert (await document(house))["tenants"]["acme"]["weight"] == 2.0
    missing = await house.ask("GET", "/v1/table?version=9")
    assert "1, 2" in assert_error(missing, 404, "not_found")


async def test_a_diff_of_versions_is_told_place_by_place(house: Desk) -> None:
    table = await document(house)
    for weight in (2, 3):
        table["tenants"]["acme"]["weight"] = weight
        await put(house, table, "*")
    latest = (await house.ask("GET", "/v1/table/diff")).json()
    assert (latest["before"], latest["after"], [d["words"] for d in latest["differences"]]) == (2, 3, ["2 -> 3"])
    both = (await house.ask("GET", "/v1/table/diff?from=1&to=3")).json()
    assert [d["words"] for d in both["differences"]] == ["1 -> 3"]
    first = (await house.ask("GET", "/v1/table/diff?to=1")).json()
    assert (first["before"], {d["kind"] for d in first["differences"]}) == (0, {"added"})
    assert_error(await house.ask("GET", "/v1/table/diff?from=1&to=8"), 404, "not_found")


@pytest.mark.parametrize(
    "query",
    ["version=x", "version=0", "version=-1", "version=1.5", "version=99999999999999999999", "version=1&version=1"],
)
async def test_badly_typed_parameters_are_named(house: Desk, query: str) -> None:
    assert "version" in assert_error(await house.ask("GET", f"/v1/table?{query}"), 400, "bad_request")


async def test_an_explanation_tells_of_every_ticket(house: Desk) -> None:
    told = (await house.ask("POST", "/v1/table/explain", json={"tenant": "acme", "domain": "home"})).json()
    assert (told["table_version"], told["tier"], told["refusal"]) == (1, "accurate", "no_worker")
    assert [(item["ticket"], item["is_chosen"]) for item in told["considered"]] == [(house.shared, False)]
    nobody = (await house.ask("POST", "/v1/table/explain", json={"tenant": "x", "domain": "home"})).json()
    assert (nobody["refusal"], nobody["considered"]) == ("unknown_domain", [])
    assert_error(await house.ask("POST", "/v1/table/explain", json={"tenant": "acme"}), 400, "bad_request")


async def restore(house: Desk, version: int, over: int | str = "*", **body: Any) -> Any:
    tag = over if isinstance(over, str) else f'"{over}"'
    return await house.ask("POST", "/v1/table/restore", json={"version": version, **body}, headers={"If-Match": tag})


async def edit(house: Desk, **weights: float) -> Table:
    table = await document(house)
    for name, weight in weights.items():
        table["tenants"][name]["weight"] = weight
    table["tenants"]["acme"]["domains"].pop("home", None)
    await put(house, table, "*")
    return await house.table()


async def test_a_restored_version_brings_domains_back_and_keeps_weights_and_keys(house: Desk) -> None:
    await edit(house, acme=5)
    digest = await with_key(house)
    done = await restore(house, 1, 3, reason="home is gone")
    assert done.status_code == 200, done.text
    acme = (await house.table()).tenants["acme"]
    assert (acme.weight, acme.key_hashes, sorted(acme.domains)) == (5.0, [digest], ["home", "own"])
    newest = (await house.store.events())[0]
    assert (newest.action, newest.reason, newest.after["restored"]) == ("table.restore", "home is gone", 1)


async def test_a_revoked_key_a_deleted_tenant_and_a_suspension_outlive_a_restoration(house: Desk) -> None:
    digest = await with_key(house)  # version 2
    assert (await house.ask("DELETE", f"/v1/tenants/acme/keys/{digest[:12]}")).status_code == 200
    assert (await house.ask("DELETE", "/v1/tenants/rival?force=true")).status_code == 200
    await house.ask("PATCH", "/v1/tenants/acme", json={"is_suspended": True})
    assert (await restore(house, 2)).status_code == 200
    table = await house.table()
    assert table.tenants["acme"].key_hashes == []
    assert "rival" not in table.tenants
    assert (await house.account("acme")).is_suspended
    assert_error(await house.ask("GET", "/v1/tenants/rival"), 404, "unknown_tenant")


async def test_a_new_tenant_under_an_old_name_gets_nothing_of_the_old_one(house: Desk) -> None:
    assert (await house.ask("DELETE", "/v1/tenants/acme?force=true")).status_code == 200
    assert (await house.ask("POST", "/v1/tenants", json={"name": "acme"})).status_code == 201
    assert (await restore(house, 1)).status_code == 200
    table = await house.table()
    assert table.tenants["acme"].domains == {}
    assert OWN not in table.families
    assert sorted(table.tenants["rival"].domains) == ["home"]


async def test_a_tenant_that_a_publication_dropped_comes_back(house: Desk) -> None:
    table = await document(house)
    del table["tenants"]["rival"]
    await put(house, table, 1, "?drop_tenants=true")
    assert (await restore(house, 1)).status_code == 200
    assert sorted((await house.table()).tenants["rival"].domains) == ["home"]


async def test_restoring_needs_the_version_it_is_done_over_and_one_that_is_kept(house: Desk) -> None:
    await edit(house)
    assert_error(await restore(house, 1, 1), 412, "precondition_failed")
    assert_error(await restore(house, 9), 404, "not_found")
    none = await house.ask("POST", "/v1/table/restore", json={"version": 1})
    assert "If-Match" in assert_error(none, 400, "bad_request")


async def test_only_operators_see_or_touch_the_table(house: Desk) -> None:
    for method, path in (
        ("GET", "/v1/table"), ("PUT", "/v1/table"), ("GET", "/v1/table/diff"), ("POST", "/v1/table/validate"),
        ("POST", "/v1/table/explain"), ("POST", "/v1/table/restore"),
    ):  # fmt: skip
        assert_error(await house.ask(method, path, "acme"), 403, "forbidden")


async def test_a_table_of_many_megabytes_is_refused_by_its_size(house: Desk) -> None:
    body = json.dumps({"families": {}, "tenants": {}, "x": "y" * (17 << 20)}).encode()
    assert_error(await house.ask("POST", "/v1/table/validate", content=body), 413, "too_large")
