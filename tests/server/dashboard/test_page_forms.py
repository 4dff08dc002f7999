"""What the page sends: asking a domain, moving tickets on, reading older events - and how it takes a refusal."""

import msgspec
import pytest

from tests.server.dashboard import documents
from tests.server.dashboard.page import KEY, Answer, Desk, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

TENANT_KEY = "tk_" + "t" * 43


async def test_an_answer_says_which_ticket_gave_it_and_where_the_time_went(tab: Desk) -> None:
    tab.shown = documents.overview("acme", "call")
    tab.answers["POST /v1/classify"] = Answer(200, documents.classified("card_arrival"))
    await tab.open("try")
    await tab.page.select_option("#try-tier", "fast")
    await tab.page.fill("#try-deadline", "20")
    await tab.page.fill("#try-text", "where is my card?")
    await tab.page.press("#try-text", "Control+Enter")
    await tab.page.wait_for_selector("h2.answer")
    assert tab.sent("/v1/classify") == [
        {"domain": "banking", "text": "where is my card?", "top_k": 5, "tier": "fast", "deadline_ms": 20}
    ]
    shown = await tab.text("[aria-label='The answer']")
    for words in ("in scope", "90.0 %", "a1a1a1a1a1", "queue 0.200 ms", "run 1.10 ms", "gateway and hop 0.600 ms"):
        assert words in shown
    assert "2.10 ms predicted, 20 ms allowed" in shown


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(503, "overloaded", "every worker is busy"), "Every worker is busy. No ticket of the family could"),
        (refusal(404, "not_found", "there is nothing at /v1/classify"), "inference has a port of its own here"),
        (refusal(400, "unsupported", "this model takes tensors"), "ask it under /v2"),
    ],
)
async def test_a_refused_question_says_what_to_do(tab: Desk, answer: Answer, words: str) -> None:
    tab.shown = documents.overview("acme", "call")
    tab.answers["POST /v1/classify"] = answer
    await tab.open("try")
    await tab.page.fill("#try-text", "hello")
    await tab.page.get_by_role("button", name="Ask", exact=True).click()
    await tab.page.wait_for_selector(".notice.is-bad")
    assert words in await tab.text(".notice.is-bad")


async def test_an_operator_asks_with_a_key_of_the_tenant_that_soon_ends(tab: Desk) -> None:
    tab.answers["POST /v1/tenants/acme/keys"] = Answer(201, {"id": "0" * 12, "key": TENANT_KEY})
    tab.answers["POST /v1/classify"] = Answer(200, documents.classified("card_arrival"))
    await tab.open("try")
    await tab.page.fill("#try-text", "hello")
    await tab.page.get_by_role("button", name="Ask", exact=True).click()
    await tab.sees("Give a key of acme first")
    await tab.page.get_by_role("button", name="Make one for 15 minutes").click()
    await tab.sees("ends within 15 minutes")
    await tab.page.get_by_role("button", name="Ask", exact=True).click()
    await tab.page.wait_for_selector("h2.answer")
    assert tab.sent("/v1/tenants/acme/keys") == [{"role": "call", "label": "dashboard, try it", "expires_in_s": 900}]
    asked = [request for request in tab.asked if "/v1/classify" in request.url]
    assert [request.headers["authorization"] for request in asked] == [f"Bearer {TENANT_KEY}"]
    assert TENANT_KEY not in await tab.page.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")


async def test_a_move_asks_first_and_sends_what_was_chosen(tab: Desk) -> None:
    registered = documents.ticket(documents.TRIED, "fast", 0.95, 0.1, None, state="registered")
    family = msgspec.structs.replace(documents.family(), tickets=[registered])
    tab.shown = documents.overview("acme", "admin", families=[family])
    tab.answers[f"POST /v1/tenants/acme/tickets/{documents.TRIED}/canary"] = Answer(200, {"state": "canary"})
    await tab.open("families")
    await tab.page.get_by_role("button", name="Canary fast d4d4d4d4d4").click()
    dialog = tab.page.get_by_role("dialog", name="Try it as a canary")
    await dialog.get_by_label("Share of the requests").fill("25")
    await dialog.get_by_label("Mode").select_option("shadow")
    await dialog.get_by_role("button", name="Start the canary").click()
    await dialog.wait_for(state="detached")
    assert tab.sent("/canary") == [{"domain": "banking", "share": 0.25, "mode": "shadow", "is_automatic": False}]
    await tab.sees("The canary has begun.")


