"""The view Now: the numbers, the promises, the problems, and what is shown while there is nothing to show."""

import msgspec
import pytest

from server.dashboard.overview import Control, Overview
from tests.server.dashboard import documents
from tests.server.dashboard.page import KEY, Desk, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")


def nothing() -> Overview:
    """An installation without tenants."""
    quiet = documents.traffic(attainment=None)
    return documents.overview(flows=[], tenants=[], families=[], problems=[], events=[], total=quiet)


async def test_numbers_stand_beside_the_deadline_they_are_held_against(tab: Desk) -> None:
    await tab.open()
    cells = await tab.page.locator("tr.flow", has_text="balanced").first.locator("td, th").all_inner_texts()
    row = " ".join(cells).replace("\u202f", " ")
    for words in ("within 50 ms", "300 /s", "18.6 ms", "43.4 ms", "62.0 ms", "97.1 %", "2.88×", "accurate 80 %"):
        assert words in row
    assert await tab.page.locator("tr.flow .latency.is-over").count() == 2  # once in the row, once for narrow screens


async def test_a_problem_says_why_and_what_to_do_and_leads_to_its_flow(tab: Desk) -> None:
    await tab.open()
    problem = await tab.text(".problem")
    assert "Why: Requests wait 31 ms for a worker." in problem
    assert "Do: Add a worker, or give acme a limit." in problem
    assert await tab.page.title() == "(1) Now · Tombola"
    await tab.page.get_by_role("link", name="Show it").click()
    await tab.sees("Where the time went")
    detail = await tab.text(".detail")
    for words in ("accurate a1a1a1a1a1", "nothing better may answer", "under load", "deadline exceeded", "tokenizing"):
        assert words in detail


async def test_a_curve_is_also_a_table(tab: Desk) -> None:
    await tab.open("now/acme/banking/balanced")
    curve = tab.page.locator(".detail svg.timeline").first
    assert "over the deadline of 50\u202fms" in str(await curve.get_attribute("aria-label"))
    await tab.page.get_by_role("button", name="Show as a table").first.click()
    rows = tab.page.get_by_role("table", name="p99").locator("tbody tr")
    assert await rows.count() == documents.POINTS
    assert await rows.nth(documents.POINTS - 4).locator("td").inner_text() == "–"  # what was not measured stays a gap


async def test_flows_are_found_by_name_and_by_missed_promises(tab: Desk) -> None:
    tab.shown = documents.many_tenants(12)
    await tab.open()
    assert await tab.page.locator("tr.flow").count() == 36
    await tab.page.get_by_role("searchbox").fill("tenant-07")
    await tab.page.wait_for_function("() => document.querySelectorAll('tr.flow').length === 3")
    await tab.page.get_by_role("searchbox").fill("")
    await tab.page.get_by_label("Only missed promises").check()
    await tab.page.wait_for_function("() => document.querySelectorAll('tr.flow').length === 12")


async def test_what_is_open_and_what_is_typed_survives_every_refresh(tab: Desk) -> None:
    tab.shown = documents.many_tenants(3)
    await tab.open()
    await tab.page.get_by_role("button", name="banking fast").first.click()
    await tab.page.get_by_role("searchbox").press_sequentially("tenant")
    count = tab.overviews
    async with tab.page.expect_request(lambda request: "/v1/overview" in request.url and tab.overviews > count):
        pass
    assert await tab.page.locator(".detail").count() == 1
    assert (
        await tab.page.evaluate("[document.activeElement.type, document.activeElement.value].join()") == "search,tenant"
    )


async def test_without_traffic_the_page_says_how_to_make_some(tab: Desk) -> None:
    quiet = documents.traffic(attainment=None)
    shown = documents.overview(problems=[], total=quiet)
    flows = [msgspec.structs.replace(flow, traffic=quiet, steps=[], answered=[]) for flow in shown.flows]
    tab.shown = msgspec.structs.replace(shown, flows=flows)
    await tab.open()
    command = await tab.text(".command pre")
    assert command.startswith(f'curl -sS {tab.base}/v1/classify -H "Authorization: Bearer $TOMBOLA_KEY"')
    assert KEY not in command
    assert "Nothing was asked either" in await tab.text()


async def test_without_tenants_the_page_says_how_to_begin(tab: Desk) -> None:
    tab.shown = nothing()
    await tab.open()
    assert "tombola tenants create acme" in await tab.text(".empty")
    for view, words in (("families", "No tickets yet"), ("events", "No events yet"), ("try", "Nothing to ask yet")):
        await tab.go(view)
        await tab.sees(words)


async def test_a_tenant_without_domains_is_told_to_register(tab: Desk) -> None:
    shown = documents.overview("acme", "register")
    tab.shown = msgspec.structs.replace(shown, flows=[], families=[], problems=[])
    await tab.open()
    assert "tombola register FILE --tenant acme" in await tab.text(".empty")


async def test_while_the_gateway_is_away_the_last_numbers_stay_with_a_banner(tab: Desk) -> None:
    await tab.open()
    tab.shown = None
    await tab.page.wait_for_selector(".banner")
    banner = await tab.text(".banner")
    assert "The gateway cannot be reached." in banner
    assert "Showing what was seen at" in banner
    assert "300 /s" in await tab.text("table.flows")
    tab.shown = documents.overview()
    await tab.page.get_by_role("button", name="Try now").click()
    await tab.page.wait_for_selector(".banner", state="detached")


async def test_an_error_of_the_gateway_is_told_in_its_words(tab: Desk) -> None:
    await tab.open()
    tab.shown = refusal(500, "internal", "an internal error; its details are in the log")
    await tab.page.wait_for_selector(".banner")
    assert "its details are in the log" in await tab.text(".banner")


async def test_redis_away_is_a_state_and_not_a_failure(tab: Desk) -> None:
    control = Control(is_redis_up=False, table_version=7, table_since=documents.AT, redis_away_s=42.0)
    tab.shown = documents.overview(control=control, are_events_fresh=False)
    await tab.open()
    assert "Redis is away for 42 s: answers go on, changes wait" in await tab.text(".tiles")
    await tab.go("events")
    assert "These are the last events that were seen." in await tab.text()


async def test_nobody_is_told_that_every_promise_is_kept_when_one_is_not(tab: Desk) -> None:
    tab.shown = documents.overview(problems=[])
    await tab.open()
    assert "too few to say more" in await tab.text(".all-well")
    tab.shown = documents.overview(problems=[], flows=[documents.flow("acme", "banking", "fast", 25.0)])
    await tab.sees("Nothing is wrong: every promise is kept.")
