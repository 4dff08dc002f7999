"""A worker's metrics: what is counted, under which bounded labels."""

import pytest
from prometheus_client import CollectorRegistry

from routing.cost import Cost
from server.worker_metrics import WorkerMetrics

TICKET = "ab" * 32


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_batch_is_counted_by_ticket(registry: CollectorRegistry) -> None:
    metrics = WorkerMetrics(registry)
    metrics.batch(ticket=TICKET, texts=8, queue_s=[0.001, 0.003], run_s=0.002)
    assert value(registry, "tombola_texts_total", ticket=TICKET[:12]) == 8
    assert value(registry, "tombola_batch_run_seconds_count", ticket=TICKET[:12]) == 1
    assert value(registry, "tombola_batch_texts_sum") == 8
    assert value(registry, "tombola_batch_queue_seconds_count") == 2


def test_tickets_in_memory_and_their_bytes(registry: CollectorRegistry) -> None:
    metrics = WorkerMetrics(registry)
    metrics.loaded(ticket=TICKET, resident_bytes=1000, seconds=0.1)
    metrics.loaded(ticket="cd" * 32, resident_bytes=500, seconds=0.1)
    metrics.unloaded(ticket=TICKET, reason="room")
    metrics.unloaded(ticket=TICKET, reason="room")
    metrics.load_failed()
    assert value(registry, "tombola_tickets_loaded") == 1
    assert value(registry, "tombola_ticket_resident_bytes", ticket=TICKET[:12]) is None
    assert value(registry, "tombola_ticket_resident_bytes", ticket="cd" * 6) == 500
    assert value(registry, "tombola_ticket_unloads_total", reason="room") == 1
    assert value(registry, "tombola_ticket_load_failures_total") == 1


def test_many_tickets_share_a_label(registry: CollectorRegistry) -> None:
    metrics = WorkerMetrics(registry)
    for i in range(300):
        metrics.loaded(ticket=f"{i:064x}"[::-1], resident_bytes=10, seconds=0.1)
    assert value(registry, "tombola_tickets_loaded") == 300
    assert value(registry, "tombola_ticket_resident_bytes", ticket="other") == 1000


def test_drops_are_counted_by_reason(registry: CollectorRegistry) -> None:
    metrics = WorkerMetrics(registry)
    metrics.loaded(ticket=TICKET, resident_bytes=1, seconds=0.1)
    metrics.dropped("expired", 3, ticket=TICKET)
    for i in range(100):
        metrics.dropped(f"reason {i}", 1, ticket="ef" * 32)  # asked for, and never here
    assert value(registry, "tombola_dropped_total", ticket=TICKET[:12], reason="expired") == 3
    assert value(registry, "tombola_dropped_total", ticket="other", reason="other") == 85


def test_tokenizing_is_told_as_a_part_of_running(registry: CollectorRegistry) -> None:
    metrics = WorkerMetrics(registry)
    metrics.batch(ticket=TICKET, texts=8, queue_s=[], run_s=0.004, tokenize_s=0.001)
    assert value(registry, "tombola_batch_tokenize_seconds_total", ticket=TICKET[:12]) == 0.001
    assert value(registry, "tombola_batch_run_seconds_sum", ticket=TICKET[:12]) == 0.004


def test_asks_are_counted_by_whether_their_ticket_was_in_memory(registry: CollectorRegistry) -> None:
    metrics = WorkerMetrics(registry)
    for is_held in (True, True, False):
        metrics.looked_up(is_held)
    assert value(registry, "tombola_cache_lookups_total", result="hit") == 2
    assert value(registry, "tombola_cache_lookups_total", result="miss") == 1


def test_predictions_are_shown_with_their_error_as_long_as_the_ticket_is_here(registry: CollectorRegistry) -> None:
    metrics = WorkerMetrics(registry)
    metrics.loaded(ticket=TICKET, resident_bytes=1000, seconds=0.1)
    metrics.costs(TICKET, Cost(2.0, 1.0, 0.5, 0.25))
    metrics.batch(ticket=TICKET, texts=1, queue_s=[], run_s=0.004, ratio=1.2)
    metrics.batch(ticket=TICKET, texts=1, queue_s=[], run_s=0.006)
    name = TICKET[:12]
    parts = [
        value(registry, "tombola_ticket_cost_seconds", ticket=name, part=part) for part in ("fixed", "row", "token")
    ]
    assert parts == [0.002, 0.001, 0.0005]
    assert value(registry, "tombola_ticket_cost_spread", ticket=name) == 0.25
    assert value(registry, "tombola_batch_prediction_ratio_sum", ticket=name) == 1.2
    assert value(registry, "tombola_batch_prediction_ratio_count", ticket=name) == 1
    assert value(registry, "tombola_worker_busy_seconds_total") == 0.01
    metrics.unloaded(ticket=TICKET)
    assert value(registry, "tombola_ticket_cost_seconds", ticket=name, part="row") is None
    assert value(registry, "tombola_ticket_cost_spread", ticket=name) is None


def test_tickets_that_share_a_label_come_and_go(registry: CollectorRegistry) -> None:
    metrics = WorkerMetrics(registry)
    tickets = [f"{i:064x}"[::-1] for i in range(203)]
    for ticket in tickets:
        metrics.loaded(ticket=ticket, resident_bytes=10, seconds=0.1)
        metrics.costs(ticket, Cost(1.0, 1.0, 1.0))
    assert value(registry, "tombola_ticket_resident_bytes", ticket="other") == 30
    assert value(registry, "tombola_ticket_cost_spread", ticket="other") is None
    for ticket in tickets:
        metrics.unloaded(ticket=ticket)
    assert value(registry, "tombola_ticket_resident_bytes", ticket="other") is None
    assert value(registry, "tombola_tickets_loaded") == 0
