"""What a gateway measures of requests: rates, errors, durations, where the time went, promises, steps, predictions.

Callers only say what happened (`record`, `predicted`, ...), at 1.5 microseconds a request (`bench.telemetry`). Label
sets are bounded (`server.labels`): a name that the table does not vouch for is counted as "other". What it measures of
the control plane is `server.control_metrics`'s, a worker's metrics are `server.worker_metrics`'s. Each process keeps
its own registry; a gateway's operations port gathers them with `dump` and `merge` (server.exposition). Times are in
seconds, sizes in bytes. Logs: server.logs; the functions of both can be had from here.
"""

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from routing.table import Reason, Table
from server.control_metrics import ControlMetrics
from server.errors import BY_CODE
from server.exposition import dump, merge
from server.labels import (
    MAX_SERIES,
    MAX_STEPS,
    MAX_TENANTS,
    MAX_TICKETS,
    OTHER,
    RATIOS,
    RUN_SECONDS,
    SECONDS,
    TICKET_DIGITS,
    Names,
    Rows,
)
from server.logs import configure_logging
from server.tally import Buckets, Cell, Labels, Tally

__all__ = ["GatewayMetrics", "configure_logging", "dump", "merge"]

OK = "ok"
CANCELLED = "cancelled"
"""The outcome of a request whose client has gone."""
OBJECTIVE = 0.99
"""The part of a tier's requests that must meet its deadline, until tiers have their own."""
PARTS = ("admission", "hop", "queue", "tokenize", "run")
"""Where an answered request's time went: parsing and routing; between the processes, and in whatever was tried before;
waiting in the worker; turning text into tokens; the graph."""

_WHO = ("tenant", "domain", "tier")
_VOUCHED: dict[str, int] = {
    "unauthorized": 0, "not_found": 0, "method_not_allowed": 0,
    "bad_request": 1, "too_large": 1, "unsupported": 1, "unknown_domain": 1,
    "unknown_tier": 2,
}  # fmt: skip
"""How many of (tenant, domain, tier) the table has vouched for when a request ends so; otherwise all.
The rest is what the caller wrote, and a caller must not be able to use up the labels."""

_OUTCOMES = frozenset({OK, CANCELLED, *BY_CODE})


class _Bound:
    """The numbers of one (tenant, domain, tier, outcome), looked up once."""

    __slots__ = ("answers", "met", "missed", "parts", "queue", "requests", "steps", "total", "who")

    def __init__(self, who: tuple[str, ...], requests: Cell, total: Buckets, queue: Buckets) -> None:
        self.who, self.requests, self.total, self.queue = who, requests, total, queue
        self.met, self.missed = Cell(), Cell()
        self.parts: tuple[Cell, ...] | None = None
        self.steps: dict[tuple[int, str], Cell] = {}
        self.answers: dict[str, Cell] = {}


class _Ticket:
    """The numbers of one ticket."""

    __slots__ = ("met", "missed", "run", "total")

    def __init__(self, total: Buckets, run: Buckets, met: Cell, missed: Cell) -> None:
        self.total, self.run, self.met, self.missed = total, run, met, missed


