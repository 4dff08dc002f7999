"""From what a process dumps of its metrics to the few series that the dashboard needs. Pure.

Owns which metrics those are and how their samples are keyed: by name and the labels named here, in this order, so
that a label that a metric gets later is summed over and not a surprise. Buckets are taken apart, because what is
counted in one bucket alone can be added up over processes whose buckets differ. The dump's form is
`server.exposition.dump`'s; what is made of the series is `server.dashboard.history`'s.
"""

from collections.abc import Container
from typing import Literal

import msgspec

from routing.lease import LeaseKind

Key = tuple[str, ...]
"""A series: the metric's name, then its labels' values; of a histogram also the bucket's bound as text."""

REQUESTS = "tombola_requests_total"
SECONDS = "tombola_request_seconds"
QUEUE = "tombola_request_queue_seconds"
RUN = "tombola_request_run_seconds"
RATIO = "tombola_prediction_ratio"
SLA = "tombola_sla_total"
PARTS = "tombola_request_part_seconds_total"
STEPS = "tombola_route_steps_total"
ANSWERS = "tombola_answers_total"
TICKET_SECONDS = "tombola_ticket_request_seconds"
TICKET_SLA = "tombola_ticket_sla_total"
LIMITED = "tombola_limit_refusals_total"
REGISTRATIONS = "tombola_registrations_total"
UNSEEN = "tombola_requests_unseen_total"
IN_FLIGHT = "tombola_requests_in_flight"
WORKERS = "tombola_workers"
TABLE_VERSION = "tombola_table_version"
TABLE_USED = "tombola_table_used_timestamp_seconds"
STALE = "tombola_table_stale_seconds"
BUSY = "tombola_worker_busy_seconds_total"
TEXTS = "tombola_texts_total"
LOADS = "tombola_ticket_load_seconds"
UNLOADS = "tombola_ticket_unloads_total"
QUEUE_TEXTS = "tombola_queue_texts"
WAIT = "tombola_queue_wait_seconds"
LOADED = "tombola_tickets_loaded"
RESIDENT = "tombola_resident_bytes"
TICKET_RESIDENT = "tombola_ticket_resident_bytes"
QUARANTINED = "tombola_tickets_quarantined"
DRIFT = "tombola_ticket_drift"
STARTED = "tombola_process_start_time_seconds"
MEMORY = "tombola_process_resident_memory_bytes"

_WHO = ("tenant", "domain", "tier")
COUNTERS: dict[str, tuple[str, ...]] = {
    REQUESTS: (*_WHO, "outcome"), SLA: (*_WHO, "result"), PARTS: (*_WHO, "part"), STEPS: (*_WHO, "step", "reason"),
    ANSWERS: (*_WHO, "ticket"), TICKET_SLA: ("ticket", "result"), LIMITED: ("tenant", "limit"),
    REGISTRATIONS: ("tenant", "outcome"), UNSEEN: (), BUSY: (), TEXTS: (), UNLOADS: (),
}  # fmt: skip
HISTOGRAMS: dict[str, tuple[str, ...]] = {
    SECONDS: _WHO, TICKET_SECONDS: ("ticket",), RUN: ("ticket",), RATIO: ("ticket",),
}  # fmt: skip
"""Of these every bucket is kept."""
SUMMARIES: dict[str, tuple[str, ...]] = {QUEUE: _WHO, LOADS: ()}
"""Histograms of which only the sum and the count are kept."""
GAUGES: dict[str, tuple[str, ...]] = {
    IN_FLIGHT: (), WORKERS: (), TABLE_VERSION: (), TABLE_USED: (), STALE: (), QUEUE_TEXTS: (), WAIT: (), LOADED: (),
    RESIDENT: (), TICKET_RESIDENT: ("ticket",), QUARANTINED: (), DRIFT: ("ticket", "kind"), STARTED: (), MEMORY: (),
}  # fmt: skip
BY_PROCESS = frozenset({REQUESTS, BUSY, TEXTS, LOADS, UNLOADS})
"""Of these it is also kept how much each process alone has counted."""

SUM, COUNT = "sum", "count"
"""The last part of the key of a `SUMMARIES` series."""

