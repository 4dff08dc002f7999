"""The OpenMetrics page: who gets it, that parsers agree with it, and that exemplars are on it."""

import math
import shutil
import subprocess
from collections.abc import Iterable, Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from server.exposition import CONTENT_TYPE, dump
from server.openmetrics import OPENMETRICS_TYPE, pieces, rendering, wants_openmetrics
from server.telemetry import GatewayMetrics
from tests.server.gateways import ACME_KEY, Installation, installation

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""What Prometheus 2.42 sends (its 3.x: the same with PrometheusProto and escaping)."""
AT = 1_700_000_000


def parse_openmetrics(text: str) -> list[Metric]:
    """By the reference implementation's parser, which refuses what the format does not allow."""
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (PROMETHEUS_2, True),
        ("application/openmetrics-text", True),
        ('application/openmetrics-text; version="1.0.0"; charset=utf-8', True),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.5", True),
        ("application/openmetrics-text;version=2.0.0,text/plain", False),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.9", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=wrong", False),
        ("text/plain", False),
        ("*/*", False),
        ("", False),
        (";;,=,", False),
    ],
)
def test_who_asks_for_it_gets_it(accept: str, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted
    assert pieces({"gw": b"\x90"}, accept)[1] == (OPENMETRICS_TYPE if wanted else CONTENT_TYPE)


def a_dump() -> bytes:
    registry = CollectorRegistry()
    Counter("c", "Counts.", ("who",), registry=registry).labels('we"ird\\\n').inc(3)
    Gauge("g", 'Has a "quote", a \\ and a\nline end.', registry=registry).set(math.inf)
    Info("i", "Informs.", registry=registry).info({"version": "1"})
    histogram = Histogram("h_seconds", "Times.", buckets=(0.1, 1.0), registry=registry)
    histogram.observe(0.5, {"trace_id": "abc"})
    histogram.observe(5.0)
    return dump(registry)


def test_the_reference_parser_reads_it() -> None:
    text = b"".join(rendering({"gw": a_dump(), "w1": a_dump(), "w2": b""})).decode()
    families = {family.name: family for family in parse_openmetrics(text)}
    assert {name: family.type for name, family in families.items()} == {
        "tombola_up": "gauge", "c": "counter", "g": "gauge", "i_info": "gauge", "h_seconds": "histogram"
    }  # fmt: skip
    assert families["g"].documentation == 'Has a "quote", a \\ and a\nline end.'
    (mine, _) = [sample for sample in families["c"].samples if sample.name == "c_total"]
    assert (mine.value, mine.labels) == (3.0, {"who": 'we"ird\\\n', "process": "gw"})
    up = {sample.labels["process"]: sample.value for sample in families["tombola_up"].samples}
    assert up == {"gw": 1.0, "w1": 1.0, "w2": 0.0}
    exemplars = {s.labels["le"]: s.exemplar for s in families["h_seconds"].samples if "le" in s.labels}
    assert exemplars["1.0"] is not None
    assert (exemplars["1.0"].labels, exemplars["1.0"].value) == ({"trace_id": "abc"}, 0.5)
    assert exemplars["0.1"] is None
    assert exemplars["+Inf"] is None


def test_both_forms_say_the_same() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    metrics.record(tenant="t", domain="d", tier="fast", outcome="ok", total_s=0.01, trace_id="abc", met_sla=True)
    dumps = {"gw": dump(registry)}

    def samples(families: Iterable[Metric]) -> set[tuple[str, str, float]]:
        return {(s.name, str(sorted(s.labels.items())), s.value) for f in families for s in f.samples}

    ours = samples(parse_openmetrics(b"".join(rendering(dumps)).decode()))
    assert ours == samples(parse_prometheus(b"".join(pieces(dumps, "")[0]).decode()))
    assert len(ours) > 50


def test_an_exemplar_that_is_too_long_for_the_format_is_left_out() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    metrics.record(tenant="t", domain="d", tier="fast", outcome="ok", total_s=0.01, trace_id="x" * 200)
    assert b" # {" not in b"".join(rendering({"gw": dump(registry)}))


@pytest.fixture
def house(redis_url: str, namespace: str) -> Iterator[Installation]:
    with installation(redis_url, namespace) as house:
        yield house


@pytest.mark.redis
def test_a_real_gateways_page_comes_in_both_forms(house: Installation) -> None:
    ask = {"domain": "home", "text": "song"}
    httpx.post(f"{house.url}/v1/classify", json=ask, headers={"Authorization": f"Bearer {ACME_KEY}"})
    plain = httpx.get(f"{house.ops_url}/metrics")
    assert plain.headers["content-type"] == CONTENT_TYPE
    opened = httpx.get(f"{house.ops_url}/metrics", headers={"accept": PROMETHEUS_2})
    assert opened.headers["content-type"] == OPENMETRICS_TYPE
    assert opened.headers["vary"] == "accept"
    families = parse_openmetrics(opened.text)
    assert {family.name for family in families} >= {"tombola_up", "tombola_requests", "tombola_request_seconds"}


@pytest.mark.redis
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_reads_the_openmetrics_page(house: Installation) -> None:
    """`promtool check metrics` reads Prometheus's text only; its importer reads OpenMetrics by Prometheus's parser."""
    text = httpx.get(f"{house.ops_url}/metrics", headers={"accept": PROMETHEUS_2}).text
    page, to = house.gateway.folder / "page", house.gateway.folder / "tsdb"
    lines = [line if line.startswith("#") else line.replace(" # ", f" {AT} # ", 1) for line in text.splitlines()]
    page.write_text("\n".join(line if "#" in line else f"{line} {AT}" for line in lines) + "\n")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(page), str(to)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
