"""From records to figures: percentiles, goodput within the SLA, errors, the sender's lateness, the verdict. Pure.

Latency is measured from the INTENDED send time; the figure from the actual send stands beside it. Percentiles
cover good answers and timeouts (at the time waited, a lower bound); refusals and broken connections are
errors, not fast answers. Percentiles are nearest-rank: every figure is a latency that happened.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from loadtest.record import INTERRUPTED, Record, Run
from loadtest.schedule import Step

DEFAULT_SLA_MS = 25.0
MAX_LATENESS_MS = 5.0
MAX_LATE_SHARE = 0.01
ALL = "all"


class Sla(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines in milliseconds: ``by_tier`` where a tier is named, else ``default_ms``."""

    default_ms: float = DEFAULT_SLA_MS
    by_tier: dict[str, float] = {}

    def of(self, tier: str) -> float:
        """The deadline of ``tier``."""
        return self.by_tier.get(tier, self.default_ms)


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles in milliseconds; None where nothing was measured."""

    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    p99_9_ms: float | None
    max_ms: float | None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of the requests of one tenant, domain and tier (``all``: any)."""

    tenant: str
    domain: str
    tier: str
    sla_ms: float | None
    """None where tiers with different deadlines are taken together; each counts by its own."""
    requests: int
    good: int
    sent_per_s: float
    answered_per_s: float
    """Good answers that arrived while the step lasted, per second."""
    goodput_per_s: float
    """Good answers within the SLA, counted from the intended time, per second."""
    attainment: float | None
    """Share of all requests that were answered well within the SLA."""
    from_intended: Latency
    from_send: Latency
    server_queue: Latency
    server_run: Latency
    server_total: Latency
    errors: dict[str, int]
    tickets: dict[str, int]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the sender kept to its schedule. ``reasons`` is empty exactly where ``valid`` is true."""

    valid: bool
    reasons: list[str]
    rule: str


class StepReport(msgspec.Struct, frozen=True, kw_only=True):
    """One step: its figures in total and by tenant, domain and tier, and how far they can be trusted."""

    index: int
    """Its place in the run's list of steps."""
    step: Step
    total: Group
    groups: list[Group]
    lateness: Latency
    """How late the sender itself was: from the intended time to the moment it handed the request over."""
    waited_for_connection: int
    """Requests that were written more than 1 ms after they were handed over: no connection was free."""
    interrupted: int
    """Requests still under way at Ctrl-C, in no other figure."""
    verdict: Verdict


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All steps of a run."""

    run: Run
    sla: Sla
    steps: list[StepReport]
    valid: bool


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest-rank percentile of a sorted sequence: the smallest value that ``share`` of all do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def latency(seconds: Iterable[float]) -> Latency:
    """Percentiles of durations given in seconds."""
    ordered = sorted(1000.0 * value for value in seconds)
    p50, p90, p95, p99, p99_9 = (percentile(ordered, share) for share in (0.5, 0.9, 0.95, 0.99, 0.999))
    return Latency(
        p50_ms=p50, p90_ms=p90, p95_ms=p95, p99_ms=p99, p99_9_ms=p99_9, max_ms=ordered[-1] if ordered else None
    )


def is_timed(record: Record) -> bool:
    """Whether the record stands in the latency percentiles: a good answer, or a timeout at the time waited."""
    return record.code in ("", "timeout")


def strict_percentile_ms(records: Iterable[Record], share: float) -> float:
    """Percentile from the intended time over ALL requests; one without a good answer counts as infinitely late."""
    values = sorted(1000.0 * (r.done_s - r.intended_s) if not r.code else math.inf for r in records)
    found = percentile(values, share)
    return math.inf if found is None else found


def reduce_run(run: Run, records: Iterable[Record], sla: Sla, *, max_lateness_ms: float = MAX_LATENESS_MS) -> Report:
    """The report of a run. Steps that an interruption left without a record are left out."""
    by_step: dict[int, list[Record]] = {}
    for record in records:
        if not record.warmup:
            by_step.setdefault(record.step, []).append(record)
    steps = [
        reduce_step(index, run.steps[index], by_step.get(index, []), sla, max_lateness_ms=max_lateness_ms)
        for index in range(len(run.steps))
        if index in by_step or not run.interrupted
    ]
    return Report(run=run, sla=sla, steps=steps, valid=bool(steps) and all(step.verdict.valid for step in steps))


def reduce_step(index: int, step: Step, records: Sequence[Record], sla: Sla, *, max_lateness_ms: float) -> StepReport:
    """The figures of one step's measured records."""
    counted = [record for record in records if record.code != INTERRUPTED]
    split: dict[tuple[str, str, str], list[Record]] = {}
    for record in counted:
        split.setdefault((record.tenant, record.domain, record.tier), []).append(record)
    return StepReport(
        index=index,
        step=step,
        total=_group(step, (ALL, ALL, ALL), counted, sla),
        groups=[_group(step, names, split[names], sla) for names in sorted(split)],
        lateness=latency(r.fired_s - r.intended_s for r in counted),
        waited_for_connection=sum(r.sent_s is None or r.sent_s - r.fired_s > 0.001 for r in counted),
        interrupted=len(records) - len(counted),
        verdict=judge(counted, max_lateness_ms),
    )


