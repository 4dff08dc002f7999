"""Why a promise was missed: refusals, waiting, running, or a wrong prediction. Pure.

Owns the reading of one flow's numbers and its words. It names the largest cause only; the numbers beside it say the
rest.
"""

from collections.abc import Sequence

from server.dashboard.overview import Problem
from server.dashboard.shapes import Family, Flow
from server.errors import BY_CODE, DeadlineExceeded

MIN_MISSED = 3
"""Fewer may be chance."""
FAST_BURN = 2.0
"""Twice as many missed as the promise allows: more than a bad minute."""
LARGE_PART = 0.4
"""Of the deadline: where answers take less of it on average, it is the slowest few that are late."""
WRONG = 1.5
"""Answers that take so many times as long as predicted were sent where they could not be in time."""

_REFUSED: dict[str, tuple[str, str]] = {
    "overloaded": (
        "no ticket of the family could make the deadline, because too much work waits",
        "Add workers, lengthen the deadline, or register a faster ticket.",
    ),
    "no_worker": ("no worker could be reached", "See why no worker runs."),
    "worker_lost": ("workers died while they had them", "See the workers' logs; a ticket may be crashing them."),
    "not_ready": ("a gateway could not serve yet, or no longer", "See whether a gateway restarts again and again."),
    "ticket_unavailable": ("a ticket could not be loaded", "See whether the registry has it; register it again."),
    "inference_failed": ("the ticket failed on them", "See the workers' logs; roll the domain back if it is new."),
    "internal": ("of a fault of the gateway's own", "See the gateway's log; please report it."),
    "below_quality_floor": (
        "no ticket is good enough for the tier's quality floor", "Lower the floor, or promote a better ticket.",
    ),
    "not_promoted": ("no ticket of the domain has been promoted", "Promote one."),
}  # fmt: skip


def missed(flow: Flow, families: Sequence[Family], *, is_operator: bool) -> Problem | None:
    """What to say of a flow that has not kept its promise; None where it has, or too little speaks against it."""
    sla = flow.traffic.sla
    if sla.attainment is None or sla.attainment >= sla.objective or sla.missed < MIN_MISSED:
        return None
    why, do = _why(flow, families)
    if not is_operator:
        do = do.replace("Add workers", "Ask the operators for more workers")
    promise = "" if flow.deadline_ms is None else f" of {flow.deadline_ms:g} ms"
    return Problem(
        kind="sla_missed", severity="act" if (sla.burn or 0.0) >= FAST_BURN else "watch",
        what=f"{flow.tenant} / {flow.domain} / {flow.tier} met its deadline{promise} for {sla.attainment:.1%} of "
        f"requests; {sla.objective:.0%} is promised.",
        why=why, do=do, tenant=flow.tenant, domain=flow.domain, tier=flow.tier,
    )  # fmt: skip


def _why(flow: Flow, families: Sequence[Family]) -> tuple[str, str]:
    errors = {
        code: count
        for code, count in flow.traffic.outcomes.items()
        if code in BY_CODE and BY_CODE[code].status >= 500 and code != DeadlineExceeded.code
    }
    late = flow.traffic.sla.missed - sum(errors.values())
    code, count = max(errors.items(), key=lambda item: item[1], default=("", 0.0))
    if count > late:
        reason, do = _REFUSED.get(code, (f"of {code}", "See the gateway's log."))
        return f"{count:.0f} were refused or failed because {reason}.", do
    return _why_late(flow, families)


def _why_late(flow: Flow, families: Sequence[Family]) -> tuple[str, str]:
    parts, deadline_ms = flow.traffic.parts_ms, flow.deadline_ms
    if not parts or deadline_ms is None:
        return (
            "They were late: none was answered within its deadline.",
            "Lengthen the deadline, register a faster ticket, or add workers.",
        )
    run_ms = parts.get("run", 0.0) + parts.get("tokenize", 0.0)
    spent = {"queue": parts.get("queue", 0.0), "run": run_ms}
    spent["rest"] = sum(parts.values()) - sum(spent.values())
    largest = max(spent, key=lambda name: spent[name])
    ratio = _worst_ratio(flow, families)
    if ratio is not None and ratio >= WRONG:
        return (
            f"Prediction: answers take {ratio:.1f} times as long as predicted, so tickets too slow are chosen.",
            "See whether something else runs on the workers' hosts: what a ticket costs is learnt anew within seconds.",
        )
    took_ms = sum(spent.values())
    if took_ms < LARGE_PART * deadline_ms:
        tail = "" if flow.traffic.p99_ms is None else f", p99 {flow.traffic.p99_ms:.3g} ms"
        return (
            f"Most are quick ({took_ms:.3g} ms on average), the slowest are late{tail}.",
            "Look for bursts, very long texts, many texts in one request, and other programs on the hosts.",
        )
    if largest == "queue":
        return (
            f"Waiting: those answered waited {spent['queue']:.3g} ms for a worker on average.",
            "Add workers, or give the tenants that send most smaller shares or limits.",
        )
    if largest == "run":
        return (
            f"Running: tokenizing and running took {run_ms:.3g} ms on average of the {deadline_ms:g} ms promised.",
            "Lengthen the deadline, register a faster ticket, or send shorter texts.",
        )
    return (
        f"The gateway and the way to the worker took {spent['rest']:.3g} ms on average, more than waiting and running.",
        "See whether the gateways have enough processor time, and whether requests are retried.",
    )


def _worst_ratio(flow: Flow, families: Sequence[Family]) -> float | None:
    """The worst median of actual over predicted time among the tickets that answered the flow."""
    answered = {one.ticket for one in flow.answered}
    ratios = [
        row.prediction_ratio
        for family in families
        for row in family.tickets
        if row.ticket in answered and row.prediction_ratio is not None
    ]
    return max(ratios, default=None)
