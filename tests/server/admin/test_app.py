"""The admin API's composition: on the data port or on a port of its own, and what every path does with any method."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from routing.store import Store
from tests.server.admin.desk import Desk, desk

pytestmark = pytest.mark.redis
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


@pytest_asyncio.fixture
async def house(store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(store, tmp_path) as house:
        yield house


async def document(house: Desk, url: str) -> dict[str, dict[str, object]]:
    return dict((await house.at(url, "GET", "/openapi.json", None)).json()["paths"])


async def test_with_a_port_of_its_own_the_data_port_knows_nothing_of_it(house: Desk) -> None:
    """Every admin path is answered as any path that does not exist, to operators too."""
    own, bare = await document(house, house.admin_url), await document(house, house.bare_url)
    admin = [path for path in own if path not in bare]
    assert len(admin) > 20
    for path in admin:
        for method in sorted(METHODS | {"OPTIONS"}):
            named = await house.at(house.bare_url, method, path.replace("{tenant}", "acme"))
            other = await house.at(house.bare_url, method, "/v1/nothing")
            assert (named.status_code, named.json()["code"]) == (404, "not_found")
            assert set(named.headers) == set(other.headers)


async def test_the_admin_port_answers_admin_paths_health_and_docs_and_no_inference(house: Desk) -> None:
    async def status(method: str, path: str, key: str | None = "operator") -> int:
        return (await house.at(house.admin_url, method, path, key)).status_code

    assert await status("GET", "/v1/tenants") == 200
    assert await status("GET", "/v2/health/live", None) == 200
    assert await status("GET", "/docs", None) == 200
    assert await status("POST", "/v1/classify", "acme.call") == 404
    assert await status("POST", "/v2/models/home/infer", "acme.call") == 404


async def test_both_together_describe_what_each_describes_alone(house: Desk) -> None:
    both, own, bare = [await document(house, url) for url in (house.url, house.admin_url, house.bare_url)]
    assert both.keys() == own.keys() | bare.keys()
    assert "/v1/classify" in bare
    assert "/v1/classify" not in own


async def test_every_path_answers_head_as_get_options_with_its_methods_and_others_with_405(house: Desk) -> None:
    for path, operations in (await document(house, house.url)).items():
        filled = path.replace("{tenant}", "acme").replace("{ticket}", house.own).replace("{domain}", "own")
        filled = filled.replace("{model}", "home").replace("{version}", house.shared).replace("{key_id}", "0" * 12)
        has = {method.upper() for method in operations}
        options = await house.ask("OPTIONS", filled, None)
        assert (options.status_code, options.content) == (204, b""), path
        expected = has | {"OPTIONS"} | ({"HEAD"} if "GET" in has else set())
        assert set(options.headers["allow"].split(", ")) == expected, path
        for method in sorted(METHODS - has):
            refused = await house.ask(method, filled)
            assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed"), (method, path)
            assert set(refused.headers["allow"].split(", ")) == expected
        key = "acme" if "/models" in path else "operator"
        head = await house.ask("HEAD", filled, key)
        if "GET" in has:
            got = await house.ask("GET", filled, key)
            assert (head.status_code, head.content) == (got.status_code, b""), path
            assert head.headers["content-length"] == got.headers["content-length"]
        else:
            assert head.status_code == 405
