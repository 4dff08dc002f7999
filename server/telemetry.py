"""What every process measures: all metric names, label sets and buckets.

Callers only say what happened (`record`, `batch`, ...). Label sets are bounded: a name that
the table does not vouch for, or that comes after the bound is reached, is counted as "other".
Each process keeps its own registry; a gateway's operations port gathers them with `dump` and
`merge` (server.exposition). Times are in seconds, sizes in bytes. Logs: server.logs; the
functions of both can be had from here.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from server.errors import BY_CODE
from server.exposition import dump, merge
from server.logs import configure_logging

__all__ = ["GatewayMetrics", "configure_logging", "dump", "merge"]

OTHER = "other"
OK = "ok"
CANCELLED = "cancelled"
"""The outcome of a request whose client has gone."""
MAX_STEPS = 8
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
RATIOS = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
LOAD_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

_VOUCHED: dict[str, int] = {
    "unauthorized": 0, "not_found": 0, "method_not_allowed": 0,
    "bad_request": 1, "too_large": 1, "unsupported": 1, "unknown_domain": 1,
    "unknown_tier": 2,
}  # fmt: skip
"""How many of (tenant, domain, tier) the table has vouched for when a request ends so; otherwise all.
The rest is what the caller wrote, and a caller must not be able to use up the labels."""

_OUTCOMES = frozenset({OK, CANCELLED, *BY_CODE})


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

    __slots__ = ("met", "missed", "queue", "requests", "steps", "total", "who")

    def __init__(self, requests: Counter, total: Histogram, queue: Histogram, met: Counter, missed: Counter) -> None:
        self.requests, self.total, self.queue, self.met, self.missed = requests, total, queue, met, missed
        self.who: tuple[str, str, str] = (OTHER, OTHER, OTHER)
        self.steps: dict[int, Counter] = {}


class GatewayMetrics:
    """A gateway's metrics. One instance per registry."""

    def __init__(self, registry: CollectorRegistry, max_tenants: int = 50) -> None:
        who = ("tenant", "domain", "tier")
        self._tenants, self._domains, self._tiers = Names(max_tenants), Names(max_tenants), Names(20)
        self._tickets = Names(MAX_TICKETS)
        self._series: set[tuple[str, str, str]] = set()
        self._cache: dict[tuple[str, str, str, str], _Bound] = {}
        self._run_cache: dict[str, Histogram] = {}
        self._predicted_cache: dict[str, tuple[Histogram, Counter]] = {}
        self._requests = Counter(
            "tombola_requests",
            "Requests ended, by outcome: ok, cancelled (the client has gone) or an error code.",
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
        self.unseen = Counter(
            "tombola_requests_unseen", "Requests refused before they were looked at: a surge.", registry=registry
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
        self._count_routes(registry)
        ProcessCollector(namespace="tombola", registry=registry)

    def _count_routes(self, registry: CollectorRegistry) -> None:
        self._steps = Counter(
            "tombola_route_steps", "Answers, by how far down its family the ticket stands (0: the best that may).",
            ("tenant", "domain", "tier", "step"), registry=registry,
        )  # fmt: skip
        self._ratio = Histogram(
            "tombola_prediction_ratio", "From sending to the answer, as a multiple of what routing had predicted.",
            ("ticket",), buckets=RATIOS, registry=registry,
        )  # fmt: skip
        self._error = Counter(
            "tombola_prediction_error_seconds",
            "Sum of |actual - predicted| of the answers counted in tombola_prediction_ratio.",
            ("ticket",),
            registry=registry,
        )
        self._cascades: dict[tuple[str, str], tuple[Counter, Counter, Counter]] = {}
        self._cascade_rows = Counter(
            "tombola_cascade_rows", "Rows of cascades, by the ticket whose answer stood.", ("tenant", "domain", "by"),
            registry=registry,
        )  # fmt: skip

    def record(
        self, *, tenant: str, domain: str, tier: str, outcome: str, total_s: float, queue_s: float | None = None,
        run_s: float | None = None, met_sla: bool | None = None, ticket: str | None = None, step: int | None = None,
    ) -> None:  # fmt: skip
        """Account for one request that has ended: ``outcome`` is "ok", "cancelled" or a code of server.errors."""
        bound = self._cache.get((tenant, domain, tier, outcome)) or self._bind(tenant, domain, tier, outcome)
        bound.requests.inc()
        bound.total.observe(total_s)
        if queue_s is not None:
            bound.queue.observe(queue_s)
        if met_sla is not None:
            (bound.met if met_sla else bound.missed).inc()
        if run_s is not None and ticket is not None:
            (self._run_cache.get(ticket) or self._bind_run(ticket)).observe(run_s)
        if step is not None:
            (bound.steps.get(step) or self._bind_step(bound, step)).inc()

    def predicted(self, ticket: str, predicted_ms: float, actual_ms: float) -> None:
        """An answer came ``actual_ms`` after it was asked for; routing had predicted ``predicted_ms``."""
        if predicted_ms > 0:
            ratio, error = self._predicted_cache.get(ticket) or self._bind_predicted(ticket)
            ratio.observe(actual_ms / predicted_ms)
            error.inc(abs(actual_ms - predicted_ms) / 1000)

    def cascaded(self, *, tenant: str, domain: str, small: int, large: int, unsure: int) -> None:
        """A cascade answered so many rows by its small ticket, by its large one, and by the small one unsure."""
        children = self._cascades.get((tenant, domain)) or self._bind_cascade(tenant, domain)
        for child, rows in zip(children, (small, large, unsure), strict=True):
            child.inc(rows)

    def _bind_cascade(self, tenant: str, domain: str) -> tuple[Counter, Counter, Counter]:
        who = (self._tenants.resolve(tenant), self._domains.resolve(domain))
        if who not in self._cascades and len(self._cascades) >= MAX_SERIES:
            who = (OTHER, OTHER)
        small, large, unsure = (self._cascade_rows.labels(*who, by) for by in ("small", "large", "small_unsure"))
        self._cascades[who] = small, large, unsure
        return self._cascades[who]

    def _bind_step(self, bound: _Bound, step: int) -> Counter:
        shown = str(step) if step < MAX_STEPS else f"{MAX_STEPS}+"
        bound.steps[step] = child = self._steps.labels(*bound.who, shown)
        return child

    def _bind_predicted(self, ticket: str) -> tuple[Histogram, Counter]:
        label = self._tickets.resolve(ticket[:TICKET_DIGITS])
        children = (self._ratio.labels(label), self._error.labels(label))
        if label != OTHER:
            self._predicted_cache[ticket] = children
        return children

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
        result = outcome if outcome in _OUTCOMES else OTHER
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
            self._cache[key].who = who
        return self._cache[key]

    def _bind_run(self, ticket: str) -> Histogram:
        label = self._tickets.resolve(ticket[:TICKET_DIGITS])
        child = self._run.labels(label)
        if label != OTHER:
            self._run_cache[ticket] = child
        return child
