"""What every process measures: all metric names, label sets and buckets.

Callers only say what happened (`record`, `batch`, ...). Label sets are bounded: a name that
the table does not vouch for, or that comes after the bound is reached, is counted as "other".
Each process keeps its own registry; a gateway's operations port gathers them with `dump` and
`merge` (server.exposition). Times are in seconds, sizes in bytes. Logs: server.logs; the
functions of both can be had from here.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from server.errors import BY_CODE
from server.exposition import dump, merge
from server.logs import configure_logging

__all__ = ["GatewayMetrics", "WorkerMetrics", "configure_logging", "dump", "merge"]

OTHER = "other"
OK = "ok"
TICKET_DIGITS = 12
MAX_TICKETS = 200
MAX_SERIES = 1000
"""At most so many combinations of tenant, domain and tier are told apart."""

SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5,
    1.0, 2.5, 10.0,
)  # fmt: skip
"""Buckets around the promises that tiers make: 1 to 1000 ms."""
RUN_SECONDS = (0.0001, 0.00025, *SECONDS)
LOAD_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

_VOUCHED: dict[str, int] = {
    "unauthorized": 0, "not_found": 0, "method_not_allowed": 0,
    "bad_request": 1, "too_large": 1, "unsupported": 1, "unknown_domain": 1,
    "unknown_tier": 2,
}  # fmt: skip
"""How many of (tenant, domain, tier) the table has vouched for when a request ends so; otherwise all.
The rest is what the caller wrote, and a caller must not be able to use up the labels."""


class Names:
    """A bounded set of label values: the first ``bound`` keep their name, later ones are "other"."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._known: set[str] = set()

    def resolve(self, name: str, *, vouched: bool = True) -> str:
        """The label value that stands for ``name``. Only a vouched name may take a free place."""
        if name in self._known:
            return name
        if not vouched or not name or len(self._known) >= self._bound:
            return OTHER
        self._known.add(name)
        return name


class _Bound:
    """The children of one (tenant, domain, tier, outcome), looked up once."""

    __slots__ = ("met", "missed", "queue", "requests", "total")

    def __init__(self, requests: Counter, total: Histogram, queue: Histogram, met: Counter, missed: Counter) -> None:
        self.requests, self.total, self.queue, self.met, self.missed = requests, total, queue, met, missed


