"""Spans on their way out of a real gateway: real HTTP in, OTLP over real HTTP out, read by the protocol's protobuf."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server import otlp, wire
from server.observing import Observing
from server.otlp import traces_url
from tests.server.collector import Collector, Received, collecting
from tests.server.fake_worker import answer, fail
from tests.server.gateways import ACME_KEY, Installation, add_worker, installation, wait_until

pytestmark = pytest.mark.redis
ACME = {"Authorization": f"Bearer {ACME_KEY}"}
SPAN = "b7ad6b7169203331"
ROOT = Path(__file__).parents[2]
SERVER, CLIENT = 2, 3


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def house(
    redis_url: str, namespace: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    monkeypatch.setattr(otlp, "EXPORT_EVERY_S", 0.05)
    observing = Observing(otlp_endpoint=collector.url, trace_ratio=0.0, request_log="off")
    with installation(redis_url, namespace, observing=observing) as house:
        yield house


def trace_of(request_id: str) -> str:
    """A trace of its own for each request."""
    return request_id.encode().hex().rjust(32, "1")


def ask(house: Installation, request_id: str, flags: str = "01", **body: object) -> httpx.Response:
    headers = ACME | {"X-Request-Id": request_id, "traceparent": f"00-{trace_of(request_id)}-{SPAN}-{flags}"}
    return httpx.post(f"{house.url}/v1/classify", json={"domain": "home", "text": "song"} | body, headers=headers)


def only(spans: list[Received]) -> Received:
    (span,) = spans
    return span


def test_a_traced_request_comes_out_as_a_tree_that_adds_up(house: Installation, collector: Collector) -> None:
    response = ask(house, "tree")
    trace = collector.trace("tree")
    server, asked = only(trace["POST /v1/classify"]), only(trace["ask"])
    assert (server.kind, asked.kind) == (SERVER, CLIENT)
    assert (server.trace_id, server.parent_id) == (trace_of("tree"), SPAN)
    assert response.headers["traceresponse"] == f"00-{server.trace_id}-{server.span_id}-01"
    assert server.service["service.name"] == "tombola"
    assert server.attributes["tombola.ticket"] == response.json()["ticket"]
    assert server.attributes["tombola.because"] == response.json()["because"]
    assert server.attributes["http.response.status_code"] == 200
    children = [only(trace[name]) for name in ("admission", "ask", "render")]
    assert {child.parent_id for child in children} == {server.span_id}
    assert sum(child.ms for child in children) <= server.ms + 0.01
    parts = [only(trace[name]) for name in ("queue", "run")]
    assert {part.parent_id for part in parts} == {asked.span_id}
    told = sum(part.ms for part in parts)  # the fake worker tells what it likes: more, where the machine is quick
    assert told + asked.attributes["tombola.hop_ms"] == pytest.approx(max(asked.ms, told), abs=0.01)
    assert all(server.begin_ns <= span.begin_ns <= span.end_ns <= server.end_ns for span in [*children, *parts])


def test_a_retry_a_failure_and_an_error_are_seen(house: Installation, collector: Collector) -> None:
    house.worker.behave = fail("inference_failed")
    assert ask(house, "broken").status_code == 500
    spans = collector.wait_for(lambda spans: any(s.attributes.get("tombola.request_id") == "broken" for s in spans))
    server = only([span for span in spans if span.attributes.get("tombola.request_id") == "broken"])
    assert server.is_error
    assert server.attributes["error.type"] == "inference_failed"
    assert server.attributes["http.response.status_code"] == 500


def test_a_callers_mistake_is_no_error_of_the_server(house: Installation, collector: Collector) -> None:
    assert ask(house, "mistake", tier="nonsense").status_code == 404
    spans = collector.wait_for(lambda spans: any(s.attributes.get("tombola.request_id") == "mistake" for s in spans))
    server = only([span for span in spans if span.attributes.get("tombola.request_id") == "mistake"])
    assert not server.is_error
    assert server.attributes["error.type"] == "unknown_tier"


def test_what_the_caller_does_not_record_is_not_sent(house: Installation, collector: Collector) -> None:
    assert "traceresponse" not in ask(house, "silent", flags="00").headers
    ask(house, "after")
    collector.trace("after")
    assert not any(span.attributes.get("tombola.request_id") == "silent" for span in collector.spans)


def test_no_text_and_no_key_is_ever_sent(house: Installation, collector: Collector) -> None:
    ask(house, "private", text="zebra-in-the-text")
    collector.trace("private")
    assert not any(b"zebra" in body or ACME_KEY.encode() in body for body in collector.bodies)


def test_a_variable_path_is_one_operation(house: Installation, collector: Collector) -> None:
    headers = ACME | {"X-Request-Id": "variable", "traceparent": f"00-{trace_of('variable')}-{SPAN}-01"}
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["song"]}]}
    assert httpx.post(f"{house.url}/v2/models/home/infer", json=body, headers=headers).status_code == 200
    assert collector.trace("variable")["POST /v2/models/{model}/infer"]


def test_an_exemplar_names_the_trace(house: Installation, collector: Collector) -> None:
    ask(house, "example")
    accept = {"accept": "application/openmetrics-text;version=1.0.0"}
    page = httpx.get(f"{house.ops_url}/metrics", headers=accept).text
    found = [line for line in page.splitlines() if f'# {{trace_id="{trace_of("example")}"}}' in line]
    assert len(found) == 1
    assert found[0].startswith("tombola_request_seconds_bucket{")


def test_a_gateway_serves_though_its_collector_is_gone(redis_url: str, namespace: str) -> None:
    observing = Observing(otlp_endpoint="http://127.0.0.1:9", trace_ratio=1.0)
    with installation(redis_url, namespace, observing=observing) as house:
        for number in range(20):
            assert ask(house, f"gone-{number}").status_code == 200


def test_the_worker_is_told_what_logs_call_the_request(house: Installation) -> None:
    asked: list[wire.Ask] = []

    def behave(ask: wire.Ask) -> wire.Answer | wire.Failure | None:
        asked.append(ask)
        return answer(ask)

    house.worker.behave = behave
    ask(house, "told")
    assert [one.request_id for one in asked] == ["told"]


def test_without_an_endpoint_we_import_nothing_of_opentelemetry() -> None:
    """FastAPI and redis-py import parts of it where it is installed; tracing and exporting are nobody's but ours."""
    code = (
        "import sys, asyncio, server.run_gateway; from server.observing import Observing, observer\n"
        "async def main():\n"
        " async with observer(Observing(), process='p', version='1', table=lambda: None): pass\n"
        "asyncio.run(main()); ours = ('opentelemetry.exporter', 'opentelemetry.sdk.trace')\n"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("endpoint", ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"])
def test_an_endpoint_is_a_base_or_the_whole(endpoint: str) -> None:
    assert traces_url(endpoint) == "http://c:4318/v1/traces"


def test_a_retry_shows_both_workers(house: Installation, collector: Collector) -> None:
    second = house.gateway.do(add_worker(house.gateway, "w2", [house.accurate, house.fast]))
    wait_until(lambda: 'tombola_workers{process="gw"} 2' in httpx.get(f"{house.ops_url}/metrics").text)
    house.worker.behave = fail("overloaded")
    for number in range(40):  # one of them goes to w1 first
        ask(house, f"retry-{number}")
    house.gateway.do(second.die())
    spans = collector.wait_for(lambda spans: any(s.attributes.get("tombola.way") == "retry" for s in spans))
    again = next(span for span in spans if span.attributes.get("tombola.way") == "retry")
    asks = [span for span in spans if span.name == "ask" and span.parent_id == again.parent_id]
    assert [span.attributes["tombola.worker"] for span in asks] == ["w1", "w2"]
    assert [span.is_error for span in asks] == [True, False]
