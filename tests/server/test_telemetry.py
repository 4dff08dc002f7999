"""Metrics: what is counted, under which bounded labels, and the page of all processes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from server.exposition import decode, merging
from server.labels import MAX_TICKETS
from server.telemetry import OBJECTIVE, PARTS, GatewayMetrics, dump, merge
from server.worker_metrics import WorkerMetrics
from tests.server.gateways import tiny_table

ROOT = Path(__file__).parents[2]
TICKET = "ab" * 32


def record(metrics: GatewayMetrics, outcome: str = "ok", tenant: str = "acme", **changes: str) -> None:
    names: dict[str, Any] = {"tenant": tenant, "domain": "banking", "tier": "fast", **changes}
    metrics.record(**names, outcome=outcome, total_s=0.011, queue_s=0.002, run_s=0.004, met_sla=True, ticket=TICKET)


def samples(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a page; a page that the parser refuses, or that has a sample twice, fails the test."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_request_is_counted_once_in_each_metric(registry: CollectorRegistry) -> None:
    record(GatewayMetrics(registry))
    who = {"tenant": "acme", "domain": "banking", "tier": "fast"}
    assert value(registry, "tombola_requests_total", **who, outcome="ok") == 1
    assert value(registry, "tombola_request_seconds_count", **who) == 1
    assert value(registry, "tombola_request_seconds_sum", **who) == pytest.approx(0.011)
    assert value(registry, "tombola_request_queue_seconds_sum", **who) == pytest.approx(0.002)
    assert value(registry, "tombola_request_run_seconds_sum", ticket=TICKET[:12]) == pytest.approx(0.004)
    assert value(registry, "tombola_sla_total", **who, result="met") == 1
    assert value(registry, "tombola_sla_total", **who, result="missed") == 0


def test_buckets_tell_millisecond_promises_apart(registry: CollectorRegistry) -> None:
    record(GatewayMetrics(registry))
    who = {"tenant": "acme", "domain": "banking", "tier": "fast"}
    assert value(registry, "tombola_request_seconds_bucket", **who, le="0.01") == 0
    assert value(registry, "tombola_request_seconds_bucket", **who, le="0.015") == 1
    for promise in ("0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "1.0"):
        assert value(registry, "tombola_request_seconds_bucket", **who, le=promise) is not None


def test_a_refused_request_has_no_queue_run_or_promise(registry: CollectorRegistry) -> None:
    GatewayMetrics(registry).record(tenant="a", domain="d", tier="t", outcome="overloaded", total_s=0.001)
    who = {"tenant": "a", "domain": "d", "tier": "t"}
    assert value(registry, "tombola_requests_total", **who, outcome="overloaded") == 1
    assert value(registry, "tombola_request_queue_seconds_count", **who) == 0
    assert value(registry, "tombola_sla_total", **who, result="missed") == 0


def test_predictions_are_held_against_what_came(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    metrics.predicted(TICKET, 10.0, 12.0)
    metrics.predicted(TICKET, 10.0, 9.0)
    metrics.predicted(TICKET, 0.0, 9.0)  # nothing was predicted
    ticket = {"ticket": TICKET[:12]}
    assert value(registry, "tombola_prediction_ratio_count", **ticket) == 2
    assert value(registry, "tombola_prediction_ratio_sum", **ticket) == pytest.approx(2.1)
    assert value(registry, "tombola_prediction_error_seconds_total", **ticket) == pytest.approx(0.003)


def test_steps_are_counted_by_who_asked_and_bounded(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    who: dict[str, Any] = {"tenant": "acme", "domain": "banking", "tier": "fast"}
    for step in (0, 1, 1, 8, 70):
        metrics.record(**who, outcome="ok", total_s=0.01, run_s=0.01, ticket=TICKET, step=step, reason="load")
    counted = {
        step: value(registry, "tombola_route_steps_total", **who, step=step, reason="load")
        for step in ("0", "1", "8+", "70")
    }
    assert counted == {"0": 1, "1": 2, "8+": 2, "70": None}


def test_the_parts_of_an_answers_time_are_all_of_it(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    who: dict[str, Any] = {"tenant": "acme", "domain": "banking", "tier": "fast"}
    for _ in range(2):
        metrics.record(
            **who, outcome="ok", total_s=0.020, admission_s=0.001, queue_s=0.004, run_s=0.010, tokenize_s=0.003,
            met_sla=True, ticket=TICKET,
        )  # fmt: skip
    metrics.record(**who, outcome="overloaded", total_s=0.5)
    seconds = {part: value(registry, "tombola_request_part_seconds_total", **who, part=part) for part in PARTS}
    assert seconds == {
        "admission": pytest.approx(0.002), "hop": pytest.approx(0.010), "queue": pytest.approx(0.008),
        "tokenize": pytest.approx(0.006), "run": pytest.approx(0.014),
    }  # fmt: skip


def test_an_answer_is_counted_for_its_ticket_too(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    record(metrics)
    record(metrics, domain="travel")
    ticket = {"ticket": TICKET[:12]}
    assert value(registry, "tombola_ticket_request_seconds_count", **ticket) == 2
    assert value(registry, "tombola_ticket_sla_total", **ticket, result="met") == 2
    assert value(registry, "tombola_ticket_sla_total", **ticket, result="missed") == 0
    who = {"tenant": "acme", "domain": "travel", "tier": "fast"}
    assert value(registry, "tombola_answers_total", **who, **ticket) == 1


def test_tickets_beyond_the_bound_are_other(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    for i in range(MAX_TICKETS + 50):
        metrics.record(
            tenant="acme", domain="banking", tier="fast", outcome="ok", total_s=0.01, queue_s=0.0, run_s=0.01,
            met_sla=True, ticket=f"{i:012x}" + "0" * 52, step=0,
        )  # fmt: skip
    assert value(registry, "tombola_ticket_request_seconds_count", ticket="other") == 50
    who = {"tenant": "acme", "domain": "banking", "tier": "fast", "ticket": "other"}
    assert value(registry, "tombola_answers_total", **who) == 50


def test_the_promise_of_a_tier_is_shown_once_it_has_been_asked_for(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    metrics.use_table(tiny_table("a" * 64, "b" * 64, deadline_ms=40.0))
    who = {"tenant": "acme", "domain": "home", "tier": "fast"}
    assert value(registry, "tombola_sla_deadline_seconds", **who) is None
    record(metrics, domain="home")
    record(metrics, domain="home", tier="unheard-of")
    assert value(registry, "tombola_sla_deadline_seconds", **who) == 0.04
    assert value(registry, "tombola_sla_deadline_seconds", **{**who, "tier": "unheard-of"}) is None
    assert value(registry, "tombola_sla_objective_ratio") == OBJECTIVE == 0.99


def test_the_ladders_moves_are_read_when_somebody_looks(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    metrics.ladder = lambda: (3, 5, 2)
    assert value(registry, "tombola_ladder_moves_total", direction="up") == 3
    assert value(registry, "tombola_ladder_moves_total", direction="down") == 5
    assert value(registry, "tombola_ladder_flows") == 2


def test_a_sampled_requests_trace_travels_with_its_bucket(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    metrics.record(tenant="a", domain="d", tier="t", outcome="ok", total_s=0.012, trace_id="ab" * 16)
    metrics.record(tenant="a", domain="d", tier="t", outcome="ok", total_s=0.013)
    families = decode(dump(registry))
    assert families is not None
    family = next(family for family in families if family.name == "tombola_request_seconds")
    ((place, labels, seconds, at),) = family.exemplars
    assert (labels, seconds) == ({"trace_id": "ab" * 16}, 0.012)
    assert at > 1e9
    name, found, count = family.samples[place]
    assert (name, found["le"], count) == ("tombola_request_seconds_bucket", "0.015", 2)


def test_rows_of_cascades_are_counted_by_the_ticket_whose_answer_stood(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    metrics.cascaded(tenant="acme", domain="banking", small=3, large=2, unsure=0)
    metrics.cascaded(tenant="acme", domain="banking", small=1, large=0, unsure=1)
    rows = {
        by: value(registry, "tombola_cascade_rows_total", tenant="acme", domain="banking", by=by)
        for by in ("small", "large", "small_unsure")
    }
    assert rows == {"small": 4, "large": 2, "small_unsure": 1}


def test_a_request_whose_client_has_gone_is_an_outcome_of_its_own(registry: CollectorRegistry) -> None:
    GatewayMetrics(registry).record(tenant="a", domain="d", tier="t", outcome="cancelled", total_s=0.1)
    who = {"tenant": "a", "domain": "d", "tier": "t"}
    assert value(registry, "tombola_requests_total", **who, outcome="cancelled") == 1
    assert value(registry, "tombola_sla_total", **who, result="missed") == 0


def test_tenants_beyond_the_bound_are_other(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry, max_tenants=2)
    for tenant in ("a", "b", "c", "d", "a"):
        record(metrics, tenant=tenant)
    rest = {"domain": "banking", "tier": "fast", "outcome": "ok"}
    assert value(registry, "tombola_requests_total", tenant="a", **rest) == 2
    assert value(registry, "tombola_requests_total", tenant="b", **rest) == 1
    assert value(registry, "tombola_requests_total", tenant="other", **rest) == 2


@pytest.mark.parametrize(
    ("outcome", "who"),
    [
        ("unauthorized", ("other", "other", "other")),
        ("bad_request", ("acme", "other", "other")),
        ("unknown_domain", ("acme", "other", "other")),
        ("unknown_tier", ("acme", "banking", "other")),
        ("overloaded", ("acme", "banking", "fast")),
    ],
)
def test_what_the_caller_invents_takes_no_label(
    registry: CollectorRegistry, outcome: str, who: tuple[str, str, str]
) -> None:
    record(GatewayMetrics(registry), outcome)
    tenant, domain, tier = who
    assert value(registry, "tombola_requests_total", tenant=tenant, domain=domain, tier=tier, outcome=outcome) == 1


def test_invented_names_fill_neither_the_page_nor_the_memory(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    record(metrics)
    page, cached = len(generate_latest(registry)), len(metrics._cache)
    for i in range(1000):
        record(metrics, "unknown_domain", domain=f"guess-{i}")
        record(metrics, f"outcome-{i}")
    assert len(metrics._cache) == cached + 2
    assert len(generate_latest(registry)) < 3 * page
    record(metrics, domain="travel")
    labels = {"tenant": "acme", "domain": "travel", "tier": "fast", "outcome": "ok"}
    assert value(registry, "tombola_requests_total", **labels) == 1


def test_even_vouched_names_have_a_bound_together(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    for tenant in range(34):
        for domain in range(34):
            record(metrics, tenant=f"t{tenant}", domain=f"d{domain}")
    names = [sample.name for family in registry.collect() for sample in family.samples]
    assert names.count("tombola_requests_total") == 1001
    other = {"tenant": "other", "domain": "other", "tier": "other", "outcome": "ok"}
    assert value(registry, "tombola_requests_total", **other) == 156


def two_processes() -> dict[str, bytes]:
    gateway, worker = CollectorRegistry(), CollectorRegistry()
    metrics = GatewayMetrics(gateway)
    record(metrics)
    metrics.workers.set(2)
    metrics.retries.inc()
    workers = WorkerMetrics(worker)
    workers.batch(ticket=TICKET, texts=8, queue_s=[0.1], run_s=0.01)
    workers.loaded(ticket=TICKET, resident_bytes=1000, seconds=0.1)
    workers.dropped("expired", 1)
    workers.load_failed()
    workers.queue_texts.set(3)
    workers.wait_seconds.set(0.01)
    return {"gateway-0": dump(gateway), "worker-0": dump(worker), "worker-1": dump(worker)}


def test_the_page_has_all_processes_each_under_its_name() -> None:
    found = samples(merge(two_processes()))
    for process in ("worker-0", "worker-1"):
        labels = frozenset({("ticket", TICKET[:12]), ("process", process)})
        assert found["tombola_texts_total", labels] == 8
    assert found["tombola_workers", frozenset({("process", "gateway-0")})] == 2
    assert all("process" in dict(labels) for _, labels in found)


def test_merging_one_process_says_what_the_client_library_says() -> None:
    """Apart from the label, and the creation times that nobody asked for."""
    registry = CollectorRegistry()
    record(GatewayMetrics(registry))
    expected = {
        (name, labels | {("process", "p")}): number
        for (name, labels), number in samples(generate_latest(registry)).items()
        if not name.endswith("_created") and "process_" not in name
    }
    merged = samples(merge({"p": dump(registry)}))
    assert {
        key: number for key, number in merged.items() if "process_" not in key[0] and key[0] != "tombola_up"
    } == expected


def test_help_and_type_stand_once_per_family() -> None:
    lines = merge(two_processes()).decode().splitlines()
    heads = [line for line in lines if line.startswith("# ")]
    assert len(heads) == len(set(heads))
    types = [line.split()[2] for line in heads if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    assert all(name.startswith("tombola_") for name in types)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\xc1", b"\x91" * 5000, b"\x91\x94\xa1\xff\xa1x\xa1x\x90"])
def test_a_process_that_does_not_answer_shows_as_down(data: bytes) -> None:
    found = samples(merge({**two_processes(), "worker-2": data}))
    assert found["tombola_up", frozenset({("process", "worker-2")})] == 0
    assert found["tombola_up", frozenset({("process", "worker-0")})] == 1


def test_labels_and_help_are_escaped() -> None:
    registry = CollectorRegistry()
    Gauge("tombola_odd", 'a \\ "b"\nc', ("x",), registry=registry).labels('q"\\\n').set(float("inf"))
    found = samples(merge({'p"\n': dump(registry)}))
    assert found["tombola_odd", frozenset({("x", 'q"\\\n'), ("process", 'p"\n')})] == float("inf")


def test_a_family_that_changed_its_type_does_not_spoil_the_page() -> None:
    """Two versions run side by side during a rollout; the first one's meaning holds."""
    old, new = CollectorRegistry(), CollectorRegistry()
    Gauge("tombola_x_total", "x", registry=old).set(1)
    Counter("tombola_x", "x", registry=new).inc(5)
    found = samples(merge({"a": dump(old), "b": dump(new)}))
    assert ("tombola_x_total", frozenset({("process", "b")})) not in found


