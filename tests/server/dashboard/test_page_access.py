"""Everybody can use the page: no violation that axe-core finds, the keyboard alone, a phone, numbers in one form."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.server.dashboard import documents
from tests.server.dashboard.page import VIEWS, Answer, Desk

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATES = {"operator": documents.overview(), "tenant": documents.overview("acme", "admin")}


def axe() -> str:
    """The source of axe-core; skips where it is not installed."""
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python, which carries axe-core, is missing")
    return Path(str(resources.files("axe_playwright_python") / "axe.min.js")).read_text()


async def violations(tab: Desk) -> list[str]:
    """What axe-core finds wrong with the page as it is now."""
    if not await tab.page.evaluate("'axe' in window"):
        await tab.page.evaluate(axe())
    found: dict[str, Any] = await tab.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{one['id']}: {node['html'][:160]}" for one in found["violations"] for node in one["nodes"]]


@pytest.mark.parametrize(
    ("who", "theme", "size"),
    [
        ("operator", "light", (1440, 900)), ("operator", "dark", (360, 740)),
        ("tenant", "dark", (1440, 900)), ("tenant", "light", (360, 740)),
    ],
)  # fmt: skip
async def test_axe_finds_nothing_in_any_view(new_tab: Any, who: str, theme: str, size: tuple[int, int]) -> None:
    tab: Desk = await new_tab(color_scheme=theme, viewport={"width": size[0], "height": size[1]})
    tab.shown = STATES[who]
    tab.answers["POST /v1/classify"] = Answer(200, documents.classified("card_arrival"))
    await tab.open(key=None)
    assert await violations(tab) == []
    await tab.log_in()
    for view in VIEWS if who == "operator" else [view for view in VIEWS if view != "fleet"]:
        await tab.go(view)
        if view == "now":
            await tab.page.locator(".flow-name").nth(1).click()
            await tab.page.get_by_role("button", name="Show as a table").first.click()
        if view == "try" and who == "tenant":
            await tab.page.fill("#try-text", "hello")
            await tab.page.get_by_role("button", name="Ask", exact=True).click()
            await tab.page.wait_for_selector("h2.answer")
        assert await violations(tab) == [], view
    await tab.go("families")
    await tab.page.get_by_role("button", name="Promote").first.click()
    assert await violations(tab) == []


async def test_axe_finds_nothing_in_empty_and_failed_states(tab: Desk) -> None:
    quiet = documents.overview(flows=[], tenants=[], families=[], problems=[], events=[], workers=[], gateways=[])
    tab.shown = quiet
    await tab.open()
    for view in VIEWS:
        await tab.go(view)
        assert await violations(tab) == [], view
    tab.shown = None
    await tab.page.wait_for_selector(".banner")
    assert await violations(tab) == []


BEYOND = """() => {
  const edge = document.documentElement.clientWidth;
  const beyond = (node, right) => node.getBoundingClientRect().right > right + 1;
  const found = [...document.querySelectorAll("main *")].filter((node) => {
    const box = node.parentElement.closest(".card, .tile, .problem, .flows, .fleet, .events");
    return !node.closest(".scroll, svg") && beyond(node, box ? box.getBoundingClientRect().right : edge);
  });
  return found.map((node) => node.outerHTML.slice(0, 120));
}"""
"""The elements that stick out of what holds them."""


@pytest.mark.parametrize("width", [360, 700, 1000, 1240, 1440])
async def test_nothing_sticks_out_or_scrolls_sideways(new_tab: Any, width: int) -> None:
    tab: Desk = await new_tab(viewport={"width": width, "height": 740})
    tab.shown = documents.overview() if width > 360 else documents.many_tenants(50)
    await tab.open()
    await tab.page.locator(".flow-name").first.click()
    for view in VIEWS:
        await tab.go(view)
        wide = await tab.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, view
        assert await tab.page.evaluate(BEYOND) == [], view


async def test_the_keyboard_reaches_every_view_and_shows_where_it_is(tab: Desk) -> None:
    await tab.open(key=None)
    await tab.page.wait_for_selector("#key:focus")
    await tab.page.keyboard.type("tk_typed")
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_selector("h1:focus")
    for name in ("Families", "Fleet", "Events", "Register", "Try it"):
        await tab.page.evaluate("document.querySelector('.skip').focus()")
        for _ in range(12):
            await tab.page.keyboard.press("Tab")
            if await tab.page.evaluate("document.activeElement.textContent") == name:
                break
        ring = await tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid"
        await tab.page.keyboard.press("Enter")
        await tab.page.wait_for_selector("h1:focus")
        assert name.split()[0] in await tab.page.inner_text("h1")


async def test_a_dialog_holds_the_focus_and_gives_it_back(tab: Desk) -> None:
    await tab.open("families")
    await tab.page.get_by_role("button", name="Promote").first.focus()
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_selector("dialog[open]")
    for _ in range(8):
        await tab.page.keyboard.press("Tab")
        inside = await tab.page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
        assert inside
    await tab.page.keyboard.press("Escape")
    await tab.page.wait_for_selector("dialog", state="detached")


async def test_the_colours_follow_the_system_until_somebody_chooses(new_tab: Any) -> None:
    tab: Desk = await new_tab(color_scheme="dark")
    await tab.open()
    theme = "document.documentElement.dataset.theme"
    assert await tab.page.evaluate(theme) == "dark"
    await tab.page.get_by_label("Colours").select_option("Light")
    assert await tab.page.evaluate(theme) == "light"
    await tab.page.reload()
    assert await tab.page.evaluate(theme) == "light"


async def test_who_wants_less_motion_gets_none(new_tab: Any) -> None:
    tab: Desk = await new_tab(reduced_motion="reduce")
    await tab.open(key=None)
    await tab.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<i class=spinner></i>')")
    assert await tab.page.evaluate("getComputedStyle(document.querySelector('.spinner')).animationName") == "none"


async def test_new_problems_are_said_once_to_who_cannot_see_them(tab: Desk) -> None:
    calm = documents.overview(problems=[])
    tab.shown = calm
    await tab.open()
    assert await tab.page.inner_text("#said") == ""
    tab.shown = documents.overview()
    await tab.page.wait_for_selector("#said:has-text('One problem: acme misses')", state="attached")


FORMS = [
    ("number(0.41234)", "0.412"), ("number(4.1)", "4.10"), ("number(99.96)", "100"), ("number(4120)", "4,120"),
    ("number(9.996)", "10.0"), ("number(null)", "–"), ("number(0)", "0"), ("number(0.0001)", "<0.001"),
    ("ms(14.23)", "14.2 ms"), ("ms(10000)", "10.0 s"), ("ms(9999)", "9,999 ms"), ("promised(12.5)", "12.5 ms"),
    ("percent(0.99999)", "99.99 %"), ("percent(1)", "100 %"), ("percent(0.9712)", "97.1 %"),
    ("percent(0)", "0 %"), ("percent(0.00001)", "<0.01 %"), ("percent(0.29)", "29.0 %"), ("objective(0.999)", "99.9 %"),
    ("share(0.002)", "<1 %"), ("share(0.62)", "62 %"), ("times(14.4)", "14.4×"), ("times(0)", "0×"),
    ("bytes(999600)", "1.00 MB"), ("bytes(2101352)", "2.10 MB"), ("bytes(12)", "12 B"), ("bytes(null)", "–"),
    ("duration(42)", "42 s"), ("duration(125)", "2 min"), ("duration(7200)", "2.0 h"),
    ("rate(0)", "0 /s"), ("rate(312.4)", "312 /s"), ("quoted(\"it's\")", "'it'\\''s'"),
]  # fmt: skip


async def test_numbers_have_one_form(browser: Any, base: str) -> None:
    page = await browser.new_page()
    try:
        await page.goto(f"{base}/dashboard/assets/icon.svg")
        found = await page.evaluate(
            f"import('{base}/dashboard/assets/format.js').then(m => [{', '.join(f'm.{call}' for call, _ in FORMS)}])"
        )
    finally:
        await page.close()
    assert [shown.replace("\u202f", " ") for shown in found] == [shown for _, shown in FORMS]
