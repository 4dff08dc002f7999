"""Tallies: plain numbers that show as what prometheus_client would have counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from server.tally import Tally

BOUNDS = (0.1, 0.5, 1.0, 2.5)


def lines(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@given(st.lists(st.one_of(st.floats(-1.0, 4.0), st.sampled_from(BOUNDS)), max_size=30))
def test_a_histogram_reads_as_the_librarys_own(values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = Tally(ours).histogram("x_seconds", "How long.", ("who",), bounds=BOUNDS)
    library = Histogram("x_seconds", "How long.", ("who",), buckets=BOUNDS, registry=theirs)
    mine, its = tally.of("a"), library.labels("a")
    for value in values:
        mine.observe(value)
        its.observe(value)
    assert lines(ours) == lines(theirs)


def test_a_counter_reads_as_the_librarys_own() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counter = Tally(ours).counter("x", "How many.", ("who", "how"))
    library = Counter("x", "How many.", ("who", "how"), registry=theirs)
    for who, how in (("a", "b"), ("a", "c"), ("a", "b")):
        counter.of(who, how).value += 2.0
        library.labels(who, how).inc(2.0)
    assert lines(ours) == lines(theirs)


def test_a_reading_is_asked_for_at_every_look() -> None:
    registry, now = CollectorRegistry(), {"a": 1.0}
    tally = Tally(registry)
    tally.reading("x_now", "Now.", ("who",), lambda: [((who,), value) for who, value in now.items()])
    tally.reading("x_moves", "Moves.", (), lambda: [((), 7)], kind="counter")
    assert registry.get_sample_value("x_now", {"who": "a"}) == 1.0
    now["a"], now["b"] = 2.0, 3.0
    assert registry.get_sample_value("x_now", {"who": "a"}) == 2.0
    assert registry.get_sample_value("x_now", {"who": "b"}) == 3.0
    assert registry.get_sample_value("x_moves_total") == 7


def test_the_same_labels_are_the_same_number() -> None:
    counter = Tally(CollectorRegistry()).counter("x", "How many.", ("who",))
    assert counter.of("a") is counter.of("a")
    assert counter.of("a") is not counter.of("b")


def test_the_last_example_of_a_bucket_stands_with_that_bucket() -> None:
    registry = CollectorRegistry()
    numbers = Tally(registry).histogram("x", "How long.", bounds=BOUNDS).of()
    for value, trace in ((0.2, "old"), (0.3, "new"), (9.0, "slow")):
        numbers.observe(value)
        numbers.exemplify(value, {"trace_id": trace}, 5.0)
    (family,) = registry.collect()
    shown = {s.labels["le"]: s.exemplar.labels["trace_id"] for s in family.samples if s.exemplar is not None}
    assert shown == {"0.5": "new", "+Inf": "slow"}


def test_a_label_too_many_is_a_mistake_that_shows() -> None:
    registry = CollectorRegistry()
    Tally(registry).counter("x", "How many.", ("who",)).of("a", "b")
    with pytest.raises(ValueError, match="zip"):
        list(registry.collect())
