"""Nobody learns of another tenant: every route answers alike for somebody's name and for nobody's.

Driven by the OpenAPI document, so that a route that comes later is tried too.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from routing.store import Store
from tests.server.admin.desk import Desk, desk

pytestmark = pytest.mark.redis
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
SOMEBODY, NOBODY = "rival", "nobod"
"""As long as each other, so that no length tells them apart."""
VARIANTS: list[dict[str, Any]] = [
    {},
    {"json": {}},
    {"json": {"role": "call", "name": "x", "is_suspended": True}},
    {"content": b"{nonsense", "params": {"force": "true", "count": "x", "before": "?"}},
    {"headers": {"If-Match": '"999"', "X-Tombola-Ticket": "a" * 64, "Accept": "application/x-ndjson"}},
]


@pytest_asyncio.fixture
async def house(store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(store, tmp_path) as house:
        yield house


async def paths(house: Desk) -> list[str]:
    """Every path of the API that names a tenant, with its other parts filled in."""
    document = (await house.ask("GET", "/openapi.json", None)).json()
    found = [path for path in document["paths"] if "{tenant}" in path]
    assert len(found) >= 12
    filled = {"ticket": house.shared, "key_id": (await house.account("rival")).keys[0].id, "domain": "home"}
    return [re.sub(r"{(\w+)}", lambda m: filled.get(m[1], m[0]), path) for path in found]


def told(response: httpx.Response, name: str) -> tuple[int, str, dict[str, str]]:
    """All that a response tells, but for the time, and the name that was asked for."""
    headers = {k: v for k, v in response.headers.items() if k != "date"}
    return response.status_code, response.text.replace(name, "NAME"), headers


async def of_both(house: Desk, method: str, path: str, key: str | None, **options: Any) -> list[Any]:
    """What is told of somebody and of nobody, who stand in the path as ``{tenant}``."""
    headers = {**options.pop("headers", {}), "X-Request-Id": "the-same"}
    return [
        told(await house.ask(method, path.replace("{tenant}", name), key, headers=headers, **options), name)
        for name in (SOMEBODY, NOBODY)
    ]


@pytest.mark.parametrize(
    ("key", "variant"), [*(("acme", variant) for variant in VARIANTS), ("acme.register", {}), ("acme.call", {})]
)
async def test_somebodys_name_and_nobodys_are_answered_alike(house: Desk, key: str, variant: dict[str, Any]) -> None:
    tried = 0
    for path in await paths(house):
        for method in METHODS:
            said = await of_both(house, method, path, key, **variant)
            assert said[0] == said[1], (method, path)
            if method in ("GET", "POST", "PATCH", "DELETE", "PUT") and said[0][0] != 405:
                assert (said[0][0], "unknown_tenant" in said[0][1]) == (404, True), (method, path, said[0])
                tried += 1
    assert tried >= 17


async def test_without_a_key_every_path_is_answered_alike_too(house: Desk) -> None:
    for path in await paths(house):
        for method in METHODS:
            said = await of_both(house, method, path, None)
            assert said[0] == said[1], (method, path)


@pytest.mark.parametrize("key", ["acme", "acme.call"])
async def test_routes_of_operators_answer_alike_whatever_names_stand_in_their_bodies(house: Desk, key: str) -> None:
    for method, path, body in (
        ("POST", "/v1/tenants", b'{"name": "NAME"}'),
        ("POST", "/v1/table/explain", b'{"tenant": "NAME", "domain": "home"}'),
        ("POST", "/v1/table/validate", b'{"tenants": {"NAME": {"key_hashes": []}}}'),
        ("PUT", "/v1/table", b'{"tenants": {"NAME": {"key_hashes": []}}}'),
        ("GET", "/v1/events?tenant=NAME", b""),
    ):
        said = []
        for name in (SOMEBODY, NOBODY):
            content, headers = body.replace(b"NAME", name.encode()), {"X-Request-Id": "the-same", "If-Match": "*"}
            asked = path.replace("NAME", name)
            said.append(told(await house.ask(method, asked, key, content=content, headers=headers), name))
        assert said[0] == said[1]
        assert said[0][0] == 403


async def test_one_tenants_ticket_and_domain_are_unknown_at_another(house: Desk) -> None:
    """Acme's own ticket and domain, asked for at rival by rival: as for an id and a name that nobody has."""
    for path in ("/tickets/{}", "/tickets/{}/promote", "/tickets/{}/retire"):
        method = "GET" if path.endswith("{}") else "POST"
        for asked in (house.own, "e" * 64):
            response = await house.ask(method, "/v1/tenants/rival" + path.format(asked), "rival")
            assert (response.status_code, response.json()["code"]) == (404, "unknown_ticket"), response.text
    for asked in ("own", "nil"):
        response = await house.ask("GET", f"/v1/tenants/rival/domains/{asked}/canary", "rival")
        assert (response.status_code, response.json()["code"]) == (404, "unknown_domain")
