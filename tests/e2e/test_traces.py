"""Traces of a whole installation: real gateway and worker processes, and a collector that reads what they send."""

import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.installation import Installation, Start, until
from tests.server.collector import Collector, collecting

pytestmark = [pytest.mark.e2e, pytest.mark.redis]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def up(start: Start, collector: Collector) -> Installation:
    environ = {"TOMBOLA_OTLP_ENDPOINT": collector.url, "TOMBOLA_TRACE_RATIO": "1", "TOMBOLA_REQUEST_LOG": "all"}
    return start("--gateways", "1", "--workers", "1", environ=environ).wait_until_up()


async def test_one_trace_spans_gateway_and_worker_and_its_durations_add_up(
    up: Installation, collector: Collector
) -> None:
    body = {"domain": "home", "text": ["rain sun"] * 8, "deadline_ms": 10_000}
    headers = up.headers | {"X-Request-Id": "whole"}
    async with httpx.AsyncClient(timeout=30) as client:
        response = await client.post(f"{up.api}/v1/classify", json=body, headers=headers)
    timings = response.json()["timings_ms"]
    trace = collector.trace("whole")
    (server,), (asked,) = trace["POST /v1/classify"], trace["ask"]
    (queue,), (tokenize,), (run,) = trace["queue"], trace["tokenize"], trace["run"]
    assert server.service["service.instance.id"] == "gateway-0"
    assert asked.attributes["tombola.worker"] == "worker-0"
    assert (server.parent_id, asked.parent_id) == ("", server.span_id)
    assert {span.parent_id for span in (queue, tokenize, run)} == {asked.span_id}
    assert tokenize.ms > 0
    assert queue.ms == pytest.approx(timings["queue"], abs=0.01)
    assert tokenize.ms + run.ms == pytest.approx(timings["run"], abs=0.01)
    hop_ms = asked.attributes["tombola.hop_ms"]
    assert queue.ms + tokenize.ms + run.ms + hop_ms == pytest.approx(asked.ms, abs=0.02)
    assert asked.ms <= timings["total"] <= server.ms
    assert re.fullmatch(f"00-{server.trace_id}-{server.span_id}-01", response.headers["traceresponse"])
    await until(lambda: '"request_id":"whole"' in up.log.read_text())
    lines = [json.loads(line) for line in up.log.read_text().splitlines() if '"request_done"' in line]
    (line,) = [line for line in lines if line["request_id"] == "whole"]
    assert line["trace_id"] == server.trace_id
    assert line["rows"] == 8
    assert "rain sun" not in up.log.read_text()