_How = Literal["counter", "histogram", "summary", "gauge"]
_WANTED: dict[str, tuple[_How, tuple[str, ...]]] = {
    **{name: ("counter", labels) for name, labels in COUNTERS.items()},
    **{name: ("histogram", labels) for name, labels in HISTOGRAMS.items()},
    **{name: ("summary", labels) for name, labels in SUMMARIES.items()},
    **{name: ("gauge", labels) for name, labels in GAUGES.items()},
}


class _Family(msgspec.Struct, frozen=True, array_like=True):
    name: str
    kind: str
    help: msgspec.Raw
    samples: msgspec.Raw
    """Decoded only where it is wanted: most of a dump is not."""


_families = msgspec.msgpack.Decoder(list[_Family])
_samples = msgspec.msgpack.Decoder(list[tuple[str, msgspec.Raw, float]])
_labels = msgspec.msgpack.Decoder(dict[str, str])
_Samples = list[tuple[str, msgspec.Raw, float]]
_MAX_REMEMBERED = 1 << 16


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one process said of itself at one moment; nothing where it did not answer."""

    kind: LeaseKind
    name: str
    is_up: bool
    counters: dict[Key, float] = {}
    """Since the process started: counters, buckets each for itself, sums and counts."""
    gauges: dict[Key, float] = {}
    bounds: dict[str, frozenset[str]] = {}
    """Of each histogram the bounds of all its buckets, as text."""

    @property
    def started_at(self) -> float | None:
        """When the process started, in seconds since 1970."""
        return self.gauges.get((STARTED,))


class _Metric:
    """What is remembered of a metric: the keys of labels as they were packed, and of a histogram its bounds."""

    def __init__(self, name: str) -> None:
        self.how, self._labels = _WANTED[name]
        self._name = name
        self._keys: dict[bytes, Key] = {}
        self.bounds: frozenset[str] = frozenset()

    def take(self, into: dict[Key, float], samples: _Samples) -> None:
        """Add up the samples of one process."""
        if self.how == "histogram":
            self._take_buckets(into, samples)
            return
        for sample, raw, value in samples:
            key = self._keys.get(bytes(raw)) or self._learn(raw)
            if self.how == "summary":
                if sample.endswith("_bucket"):
                    continue
                key = (*key, SUM if sample.endswith("_sum") else COUNT)
            into[key] = into.get(key, 0.0) + value

    def _take_buckets(self, into: dict[Key, float], samples: _Samples) -> None:
        """A child's buckets come in ascending order, each counting all below it too, then its count and sum: what is
        in a bucket alone is the difference."""
        keys, below = self._keys, 0.0
        for _, raw, value in samples:
            key = keys.get(bytes(raw)) or self._learn(raw)
            if not key[-1]:  # it has no bound: a count or a sum
                below = 0.0
            elif value > below:
                into[key] = into.get(key, 0.0) + value - below
                below = value

    def _learn(self, raw: msgspec.Raw) -> Key:
        found = _labels.decode(raw)
        key = (self._name, *[found.get(label, "") for label in self._labels])
        if self.how == "histogram":
            bound = found.get("le", "")
            key = (*key, bound)
            self.bounds |= {bound} - {""}
        if len(self._keys) >= _MAX_REMEMBERED:
            self._keys.clear()
        self._keys[bytes(raw)] = key
        return key


class Reader:
    """Reduces dumps. It remembers the labels it has read, since every dump has nearly the same ones."""

    def __init__(self) -> None:
        self._metrics = {name: _Metric(name) for name in _WANTED}

    def read(self, name: str, dumped: bytes, workers: Container[str] = ()) -> Reading:
        """One process's dump, reduced; ``b""`` and nonsense are a process that does not answer.

        What a process is shows in what it measures; ``workers`` are the names of those that have never answered.
        """
        counters: dict[Key, float] = {}
        gauges: dict[Key, float] = {}
        bounds: dict[str, frozenset[str]] = {}
        try:
            for family in _families.decode(dumped):
                metric = self._metrics.get(family.name)
                if metric is not None:
                    metric.take(gauges if metric.how == "gauge" else counters, _samples.decode(family.samples))
                    if metric.bounds:
                        bounds[family.name] = metric.bounds
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Reading(kind="worker" if name in workers else "gateway", name=name, is_up=False)
        kind: LeaseKind = "gateway" if (IN_FLIGHT,) in gauges else "worker"
        return Reading(kind=kind, name=name, is_up=True, counters=counters, gauges=gauges, bounds=bounds)
