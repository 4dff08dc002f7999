"""What a worker measures: its batches, its tickets, how busy it is and how far off its predictions are.

Callers only say what happened. Names and buckets are `server.labels`'s. What belongs to batches has one writer, the
run thread, and is counted in plain numbers (`server.tally`); what other threads say too is prometheus_client's, which
takes locks. What tickets answer is `server.answers`'s. Times are in seconds, sizes in bytes.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from routing.cost import Cost
from server.answers import Answers
from server.control_metrics import RedisMetrics
from server.labels import LOAD_SECONDS, MAX_TICKETS, OTHER, RATIOS, RUN_SECONDS, TEXTS, TICKET_DIGITS, Names
from server.tally import Buckets, Cell, Tally

_PARTS = ("fixed", "row", "token")


class _Bound:
    """The numbers of one ticket, looked up once."""

    __slots__ = ("ratio", "run", "texts", "tokenize")

    def __init__(self, run: Buckets, texts: Cell, tokenize: Cell, ratio: Buckets) -> None:
        self.run, self.texts, self.tokenize, self.ratio = run, texts, tokenize, ratio


class WorkerMetrics:
    """A worker's metrics. One instance per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tickets, self._reasons = Names(MAX_TICKETS), Names(16)
        self._cache: dict[str, _Bound] = {}
        self._resident_now: dict[str, int] = {}
        self._resident_of: dict[str, int] = {}  # by label
        self._costs_shown: set[str] = set()
        tally = Tally(registry)
        self.redis = RedisMetrics(tally)
        self.answers = Answers(tally, self._tickets)
        """What tickets answer."""
        self._make_batches(tally)
        self._make_tickets(registry)
        self._make_costs(registry)
        self._make_limits(registry)
        self._dropped = tally.counter(
            "tombola_dropped", "Asks that ended without an answer, by ticket and reason.", ("ticket", "reason")
        )
        lookups = tally.counter(
            "tombola_cache_lookups", "Asks, by whether their ticket was in memory (hit) or had to be loaded (miss).",
            ("result",),
        )  # fmt: skip
        self._hits, self._misses = lookups.of("hit"), lookups.of("miss")
        ProcessCollector(namespace="tombola", registry=registry)

    def _make_batches(self, tally: Tally) -> None:
        ticket = ("ticket",)
        self._run = tally.histogram(
            "tombola_batch_run_seconds", "Tokenizing and running one batch.", ticket, bounds=RUN_SECONDS
        )
        self._tokenize = tally.counter(
            "tombola_batch_tokenize_seconds", "Of running batches, the time that tokenizing took.", ticket
        )
        self._ratio = tally.histogram(
            "tombola_batch_prediction_ratio", "How long batches took, as a multiple of what was predicted.", ticket,
            bounds=RATIOS,
        )  # fmt: skip
        self._texts = tally.counter("tombola_texts", "Texts (rows) answered.", ticket)
        self._busy = tally.counter("tombola_worker_busy_seconds", "Time spent running batches.").of()
        self._batch_texts = tally.histogram("tombola_batch_texts", "Texts (rows) in one batch.", bounds=TEXTS).of()
        self._batch_queue = tally.histogram(
            "tombola_batch_queue_seconds", "From an ask's arrival to the start of its batch.", bounds=RUN_SECONDS
        ).of()

    def _make_limits(self, registry: CollectorRegistry) -> None:
        self.queue_texts = Gauge("tombola_queue_texts", "Texts (rows) waiting for a batch.", registry=registry)
        self.queue_texts_limit = Gauge(
            "tombola_queue_texts_limit", "Texts (rows) that may wait; beyond, asks are refused.", registry=registry
        )
        self.wait_seconds = Gauge(
            "tombola_queue_wait_seconds", "Predicted wait of work that would arrive now.", registry=registry
        )
        self.resident_limit_bytes = Gauge(
            "tombola_resident_limit_bytes", "Budget of memory for loaded tickets.", registry=registry
        )

    def _make_tickets(self, registry: CollectorRegistry) -> None:
        ticket = ("ticket",)
        self._tickets_loaded = Gauge("tombola_tickets_loaded", "Tickets in memory.", registry=registry)
        self.resident_bytes = Gauge(
            "tombola_resident_bytes",
            "Memory that all loaded tickets take; what they share counts once.",
            registry=registry,
        )
        self._resident = Gauge(
            "tombola_ticket_resident_bytes", "Memory that a loaded ticket takes for itself.", ticket, registry=registry
        )
        self._loads = Histogram(
            "tombola_ticket_load_seconds", "Reading, verifying and opening a ticket.",
            buckets=LOAD_SECONDS, registry=registry,
        )  # fmt: skip
        self._load_failures = Counter(
            "tombola_ticket_load_failures", "Tickets that could not be loaded.", registry=registry
        )
        self._unloads = Counter(
            "tombola_ticket_unloads", "Tickets put out of memory, by reason: room, quarantine, asked.", ("reason",),
            registry=registry,
        )  # fmt: skip
        self.quarantined = Gauge(
            "tombola_tickets_quarantined", "Tickets that may not run because they crashed workers.", registry=registry
        )

    def _make_costs(self, registry: CollectorRegistry) -> None:
        self._cost = Gauge(
            "tombola_ticket_cost_seconds",
            "What a batch is predicted to take here: fixed + rows x (row + tokens of the longest x token).",
            ("ticket", "part"),
            registry=registry,
        )
        self._spread = Gauge(
            "tombola_ticket_cost_spread",
            "Average of |measured / predicted - 1| over the ticket's last batches.",
            ("ticket",),
            registry=registry,
        )

    def batch(
        self, *, ticket: str, texts: int, queue_s: Sequence[float], run_s: float, ratio: float | None = None,
        tokenize_s: float = 0.0,
    ) -> None:  # fmt: skip
        """Account for one batch; ``queue_s`` has one wait per ask in it, ``ratio`` is measured over predicted.

        ``tokenize_s`` is a part of ``run_s``. On the run thread, and nowhere else.
        """
        bound = self._cache.get(ticket) or self._bind(ticket)
        bound.run.observe(run_s)
        bound.texts.value += texts
        bound.tokenize.value += tokenize_s
        if ratio is not None:
            bound.ratio.observe(ratio)
        self._busy.value += run_s
        self._batch_texts.observe(texts)
        for seconds in queue_s:
            self._batch_queue.observe(seconds)

    def looked_up(self, is_held: bool) -> None:
        """An ask has come whose ticket is in memory, or not. On the loop."""
        (self._hits if is_held else self._misses).value += 1.0

    def loaded(self, *, ticket: str, resident_bytes: int, seconds: float) -> None:
        """A ticket has come into memory."""
        change = resident_bytes - self._resident_now.get(ticket, 0)
        self._resident_now[ticket] = resident_bytes
        self._loads.observe(seconds)
        self._show_resident(self._label(ticket), change)

    def costs(self, ticket: str, cost: Cost) -> None:
        """What the ticket is predicted by now; sizes in tokens. Tickets beyond the bound are not shown."""
        label = self._label(ticket)
        if label != OTHER:
            for part, ms in zip(_PARTS, (cost.fixed_ms, cost.row_ms, cost.unit_ms), strict=True):
                self._cost.labels(label, part).set(ms / 1000)
            self._spread.labels(label).set(cost.spread)
            self._costs_shown.add(label)

    def load_failed(self) -> None:
        """A ticket could not be loaded."""
        self._load_failures.inc()

    def unloaded(self, *, ticket: str, reason: str = "asked") -> None:
        """A ticket has gone out of memory: for others (``room``), for crashing (``quarantine``), or ``asked`` to."""
        resident_bytes = self._resident_now.pop(ticket, None)
        if resident_bytes is None:
            return
        self._unloads.labels(self._reasons.resolve(reason)).inc()
        label = self._label(ticket)
        self._show_resident(label, -resident_bytes)
        if label in self._costs_shown:
            self._costs_shown.discard(label)
            self._spread.remove(label)
            for part in _PARTS:
                self._cost.remove(label, part)

    def dropped(self, reason: str, count: int, *, ticket: str = "") -> None:
        """``count`` asks for a ticket ended without an answer. On the loop."""
        self._dropped.of(self._known(ticket), self._reasons.resolve(reason)).value += count

    def _show_resident(self, label: str, change: int) -> None:
        self._tickets_loaded.set(len(self._resident_now))
        size = self._resident_of[label] = self._resident_of.get(label, 0) + change
        if size:
            self._resident.labels(label).set(size)
        else:
            del self._resident_of[label]
            self._resident.remove(label)

    def _label(self, ticket: str) -> str:
        return self._tickets.resolve(ticket[:TICKET_DIGITS])

    def _known(self, ticket: str) -> str:
        """The ticket's label where it has one: what is asked for need not exist."""
        return self._tickets.resolve(ticket[:TICKET_DIGITS], vouched=False)

    def _bind(self, ticket: str) -> _Bound:
        label = self._label(ticket)
        bound = _Bound(self._run.of(label), self._texts.of(label), self._tokenize.of(label), self._ratio.of(label))
        if label != OTHER:
            self._cache[ticket] = bound
        return bound
