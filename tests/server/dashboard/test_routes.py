"""The dashboard's routes over real HTTP: keys and roles, one computation for many, the page's headers and caching."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
import pytest_asyncio

from routing.access import Caller
from routing.change import Change
from routing.lifecycle import register, start_canary
from routing.store import Store
from routing.table import FamilyTicket
from server.dashboard.overview import Overview
from tests.server.dashboard.watch import Watch, watch

pytestmark = pytest.mark.redis


@pytest_asyncio.fixture
async def it(store: Store, tmp_path: Path) -> AsyncIterator[Watch]:
    """With two samples, and requests of both tenants between them."""
    async with watch(store, tmp_path) as found:
        await found.dashboard.sample()
        found.ask("acme", "own", found.desk.own, 10)
        found.ask("acme", "home", found.desk.shared, 5)
        found.ask("rival", "home", found.desk.shared, 7)
        await found.dashboard.sample()
        yield found


async def test_an_overview_needs_a_key(it: Watch) -> None:
    for key in (None, "tk_" + "x" * 43):
        response = await it.get("/v1/overview", key)
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


async def test_an_operator_sees_everything(it: Watch) -> None:
    shown = await it.overview()
    assert msgspec.convert(shown, Overview).viewer.role == "operator"
    assert shown["total"]["requests"] == 22
    assert [row["name"] for row in shown["workers"]] == ["w"]
    assert [row["name"] for row in shown["gateways"]] == ["gw"]
    assert [event["action"] for event in shown["events"]] == ["test.settle"]
    assert shown["are_events_fresh"]


@pytest.mark.parametrize("role", ["acme", "acme.register", "acme.call"])
async def test_a_tenant_sees_itself_in_every_role(it: Watch, role: str) -> None:
    response = await it.get("/v1/overview", role)
    shown = response.json()
    assert shown["viewer"]["tenant"] == "acme"
    assert {flow["tenant"] for flow in shown["flows"]} == {"acme"}
    assert sum(flow["traffic"]["requests"] for flow in shown["flows"]) == 15
    assert shown["total"] is None
    assert shown["workers"] == shown["gateways"] == []
    assert "rival" not in response.text


async def test_overviews_are_not_kept_by_caches_and_are_compressed_where_asked_for(it: Watch) -> None:
    response = await it.get("/v1/overview")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-encoding"] == "gzip"
    plain = await it.get("/v1/overview", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json() == response.json()
    refused = await it.get("/v1/overview", headers={"Accept-Encoding": "gzip;q=0, identity"})
    assert "content-encoding" not in refused.headers


async def test_a_hundred_pages_cost_one_overview(it: Watch) -> None:
    """One for each window and role, however many ask at the same time."""
    answers = await asyncio.gather(*(it.get("/v1/overview") for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert it.dashboard.made == 1
    await asyncio.gather(*(it.get("/v1/overview", key) for key in ("acme", "acme.call", "rival") for _ in range(10)))
    assert it.dashboard.made == 4
    await asyncio.gather(*(it.get(f"/v1/overview?window_s={seconds}") for seconds in (60, 59, 10, 61, 300, 301, 900)))
    assert it.dashboard.made == 6


async def test_who_goes_away_does_not_take_the_overview_from_the_others(it: Watch) -> None:
    first = asyncio.create_task(it.dashboard.overview(operator(it), 300))
    second = asyncio.create_task(it.dashboard.overview(operator(it), 300))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).plain
    assert it.dashboard.made == 1


async def test_an_overview_that_failed_is_made_again(it: Watch) -> None:
    """What could not be made is not given out for two seconds: the next one who asks may have more luck."""
    catalogue = it.desk.gateway.catalogue
    missing, catalogue.missing = catalogue.missing, None  # type: ignore[assignment]
    assert (await it.get("/v1/overview")).status_code == 500
    catalogue.missing = missing
    assert (await it.get("/v1/overview")).status_code == 200


def operator(it: Watch) -> Caller:
    return it.desk.gateway.caller({b"authorization": f"Bearer {it.desk.keys['operator']}".encode()})


@pytest.mark.parametrize(("asked", "shown"), [("10", 60), ("60", 60), ("61", 300), ("900", 900), (None, 60)])
async def test_windows(it: Watch, asked: str | None, shown: int) -> None:
    response = await it.get("/v1/overview", params={"window_s": asked} if asked else {})
    assert response.json()["window_s"] == shown


@pytest.mark.parametrize("asked", ["9", "901", "-1", "x", "60.5", "60&window_s=60"])
async def test_a_window_that_cannot_be_is_refused(it: Watch, asked: str) -> None:
    response = await it.get(f"/v1/overview?window_s={asked}")
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")


async def test_a_canary_is_judged_by_what_all_gateways_have_counted(it: Watch) -> None:
    table = await it.desk.table()
    tried = FamilyTicket(id=it.desk.shared, tier="accurate", quality=0.95, service_ms=1.0, state="registered")
    table, event = register(table, tenant="acme", domain="own", tier="accurate", ticket=tried, actor="test")
    table = (await it.desk.store.commit(Change(event=event, table=table))).table or table
    table, event = start_canary(
        table, tenant="acme", ticket=it.desk.shared, domain="own", share=0.3, mode="canary", is_automatic=False,
        now=1.0, actor="test",
    )  # fmt: skip
    committed = await it.desk.store.commit(Change(event=event, table=table))
    assert committed.table is not None
    version = committed.table.version
    async with asyncio.timeout(30):
        while it.desk.gateway.dispatcher.table is None or it.desk.gateway.dispatcher.table.version < version:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    shown = msgspec.convert(await it.overview("acme"), Overview)
    (standing,) = (one for family in shown.families for row in family.tickets for one in row.canaries)
    assert (standing.domain, standing.current, standing.outcome, standing.asks) == ("own", it.desk.own, "running", 0)
    assert [event.action for event in shown.events][:2] == ["canary.start", "ticket.register"]


async def test_a_sample_that_fails_is_left_out(it: Watch) -> None:
    """The gateway does not fall for its dashboard: it logs, and samples again."""
    it.dumps = {"gw": b"\xc1nonsense", "w": b""}
    await it.dashboard.sample()
    shown = await it.overview()
    assert [row["is_up"] for row in shown["workers"] + shown["gateways"]] == [False, False]
    it.dumps = {"gw": msgspec.msgpack.encode([["tombola_requests_total", "counter", "", 5, 6]])}
    await it.dashboard.sample()
    it.dumps = None
    await it.dashboard.sample()
    assert (await it.overview(window_s=300))["total"]["requests"] == 22


async def test_sampling_goes_on_until_it_is_cancelled(it: Watch) -> None:
    before = it.collected
    running = asyncio.create_task(it.dashboard.run())
    async with asyncio.timeout(30):
        while it.collected == before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_the_page_is_for_everybody_and_holds_nothing(it: Watch) -> None:
    page = await it.get("/dashboard", None)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    policy = page.headers["content-security-policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"


async def test_the_page_is_found_with_a_slash_too(it: Watch) -> None:
    response = await it.get("/dashboard/", None)
    assert (response.status_code, response.headers["location"]) == (308, "../dashboard")
    assert httpx.URL(f"{it.url}/below/dashboard/").join("../dashboard").path == "/below/dashboard"


async def test_files_are_kept_for_good_below_the_address_that_the_page_names(it: Watch) -> None:
    page = (await it.get("/dashboard", None)).text
    start = page.index("dashboard/assets/")
    folder = page[start : page.index("/", start + len("dashboard/assets/")) + 1]
    response = await it.get(f"/{folder}app.js", None)
    assert response.headers["content-type"] == "text/javascript; charset=utf-8"
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["content-security-policy"]
    for elsewhere in ("/dashboard/assets/app.js", "/dashboard/assets/0123456789ab/app.js"):
        other = await it.get(elsewhere, None)
        assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")
        assert other.content == response.content


async def test_what_a_browser_has_is_not_sent_again(it: Watch) -> None:
    for path in ("/dashboard", "/dashboard/assets/app.js"):
        first = await it.get(path, None)
        again = await it.get(path, None, headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        other = await it.get(path, None, headers={"If-None-Match": '"other"'})
        assert other.status_code == 200


async def test_files_are_compressed_once_and_read_back(it: Watch) -> None:
    async with httpx.AsyncClient() as client, client.stream("GET", f"{it.url}/dashboard/assets/app.js") as response:
        raw = b"".join([part async for part in response.aiter_raw()])
        assert response.headers["content-encoding"] == "gzip"
    plain = await it.get("/dashboard/assets/app.js", None, headers={"Accept-Encoding": "identity"})
    assert gzip.decompress(raw) == plain.content


@pytest.mark.parametrize(
    "path",
    ["nothing.js", "../routes.py", "%2e%2e/routes.py", "index.html", "", "0123456789ab/", "0123456789ab/x/app.js"],
)
async def test_there_is_nothing_else(it: Watch, path: str) -> None:
    response = await it.get(f"/dashboard/assets/{path}", None)
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


async def test_head_and_other_methods(it: Watch) -> None:
    for path in ("/dashboard", "/v1/overview"):
        head = await it.desk.at(it.url, "HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        assert (await it.desk.at(it.url, "POST", path)).status_code == 405


async def test_the_overview_is_described(it: Watch) -> None:
    described = it.app.openapi()
    assert list(described["paths"]) == ["/v1/overview"]
    operation = described["paths"]["/v1/overview"]["get"]
    assert set(operation["responses"]) >= {"200", "400", "401"}
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert msgspec.convert(example, Overview).viewer.role == "operator"
    assert "Overview" in described["components"]["schemas"]
