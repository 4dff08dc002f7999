"""Names, labels, texts and messages are strangers' words: the page shows them, whatever they hold, and runs nothing."""

import msgspec
import pytest

from server.dashboard.overview import Overview, Problem
from server.dashboard.shapes import Use
from tests.server.dashboard import documents
from tests.server.dashboard.page import VIEWS, Answer, Desk, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPT = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
EVIL = f"{SCRIPT}'\"&lt;${{7*7}}\u202e{{constructor}}"


def hostile() -> Overview:
    """An overview in which everything that somebody may write is hostile."""
    flow = msgspec.structs.replace(documents.flow(EVIL, EVIL, EVIL, 25.0), policy=EVIL, is_default=True)
    answered = [msgspec.structs.replace(row, tier=EVIL) for row in flow.answered]
    steps = [msgspec.structs.replace(step, step=EVIL, reasons={EVIL: 1.0}) for step in flow.steps]
    flow = msgspec.structs.replace(flow, answered=answered, steps=steps)
    traffic = msgspec.structs.replace(flow.traffic, outcomes={EVIL: 3.0, "__proto__": 1.0, "constructor": 2.0})
    flow = msgspec.structs.replace(flow, traffic=traffic)
    canary = documents.standing(words=EVIL, tenant=EVIL, domain=EVIL)
    ticket = documents.ticket(EVIL, EVIL, 0.9, 1.0, 0.5, state="canary", canaries=[canary], drift={EVIL: 0.3})
    family = msgspec.structs.replace(
        documents.family(), family=EVIL, tickets=[ticket], used_by=[Use(tenant=EVIL, domain=EVIL, policy=EVIL)]
    )
    event = documents.event(
        1,
        actor=EVIL,
        subject=EVIL,
        tenant=EVIL,
        reason=EVIL,
        before={EVIL: EVIL, "__proto__": EVIL},
        after={EVIL: [EVIL]},
    )
    problem = Problem(kind="drift", severity="act", what=EVIL, why=EVIL, do=EVIL, tenant=EVIL, domain=EVIL, tier=EVIL)
    return documents.overview(
        version=EVIL, problems=[problem], flows=[flow], tenants=[documents.tenant_row(EVIL, [flow])], families=[family],
        events=[event], workers=[documents.worker(EVIL)], gateways=[documents.gateway(EVIL)],
    )  # fmt: skip


async def test_hostile_words_are_shown_as_they_are(tab: Desk) -> None:
    tab.shown = hostile()
    await tab.open()
    await tab.page.locator(".flow-name").first.click()
    for view in VIEWS:
        await tab.go(view)
        if view == "events":
            await tab.page.get_by_role("button", name="What changed").click()
        assert await tab.page.evaluate("document.querySelectorAll('main img, main script, main iframe').length") == 0
        assert await tab.page.evaluate("window.hacked") is None
        assert SCRIPT in await tab.page.evaluate("document.querySelector('main').textContent")


async def test_hostile_answers_are_shown_as_they_are(tab: Desk) -> None:
    tab.shown = documents.overview("acme", "call")
    tab.answers["POST /v1/classify"] = Answer(200, documents.classified(EVIL))
    await tab.open("try")
    await tab.page.fill("#try-text", EVIL)
    await tab.page.get_by_role("button", name="Ask", exact=True).click()
    await tab.page.wait_for_selector("h2.answer")
    shown = await tab.page.evaluate("document.querySelector('main').textContent")
    assert shown.count(SCRIPT) >= 5  # label, text, because, tier, request id
    tab.answers["POST /v1/classify"] = refusal(503, EVIL, EVIL)
    await tab.page.get_by_role("button", name="Ask", exact=True).click()
    await tab.page.wait_for_selector(".notice.is-bad")
    assert await tab.page.evaluate("window.hacked") is None
    assert await tab.page.locator("main img").count() == 0


async def test_hostile_addresses_lead_nowhere(tab: Desk) -> None:
    await tab.open("now/%E0%A4%A/..%2f..%2f/<script>")
    assert await tab.page.inner_text("h1") != ""
    await tab.go("now/javascript:alert(1)/__proto__/constructor")
    assert await tab.page.locator("table.flows").count() == 1
