"""Logging in by key: what is kept where, what is shown to whom, and how a session ends."""

import pytest

from tests.server.dashboard import documents
from tests.server.dashboard.page import KEY, Desk, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_key_opens_the_page_and_stays_in_the_tab_alone(tab: Desk) -> None:
    await tab.open(key=None)
    await tab.page.wait_for_selector("#key:focus")
    await tab.log_in()
    assert await tab.page.evaluate("JSON.stringify({...sessionStorage})") == f'{{"tombola.key":"{KEY}"}}'
    assert KEY not in await tab.page.evaluate("JSON.stringify({...localStorage}) + location.href + document.cookie")
    assert {request.headers.get("authorization") for request in tab.asked} == {f"Bearer {KEY}"}
    assert all(KEY not in request.url for request in tab.asked)


async def test_a_reload_stays_logged_in_and_another_tab_does_not(tab: Desk) -> None:
    await tab.open()
    await tab.page.reload()
    await tab.page.wait_for_selector("main.view")
    other = await tab.context.new_page()
    await other.goto(f"{tab.base}/dashboard")
    await other.wait_for_selector("#key")


async def test_logging_out_forgets_everything(tab: Desk) -> None:
    await tab.open("events")
    await tab.page.get_by_role("button", name="Log out").click()
    await tab.page.wait_for_selector("#key")
    assert await tab.page.evaluate("sessionStorage.length") == 0
    assert "acme" not in await tab.page.content()
    count = tab.overviews
    await tab.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await tab.page.reload()
    await tab.page.wait_for_selector("#key")
    assert tab.overviews == count


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (refusal(401, "unauthorized", "this API key is not known"), "begins with tk_"),
        (refusal(403, "suspended", "this tenant is suspended"), "They can let it go on"),
        (refusal(503, "not_ready", "no routing table has been published yet"), "only just started"),
        (None, "is the gateway up?"),
    ],
)
async def test_a_key_that_does_not_open_says_why_and_may_be_typed_again(tab: Desk, shown: None, words: str) -> None:
    tab.shown = shown
    await tab.open(key=None)
    await tab.page.fill("#key", KEY)
    await tab.page.press("#key", "Enter")
    await tab.sees(words)
    assert await tab.page.get_attribute("#key", "aria-describedby") == "key-wrong"
    await tab.page.wait_for_selector("#key:focus")
    assert await tab.page.evaluate("sessionStorage.length") == 0
    tab.shown = documents.overview()
    await tab.page.press("#key", "Enter")
    await tab.page.wait_for_selector("main.view")


async def test_what_cannot_be_a_key_is_not_sent(tab: Desk) -> None:
    await tab.open(key=None)
    await tab.page.fill("#key", "schlüssel mit blank")
    await tab.page.press("#key", "Enter")
    await tab.sees("That is not an API key.")
    assert tab.asked == []


async def test_a_key_that_is_revoked_meanwhile_ends_the_session(tab: Desk) -> None:
    await tab.open("events")
    tab.shown = refusal(401, "unauthorized", "this API key is not known")
    await tab.page.wait_for_selector("#key")
    assert await tab.page.evaluate("sessionStorage.length") == 0
    assert "acme" not in await tab.page.content()


@pytest.mark.parametrize(
    ("tenant", "role", "views"),
    [
        (None, "operator", ["Now", "Families", "Fleet", "Events", "Register", "Try it"]),
        ("acme", "admin", ["Now", "Families", "Events", "Register", "Try it"]),
        ("acme", "register", ["Now", "Families", "Events", "Register", "Try it"]),
        ("acme", "call", ["Now", "Families", "Try it"]),
    ],
)
async def test_the_role_decides_which_views_there_are(
    tab: Desk, tenant: str | None, role: str, views: list[str]
) -> None:
    tab.shown = documents.overview(tenant, role)  # type: ignore[arg-type]
    await tab.open("fleet")
    assert await tab.page.locator("nav a").all_inner_texts() == views
    current = "Fleet" if role == "operator" else "Now"
    assert await tab.page.locator("nav a[aria-current=page]").inner_text() == current


@pytest.mark.parametrize(("role", "moves"), [("operator", True), ("admin", True), ("register", False), ("call", False)])
async def test_only_admins_and_operators_move_tickets(tab: Desk, role: str, moves: bool) -> None:
    tab.shown = documents.overview(None if role == "operator" else "acme", role)  # type: ignore[arg-type]
    await tab.open("families")
    found = await tab.page.get_by_role("button", name="Promote").count()
    assert (found > 0) == moves
    assert (await tab.page.get_by_role("button", name="Roll back").count() > 0) == moves
