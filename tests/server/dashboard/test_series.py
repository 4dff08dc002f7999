"""Reduction: what real processes dump, as the few series that the dashboard needs."""

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from server.dashboard import series
from server.dashboard.series import Reader
from server.exposition import dump
from server.telemetry import GatewayMetrics
from server.worker_metrics import WorkerMetrics
from tests.server.dashboard.node import Node

FAMILIES = msgspec.msgpack.Decoder(list[tuple[str, str, str, msgspec.Raw, msgspec.Raw]])


def metric_names() -> set[str]:
    """Of everything that a gateway and a worker dump."""
    registries = CollectorRegistry(), CollectorRegistry()
    GatewayMetrics(registries[0])
    WorkerMetrics(registries[1])
    return {family[0] for registry in registries for family in FAMILIES.decode(dump(registry))}


def test_every_metric_that_is_wanted_is_one_that_a_process_has() -> None:
    wanted = {*series.COUNTERS, *series.HISTOGRAMS, *series.SUMMARIES, *series.GAUGES}
    assert wanted <= metric_names()


def test_buckets_are_taken_apart_and_sums_kept() -> None:
    """Each bucket counts for itself; of a summary only the sum and the count are kept."""
    node = Node()
    node.ask(count=3, total_s=0.004)
    node.ask(count=2, total_s=0.03)
    gateway = node.readings()[0]
    who = ("acme", "home", "fast")
    buckets = {key[4]: value for key, value in gateway.counters.items() if key[:4] == (series.SECONDS, *who)}
    assert buckets == {"0.005": 3.0, "0.035": 2.0}
    assert gateway.counters[series.QUEUE, *who, series.COUNT] == 5.0
    assert gateway.counters[series.QUEUE, *who, series.SUM] == pytest.approx(0.005)
    assert {"0.0005", "10.0", "+Inf"} < gateway.bounds[series.SECONDS]


def test_a_process_is_what_it_measures() -> None:
    node = Node()
    assert [(one.kind, one.name, one.is_up) for one in node.readings()] == [
        ("gateway", "gateway-0", True),
        ("worker", "worker-0", True),
    ]


@pytest.mark.parametrize("dumped", [b"", b"\xc1", b"\x93\x01\x02", msgspec.msgpack.encode([["a", "b", "c", 3]])])
def test_a_process_that_answers_nothing_or_nonsense_is_down(dumped: bytes) -> None:
    reading = Reader().read("x", dumped)
    assert not reading.is_up or not reading.counters
    assert Reader().read("w", b"", {"w"}).kind == "worker"
    assert Reader().read("g", b"", {"w"}).kind == "gateway"