def test_the_page_comes_in_pieces_that_are_small_beside_it() -> None:
    """Between two of them a gateway attends to its requests."""
    dumps = two_processes()
    pieces = list(merging(dumps))
    assert b"".join(pieces) == merge(dumps)
    assert max(map(len, pieces)) < 0.2 * sum(map(len, pieces))


def test_no_process_at_all_is_a_page() -> None:
    assert samples(merge({})) == {}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH")
def test_promtool_finds_nothing_to_say() -> None:
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=merge(two_processes()), capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout + result.stderr == b""


LOG = """
import logging, sys, structlog
from server.telemetry import configure_logging
configure_logging({json})
log = structlog.get_logger()
structlog.contextvars.bind_contextvars(request_id="r1")
log.info("request_done", tenant="acme", total_ms=1.5, odd=object(), broken="\\ud800")
log.debug("hidden")
logging.getLogger("uvicorn.error").warning("from %s", "a library")
def divide(key):
    return 1 / 0
try:
    divide("tk_" + "secret")
except ZeroDivisionError:
    log.exception("failed")
"""


def log_lines(json_option: bool | None) -> list[str]:
    code = LOG.format(json=json_option)
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert result.stdout == b""
    return result.stderr.decode(errors="replace").splitlines()


@pytest.mark.parametrize("json_option", [True, None])
def test_logs_are_one_json_object_a_line_unless_a_person_watches(json_option: bool | None) -> None:
    done, library, failed = (json.loads(line) for line in log_lines(json_option))
    assert done["event"] == "request_done"
    assert done["request_id"] == "r1"
    assert done["total_ms"] == 1.5
    assert done["level"] == "info"
    assert library["event"] == "from a library"
    assert library["level"] == "warning"
    assert "ZeroDivisionError" in failed["exception"]


def test_logs_for_people_are_lines_too() -> None:
    assert any("request_done" in line and "acme" in line for line in log_lines(False))


@pytest.mark.parametrize("json_option", [True, False])
def test_tracebacks_show_no_variables_because_they_hold_keys_and_texts(json_option: bool) -> None:
    written = "\n".join(log_lines(json_option))
    assert "ZeroDivisionError" in written
    assert "tk_secret" not in written