class GatewayMetrics:
    """A gateway's metrics. One instance per registry."""

    def __init__(self, registry: CollectorRegistry, max_tenants: int = 50) -> None:
        who = ("tenant", "domain", "tier")
        self._tenants, self._domains, self._tiers = Names(max_tenants), Names(max_tenants), Names(20)
        self._tickets = Names(MAX_TICKETS)
        self._series: set[tuple[str, str, str]] = set()
        self._cache: dict[tuple[str, str, str, str], _Bound] = {}
        self._run_cache: dict[str, Histogram] = {}
        self._requests = Counter(
            "tombola_requests",
            "Requests answered, by outcome: ok or an error code.",
            (*who, "outcome"),
            registry=registry,
        )
        self._total = Histogram(
            "tombola_request_seconds", "From the request's arrival at the gateway to its answer.", who,
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._queue = Histogram(
            "tombola_request_queue_seconds", "From a request's arrival at its worker to the start of its batch.", who,
            buckets=RUN_SECONDS, registry=registry,
        )  # fmt: skip
        self._run = Histogram(
            "tombola_request_run_seconds", "Tokenizing and running the batch that a request was part of.", ("ticket",),
            buckets=RUN_SECONDS, registry=registry,
        )  # fmt: skip
        self._sla = Counter(
            "tombola_sla",
            "Requests that met or missed their tier's deadline.",
            (*who, "result"),
            registry=registry,
        )
        self.in_flight = Gauge("tombola_requests_in_flight", "Requests accepted, not answered yet.", registry=registry)
        self.workers = Gauge("tombola_workers", "Workers that this gateway can reach.", registry=registry)
        self.table_version = Gauge("tombola_table_version", "Version of the routing table in use.", registry=registry)
        self.table_stale_seconds = Gauge(
            "tombola_table_stale_seconds",
            "Time since the control plane last confirmed the table.",
            registry=registry,
        )
        self.retries = Counter("tombola_retries", "Requests sent to a second worker.", registry=registry)
        ProcessCollector(namespace="tombola", registry=registry)

    def record(
        self, *, tenant: str, domain: str, tier: str, outcome: str, total_s: float, queue_s: float | None = None,
        run_s: float | None = None, met_sla: bool | None = None, ticket: str | None = None,
    ) -> None:  # fmt: skip
        """Account for one request that has ended: ``outcome`` is "ok" or a code of server.errors."""
        bound = self._cache.get((tenant, domain, tier, outcome)) or self._bind(tenant, domain, tier, outcome)
        bound.requests.inc()
        bound.total.observe(total_s)
        if queue_s is not None:
            bound.queue.observe(queue_s)
        if met_sla is not None:
            (bound.met if met_sla else bound.missed).inc()
        if run_s is not None and ticket is not None:
            (self._run_cache.get(ticket) or self._bind_run(ticket)).observe(run_s)

    def _bind(self, tenant: str, domain: str, tier: str, outcome: str) -> _Bound:
        vouched = _VOUCHED.get(outcome, 3)
        who = (
            self._tenants.resolve(tenant, vouched=vouched > 0),
            self._domains.resolve(domain, vouched=vouched > 1),
            self._tiers.resolve(tier, vouched=vouched > 2),
        )
        if who not in self._series:
            if len(self._series) >= MAX_SERIES:
                who = (OTHER, OTHER, OTHER)
            self._series.add(who)
        result = outcome if outcome == OK or outcome in BY_CODE else OTHER
        key = (*who, result)
        # Only resolved names become keys: what callers write does not fill the memory.
        if key not in self._cache:
            self._cache[key] = _Bound(
                self._requests.labels(*key),
                self._total.labels(*who),
                self._queue.labels(*who),
                self._sla.labels(*who, "met"),
                self._sla.labels(*who, "missed"),
            )
        return self._cache[key]

    def _bind_run(self, ticket: str) -> Histogram:
        label = self._tickets.resolve(ticket[:TICKET_DIGITS])
        child = self._run.labels(label)
        if label != OTHER:
            self._run_cache[ticket] = child
        return child


class WorkerMetrics:
    """A worker's metrics. One instance per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ticket = ("ticket",)
        self._tickets, self._reasons = Names(MAX_TICKETS), Names(16)
        self._run_cache: dict[str, tuple[Histogram, Counter]] = {}
        self._batch_run = Histogram(
            "tombola_batch_run_seconds",
            "Tokenizing and running one batch.",
            ticket,
            buckets=RUN_SECONDS,
            registry=registry,
        )
        self._texts = Counter("tombola_texts", "Texts (rows) answered.", ticket, registry=registry)
        self._batch_texts = Histogram(
            "tombola_batch_texts", "Texts (rows) in one batch.", buckets=TEXTS, registry=registry
        )
        self._batch_queue = Histogram(
            "tombola_batch_queue_seconds", "From an ask's arrival to the start of its batch.",
            buckets=RUN_SECONDS, registry=registry,
        )  # fmt: skip
        self._dropped = Counter(
            "tombola_dropped", "Asks that left the queue without running, by reason.", ("reason",), registry=registry
        )
        self._tickets_loaded = Gauge("tombola_tickets_loaded", "Tickets in memory.", registry=registry)
        self._resident = Gauge(
            "tombola_ticket_resident_bytes", "Memory that a loaded ticket takes.", ticket, registry=registry
        )
        self._loads = Histogram(
            "tombola_ticket_load_seconds",
            "Reading, verifying and opening a ticket.",
            buckets=LOAD_SECONDS,
            registry=registry,
        )
        self._load_failures = Counter(
            "tombola_ticket_load_failures", "Tickets that could not be loaded.", registry=registry
        )
        self._unloads = Counter("tombola_ticket_unloads", "Tickets put out of memory.", registry=registry)
        self._resident_now: dict[str, int] = {}
        self.queue_texts = Gauge("tombola_queue_texts", "Texts (rows) waiting for a batch.", registry=registry)
        self.wait_seconds = Gauge(
            "tombola_queue_wait_seconds", "Predicted wait of work that would arrive now.", registry=registry
        )
        ProcessCollector(namespace="tombola", registry=registry)

    def batch(self, *, ticket: str, texts: int, queue_s: Sequence[float], run_s: float) -> None:
        """Account for one batch; ``queue_s`` has one wait per ask in it."""
        run, count = self._run_cache.get(ticket) or self._bind(ticket)
        run.observe(run_s)
        count.inc(texts)
        self._batch_texts.observe(texts)
        for seconds in queue_s:
            self._batch_queue.observe(seconds)

    def loaded(self, *, ticket: str, resident_bytes: int, seconds: float) -> None:
        """A ticket has come into memory."""
        self._resident_now[ticket] = resident_bytes
        self._loads.observe(seconds)
        self._show_resident(ticket)

    def load_failed(self) -> None:
        """A ticket could not be loaded."""
        self._load_failures.inc()

    def unloaded(self, *, ticket: str) -> None:
        """A ticket has gone out of memory."""
        if self._resident_now.pop(ticket, None) is not None:
            self._unloads.inc()
            self._show_resident(ticket)

    def dropped(self, reason: str, count: int) -> None:
        """``count`` asks left the queue without running."""
        self._dropped.labels(self._reasons.resolve(reason)).inc(count)

    def _show_resident(self, ticket: str) -> None:
        self._tickets_loaded.set(len(self._resident_now))
        label = self._tickets.resolve(ticket[:TICKET_DIGITS])
        sizes = [
            size for held, size in self._resident_now.items() if self._tickets.resolve(held[:TICKET_DIGITS]) == label
        ]
        if sizes:
            self._resident.labels(label).set(sum(sizes))
        else:
            self._resident.remove(label)

    def _label(self, ticket: str) -> str:
        return self._tickets.resolve(ticket[:TICKET_DIGITS])

    def _bind(self, ticket: str) -> tuple[Histogram, Counter]:
        label = self._label(ticket)
        children = (self._batch_run.labels(label), self._texts.labels(label))
        if label != OTHER:
            self._run_cache[ticket] = children
        return children