class GatewayMetrics:
    """A gateway's metrics. One instance per registry, all of it on the loop's thread."""

    def __init__(self, registry: CollectorRegistry, max_tenants: int = MAX_TENANTS) -> None:
        self._tenants, self._domains, self._tiers = Names(max_tenants), Names(max_tenants), Names(20)
        self._tickets = Names(MAX_TICKETS)
        self._series, self._answer_rows, self._step_rows = Rows(MAX_SERIES), Rows(2 * MAX_SERIES), Rows(2 * MAX_SERIES)
        self._cache: dict[Labels, _Bound] = {}
        self._ticket_cache: dict[str, _Ticket] = {}
        self._predicted_cache: dict[str, tuple[Buckets, Cell]] = {}
        self._table: Table | None = None
        self._tally = tally = Tally(registry)
        self.control = ControlMetrics(registry, tally, self._tenants, self._domains)
        """What it measures of the control plane."""
        self.unseen = Counter(
            "tombola_requests_unseen", "Requests refused before they were looked at: a surge.", registry=registry
        )
        self.in_flight = Gauge("tombola_requests_in_flight", "Requests accepted, not answered yet.", registry=registry)
        self.in_flight_limit = Gauge(
            "tombola_requests_in_flight_limit", "Requests that may be in flight; one more is refused.",
            registry=registry,
        )  # fmt: skip
        self.workers = Gauge("tombola_workers", "Workers that this gateway can reach.", registry=registry)
        self.retries = Counter("tombola_retries", "Requests sent to a second worker.", registry=registry)
        self._count_requests(tally)
        self._count_tickets(tally)
        self._count_routes(tally)
        ProcessCollector(namespace="tombola", registry=registry)

    def _count_requests(self, tally: Tally) -> None:
        self._requests = tally.counter(
            "tombola_requests", "Requests ended, by outcome: ok, cancelled (the client has gone) or an error code.",
            (*_WHO, "outcome"),
        )  # fmt: skip
        self._total = tally.histogram(
            "tombola_request_seconds", "From the request's arrival at the gateway to its answer.", _WHO, bounds=SECONDS
        )
        self._queue = tally.histogram(
            "tombola_request_queue_seconds", "From a request's arrival at its worker to the start of its batch.", _WHO,
            bounds=RUN_SECONDS,
        )  # fmt: skip
        self._parts = tally.counter(
            "tombola_request_part_seconds",
            "Seconds that answered requests spent in admission, hop, queue, tokenize and run; together all they took.",
            (*_WHO, "part"),
        )
        self._sla = tally.counter(
            "tombola_sla", "Requests that met or missed their tier's deadline.", (*_WHO, "result")
        )
        tally.reading(
            "tombola_sla_deadline_seconds", "The promise of a tier that has been asked for.", _WHO, self._deadlines
        )
        tally.reading(
            "tombola_sla_objective_ratio", "The part of a tier's requests that must meet its deadline.", (),
            lambda: [((), OBJECTIVE)],
        )  # fmt: skip

    def _count_tickets(self, tally: Tally) -> None:
        ticket = ("ticket",)
        self._run = tally.histogram(
            "tombola_request_run_seconds", "Tokenizing and running the batch that a request was part of.", ticket,
            bounds=RUN_SECONDS,
        )  # fmt: skip
        self._ticket_total = tally.histogram(
            "tombola_ticket_request_seconds", "From a request's arrival to its answer, by the ticket that answered.",
            ticket, bounds=SECONDS,
        )  # fmt: skip
        self._ticket_sla = tally.counter(
            "tombola_ticket_sla", "Answers that met or missed their deadline, by the ticket that answered.",
            ("ticket", "result"),
        )  # fmt: skip
        self._ratio = tally.histogram(
            "tombola_prediction_ratio", "From sending to the answer, as a multiple of what routing had predicted.",
            ticket, bounds=RATIOS,
        )  # fmt: skip
        self._error = tally.counter(
            "tombola_prediction_error_seconds",
            "Sum of |actual - predicted| of the answers counted in tombola_prediction_ratio.", ticket,
        )  # fmt: skip

    def _count_routes(self, tally: Tally) -> None:
        self._steps = tally.counter(
            "tombola_route_steps",
            "Answers, by how far down its family the ticket stands (0: the best that may), and why it was taken.",
            (*_WHO, "step", "reason"),
        )
        self._answers = tally.counter("tombola_answers", "Answers, by the ticket that gave them.", (*_WHO, "ticket"))
        self._cascade_rows = tally.counter(
            "tombola_cascade_rows", "Rows of cascades, by the ticket whose answer stood.", ("tenant", "domain", "by")
        )
        self.ladder: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)
        """Moves up, moves down, and flows that are held below their best ticket now."""
        tally.reading(
            "tombola_ladder_moves", "Steps that load has brought a flow of requests down, or let it up again.",
            ("direction",), lambda: zip((("up",), ("down",)), self.ladder()[:2], strict=True), kind="counter",
        )  # fmt: skip
        tally.reading(
            "tombola_ladder_flows", "Flows of requests that load holds below their best ticket, or did just now.", (),
            lambda: [((), self.ladder()[2])],
        )  # fmt: skip

    def record(
        self, *, tenant: str, domain: str, tier: str, outcome: str, total_s: float, queue_s: float | None = None,
        run_s: float | None = None, met_sla: bool | None = None, ticket: str | None = None, step: int | None = None,
        reason: Reason = "best", admission_s: float | None = None, tokenize_s: float = 0.0,
        trace_id: str | None = None,
    ) -> None:  # fmt: skip
        """Account for one request that has ended: ``outcome`` is "ok", "cancelled" or a code of server.errors.

        ``tokenize_s`` is a part of ``run_s``; what is left of ``total_s`` is the hop. ``trace_id``: of a sampled one.
        """
        bound = self._cache.get((tenant, domain, tier, outcome)) or self._bind(tenant, domain, tier, outcome)
        bound.requests.value += 1.0
        bound.total.observe(total_s)
        if trace_id is not None:
            bound.total.exemplify(total_s, {"trace_id": trace_id}, time.time())
        if queue_s is not None:
            bound.queue.observe(queue_s)
        if met_sla is not None:
            (bound.met if met_sla else bound.missed).value += 1.0
        if ticket is None or run_s is None:
            return
        mine = self._ticket_cache.get(ticket) or self._bind_ticket(ticket)
        mine.run.observe(run_s)
        mine.total.observe(total_s)
        (mine.met if met_sla else mine.missed).value += 1.0
        (bound.answers.get(ticket) or self._bind_answer(bound, ticket)).value += 1.0
        if step is not None:
            (bound.steps.get((step, reason)) or self._bind_step(bound, step, reason)).value += 1.0
        if admission_s is not None and queue_s is not None:
            admission, hop, queue, tokenize, run = bound.parts or self._bind_parts(bound)
            admission.value += admission_s
            hop.value += max(0.0, total_s - admission_s - queue_s - run_s)
            queue.value += queue_s
            tokenize.value += tokenize_s
            run.value += run_s - tokenize_s

    def predicted(self, ticket: str, predicted_ms: float, actual_ms: float) -> None:
        """An answer came ``actual_ms`` after it was asked for; routing had predicted ``predicted_ms``."""
        if predicted_ms > 0:
            ratio, error = self._predicted_cache.get(ticket) or self._bind_predicted(ticket)
            ratio.observe(actual_ms / predicted_ms)
            error.value += abs(actual_ms - predicted_ms) / 1000

    def cascaded(self, *, tenant: str, domain: str, small: int, large: int, unsure: int) -> None:
        """A cascade answered so many rows by its small ticket, by its large one, and by the small one unsure."""
        who = (self._tenants.resolve(tenant), self._domains.resolve(domain))
        if (*who, "small") not in self._cascade_rows.children and len(self._cascade_rows.children) >= 3 * MAX_SERIES:
            who = (OTHER, OTHER)
        for by, rows in (("small", small), ("large", large), ("small_unsure", unsure)):
            self._cascade_rows.of(*who, by).value += rows

    def use_table(self, table: Table) -> None:
        """This is the table in use from now on."""
        self._table = table
        self.control.use_table(table.version)

    def _bind(self, tenant: str, domain: str, tier: str, outcome: str) -> _Bound:
        vouched = _VOUCHED.get(outcome, 3)
        who = self._series.resolve(
            (
                self._tenants.resolve(tenant, vouched=vouched > 0),
                self._domains.resolve(domain, vouched=vouched > 1),
                self._tiers.resolve(tier, vouched=vouched > 2),
            ),
            (OTHER, OTHER, OTHER),
        )
        key = (*who, outcome if outcome in _OUTCOMES else OTHER)
        # Only resolved names become keys: what callers write does not fill the memory.
        bound = self._cache.get(key)
        if bound is None:
            bound = _Bound(who, self._requests.of(*key), self._total.of(*who), self._queue.of(*who))
            bound.met, bound.missed = self._sla.of(*who, "met"), self._sla.of(*who, "missed")
            self._cache[key] = bound
        return bound

    def _bind_parts(self, bound: _Bound) -> tuple[Cell, ...]:
        bound.parts = tuple(self._parts.of(*bound.who, part) for part in PARTS)
        return bound.parts

    def _bind_step(self, bound: _Bound, step: int, reason: str) -> Cell:
        shown = str(step) if step < MAX_STEPS else f"{MAX_STEPS}+"
        row = self._step_rows.resolve((*bound.who, shown, reason), (OTHER, OTHER, OTHER, shown, reason))
        bound.steps[step, reason] = cell = self._steps.of(*row)
        return cell

    def _bind_answer(self, bound: _Bound, ticket: str) -> Cell:
        label = self._tickets.resolve(ticket[:TICKET_DIGITS])
        row = self._answer_rows.resolve((*bound.who, label), (OTHER, OTHER, OTHER, OTHER))
        cell = self._answers.of(*row)
        if OTHER not in row:
            bound.answers[ticket] = cell
        return cell

    def _bind_ticket(self, ticket: str) -> _Ticket:
        label = self._tickets.resolve(ticket[:TICKET_DIGITS])
        met, missed = self._ticket_sla.of(label, "met"), self._ticket_sla.of(label, "missed")
        mine = _Ticket(self._ticket_total.of(label), self._run.of(label), met, missed)
        if label != OTHER:
            self._ticket_cache[ticket] = mine
        return mine

    def _bind_predicted(self, ticket: str) -> tuple[Buckets, Cell]:
        label = self._tickets.resolve(ticket[:TICKET_DIGITS])
        children = (self._ratio.of(label), self._error.of(label))
        if label != OTHER:
            self._predicted_cache[ticket] = children
        return children

    def _deadlines(self) -> Iterator[tuple[Labels, float]]:
        tenants = self._table.tenants if self._table is not None else {}
        for tenant, domain, tier in self._series:
            row = tenants.get(tenant)
            found = row.domains.get(domain) if row is not None else None
            if found is not None and tier in found.tiers:
                yield (tenant, domain, tier), found.tiers[tier].deadline_ms / 1000
