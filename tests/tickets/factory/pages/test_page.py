"""The page in a real browser: nobody is asked for anything, axe finds nothing, it fits a phone, keys reach all."""

from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.tickets.factory.pages import examples
from tickets.factory.pages.report import write_report

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.torch, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

RECORDS = {
    "find": examples.record("find", examples.found()),
    "lottery": examples.record("lottery", examples.lottery(levels=6)),
    "transfer": examples.record("transfer", examples.transferred()),
    "failed": examples.record("find", status="failed", error="No space left on device: .runs"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> "AsyncIterator[Browser]":
    """A Chromium; skips where there is none."""
    from tests.server.dashboard.page import browsing

    async with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A written page of every kind."""
    root = tmp_path_factory.mktemp("pages")
    return {name: write_report(record, root / name)[0] for name, record in RECORDS.items()}


def axe() -> str:
    """The source of axe-core; skips where it is not installed."""
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python, which carries axe-core, is missing")
    return Path(str(resources.files("axe_playwright_python") / "axe.min.js")).read_text()


async def violations(page: "Page") -> list[str]:
    """What axe-core finds wrong with the page as it is now."""
    await page.evaluate(axe())
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{one['id']}: {node['html'][:160]}" for one in found["violations"] for node in one["nodes"]]


@pytest.mark.parametrize("name", list(RECORDS))
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 360)])
async def test_it_renders_without_errors_requests_or_violations(
    browser: "Browser", pages: dict[str, Path], name: str, theme: Any, width: int
) -> None:
    # The page's own policy lets no script run, not even axe's.
    context = await browser.new_context(
        color_scheme=theme, viewport={"width": width, "height": 800}, bypass_csp=True, offline=True
    )
    try:
        page = await context.new_page()
        wrong: list[str] = []
        page.on("console", lambda line: wrong.append(line.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda one: None if one.url.startswith(("file:", "data:")) else wrong.append(one.url))
        await page.goto(pages[name].as_uri())
        await page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        loaded = "[...document.images].map(one => [one.complete, one.naturalWidth > 300, !!one.alt])"
        assert all(all(image) for image in await page.evaluate(loaded))
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0
        assert await violations(page) == []
        assert wrong == []
    finally:
        await context.close()


async def test_dark_pages_show_dark_plots(browser: "Browser", pages: dict[str, Path]) -> None:
    shown = []
    for theme in ("light", "dark"):
        context = await browser.new_context(color_scheme=theme)
        page = await context.new_page()
        await page.goto(pages["transfer"].as_uri())
        shown.append(await page.evaluate("document.images[0].currentSrc"))
        await context.close()
    assert shown[0] != shown[1]


async def test_the_keyboard_skips_to_the_results_and_opens_what_is_folded(
    browser: "Browser", pages: dict[str, Path]
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(pages["find"].as_uri())
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "To the results"
    await page.keyboard.press("Enter")
    assert await page.evaluate("location.hash") == "#results"
    await page.locator("summary").first.focus()
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.querySelector('details').open")
    await context.close()


async def test_the_policy_lets_no_script_run(browser: "Browser", pages: dict[str, Path], tmp_path: Path) -> None:
    """Even if a script had found its way into the page."""
    html = pages["transfer"].read_text().replace("</body>", "<script>document.title = 'taken'</script></body>")
    (tmp_path / "tampered.html").write_text(html)
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto((tmp_path / "tampered.html").as_uri())
    assert "taken" not in await page.title()
    await context.close()