def judge(records: Sequence[Record], max_lateness_ms: float) -> Verdict:
    """Whether the sender kept to its schedule: at most 1 % of the requests handed over too late."""
    rule = f"at most {MAX_LATE_SHARE:.0%} of the requests sent more than {max_lateness_ms:g} ms after their time"
    reasons: list[str] = []
    late = sum(1000.0 * (r.fired_s - r.intended_s) > max_lateness_ms for r in records)
    if not records:
        reasons.append("no request was measured")
    elif late > MAX_LATE_SHARE * len(records):
        reasons.append(
            f"the sender fell behind: {late} of {len(records)} requests ({late / len(records):.1%}) were sent more "
            f"than {max_lateness_ms:g} ms late, so part of the latency is the sender's own"
        )
    return Verdict(valid=not reasons, reasons=reasons, rule=rule)


def _group(step: Step, names: tuple[str, str, str], records: Sequence[Record], sla: Sla) -> Group:
    good = [r for r in records if not r.code]
    timed = [r for r in records if is_timed(r)]
    met = sum(1000.0 * (r.done_s - r.intended_s) <= sla.of(r.tier) for r in good)
    deadlines = {sla.of(r.tier) for r in records}
    tenant, domain, tier = names
    return Group(
        tenant=tenant,
        domain=domain,
        tier=tier,
        sla_ms=deadlines.pop() if len(deadlines) == 1 else None,
        requests=len(records),
        good=len(good),
        sent_per_s=sum(r.sent_s is not None and r.sent_s <= step.end_s for r in records) / step.duration_s,
        answered_per_s=sum(r.done_s <= step.end_s for r in good) / step.duration_s,
        goodput_per_s=met / step.duration_s,
        attainment=met / len(records) if records else None,
        from_intended=latency(r.done_s - r.intended_s for r in timed),
        from_send=latency(r.done_s - r.sent_s for r in timed if r.sent_s is not None),
        server_queue=_server(good, lambda r: r.queue_ms),
        server_run=_server(good, lambda r: r.run_ms),
        server_total=_server(good, lambda r: r.total_ms),
        errors=_counts(r.code for r in records),
        tickets=_counts(r.ticket for r in good),
    )


def _server(records: Iterable[Record], pick: Callable[[Record], float | None]) -> Latency:
    return latency(value / 1000.0 for record in records if (value := pick(record)) is not None)


def _counts(names: Iterable[str]) -> dict[str, int]:
    """How often each name occurs, most frequent first; empty names are not counted."""
    counts: Mapping[str, int] = Counter(name for name in names if name)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