async def test_a_refused_move_stays_open_with_the_reason(tab: Desk) -> None:
    path = f"POST /v1/tenants/acme/tickets/{documents.TRIED}/promote"
    tab.answers[path] = refusal(503, "control_plane_unavailable", "Redis cannot be reached; nothing was changed")
    await tab.open("families")
    await tab.page.get_by_role("button", name="Promote balanced d4d4d4d4d4").first.click()
    await tab.page.get_by_label("New deadline in ms").fill("20")
    await tab.page.get_by_label("Reason").fill("better")
    await tab.page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    await tab.sees("nothing was changed")
    assert tab.sent("/promote") == [{"domain": "banking", "reason": "better", "deadline_ms": 20}]
    await tab.page.keyboard.press("Escape")
    await tab.page.wait_for_selector("dialog", state="detached")
    assert await tab.page.evaluate("document.activeElement.textContent") == "Promote"  # back where it was opened


async def test_a_family_of_several_domains_asks_where(tab: Desk) -> None:
    family = documents.family()
    uses = [msgspec.structs.replace(family.used_by[0], tenant=name) for name in ("acme", "rival")]
    tab.shown = documents.overview(families=[msgspec.structs.replace(family, used_by=uses)])
    tab.answers["POST /v1/tenants/rival/domains/banking/rollback"] = Answer(200, {"domain": "banking", "promoted": []})
    await tab.open("families")
    await tab.page.get_by_role("button", name="Roll back").click()
    await tab.page.get_by_label("Domain", exact=True).select_option("rival / banking")
    await tab.page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    await tab.page.wait_for_selector("dialog", state="detached")
    assert tab.sent("/rival/domains/banking/rollback") == [{}]


async def test_older_events_are_read_from_the_log(tab: Desk) -> None:
    tab.shown = documents.overview("acme", "register", events=[documents.event(n) for n in range(1, 51)])
    older = [msgspec.to_builtins(documents.event(n, "key.create", subject=f"key{n}")) for n in range(51, 54)]
    tab.answers["GET /v1/tenants/acme/events"] = Answer(200, {"events": older, "next": None})
    await tab.open("events")
    await tab.page.get_by_role("button", name="Show older ones").click()
    await tab.sees("key53")
    assert await tab.page.locator("li.event").count() == 53
    assert await tab.page.get_by_role("button", name="Show older ones").count() == 0
    last = next(request for request in tab.asked if "/events" in request.url)
    assert last.url.endswith(f"before={documents.event(50).id}")
    await tab.page.get_by_role("searchbox").fill("key52")
    await tab.page.wait_for_function("() => document.querySelectorAll('li.event').length === 1")


async def test_a_file_that_cannot_be_a_bundle_is_not_sent(tab: Desk) -> None:
    tab.shown = documents.overview("acme", "register")
    await tab.open("register")
    await tab.page.set_input_files(
        "#register-file", {"name": "empty.ticket", "mimeType": "application/octet-stream", "buffer": b""}
    )
    await tab.sees("empty.ticket is empty.")
    assert tab.sent("/tickets") == []


async def test_a_refused_bundle_names_the_step_and_what_is_wrong(tab: Desk) -> None:
    tab.shown = documents.overview("acme", "register")
    steps = [
        {"name": "size", "status": "passed", "ms": 1.0, "detail": "12 bytes", "facts": {"bytes": 12}},
        {"name": "integrity", "status": "refused", "ms": 2.0, "detail": "no bundle begins so", "facts": {}},
    ]
    report = {"ticket": "", "bytes": 12, "steps": steps, "accepted": False, "confinement": ["no sockets"]}
    body = refusal(422, "refused", "no bundle begins so").body
    tab.answers["POST /v1/tenants/acme/tickets?domain=home&tier=fast"] = Answer(
        422, body | {"step": "integrity", "refusal": "bad_bundle", "report": report}
    )
    await tab.open("register")
    await tab.page.get_by_role("button", name="Another domain or tier").click()
    await tab.page.fill("#register-domain", "home")
    await tab.page.fill("#register-tier", "fast")
    await tab.page.fill("#register-signature", "me:abc=")
    await tab.page.set_input_files(
        "#register-file", {"name": "x.ticket", "mimeType": "application/octet-stream", "buffer": b"not a bundle"}
    )
    await tab.sees("Refused at integrity.")
    shown = await tab.text("[aria-label='What the gate found']")
    assert "No bundle begins so. (bad_bundle)" in shown
    assert await tab.page.locator("ol.steps li").count() == 2
    sent = next(request for request in tab.asked if request.method == "POST")
    headers = await sent.all_headers()
    assert (headers["x-tombola-signature"], headers["authorization"]) == ("me:abc=", f"Bearer {KEY}")
    assert headers["accept"] == "application/x-ndjson"
