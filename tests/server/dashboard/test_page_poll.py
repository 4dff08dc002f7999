"""When the page asks: every two seconds, ever less often while nobody answers, never while nobody looks.

The browser's clock is the test's own, so nothing here waits for time to pass.
"""

from typing import Any

import pytest

from tests.server.dashboard import documents
from tests.server.dashboard.page import KEY, Desk

pytestmark = pytest.mark.asyncio(loop_scope="module")

HIDE = """is_hidden => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => is_hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


DRAWN = """async () => {
  for (let i = 0; i < 20; i += 1) {
    await new Promise(done => {
      const channel = new MessageChannel();
      channel.port1.onmessage = done;
      channel.port2.postMessage(0);
    });
  }
}"""
"""Lets what has arrived be worked off; it needs no timer, because the clock stands still."""


async def began(tab: Desk) -> None:
    """Logged in, with the clock standing still."""
    await tab.page.clock.install(time=documents.AT)
    await tab.open(key=None)
    await tab.page.fill("#key", KEY)
    await tab.page.press("#key", "Enter")
    await tab.page.wait_for_selector("main.view")
    await tab.page.clock.pause_at(documents.AT + 3600)
    await settled(tab)


async def passed(tab: Desk, seconds: float) -> int:
    """How many overviews were asked for while so much time went by, in steps of half a second."""
    before = tab.overviews
    for _ in range(int(seconds * 2)):
        await tab.page.clock.run_for(500)
        await settled(tab)
    return tab.overviews - before


async def settled(tab: Desk) -> None:
    """Wait until what is under way has been answered and drawn."""
    await tab.page.evaluate(DRAWN)


async def test_it_asks_every_two_seconds(tab: Desk) -> None:
    await began(tab)
    assert await passed(tab, 10.0) in (4, 5)


async def test_while_the_gateway_is_away_it_asks_ever_less_often(tab: Desk) -> None:
    await began(tab)
    tab.shown = None
    assert await passed(tab, 16.0) in (3, 4)  # after 2, 4, 8 seconds
    tab.shown = documents.overview()
    assert await passed(tab, 30.0) >= 5  # found again, and at the old pace


async def test_a_hidden_tab_asks_nothing_and_a_shown_one_at_once(tab: Desk) -> None:
    await began(tab)
    await tab.page.evaluate(HIDE, True)
    assert await passed(tab, 10.0) == 0
    async with tab.page.expect_request("**/v1/overview*"):  # the clock stands still meanwhile
        await tab.page.evaluate(HIDE, False)


@pytest.mark.parametrize(("label", "window_s"), [("5 min", "300"), ("15 min", "900")])
async def test_another_window_is_asked_for_at_once(tab: Desk, label: str, window_s: str) -> None:
    await began(tab)
    async with tab.page.expect_request(f"**/v1/overview?window_s={window_s}") as asked:
        await tab.page.get_by_label("Window").select_option(label)
    found: Any = await asked.value
    assert found.url.endswith(window_s)
