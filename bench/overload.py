"""Three times more than one worker can do: what is still answered in time, and by which ticket.

For a heavy ticket (the dense parent in fp32) and for a found one (accurate): the capacity of one worker that
may use nothing else, measured by a closed loop; then an open Poisson load of three times that, with the same
ticket alone and with the family below it. On two cores sender, gateway and worker share them: with
the dense parent the worker is the bottleneck by far; with the found one the gateway and the sender are part of it,
and three times its capacity is more than two cores can send and refuse, so 1.5 times that is loaded as well.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.dense import dense_ticket
from bench.family import STARTER
from bench.up import FOREVER_MS, Customer, Serving, report_of, saturate, serving, start_load
from tickets import bundle as bundles
from tickets.bundle import Bundle

SLA_MS = 25.0
"""What callers are promised, from the intended time of sending to the answer."""
DEADLINE_MS = 22.0
"""The tier's deadline, which a gateway counts from the request's arrival: 3 ms for the way there and back."""
UNDER = 0.5
SECONDS = 10.0
WARMUP_S = 3.0
DENSE_MS, DENSE_QUALITY = 3.24, 0.94667
"""A text alone, and in-scope accuracy, as tickets/starter/REPORT.md has them of banking's dense parent."""
COLUMNS = (
    "heavy ticket", "load", "sent/s", "in time/s", "of capacity", "answered, p50 / p99 ms", "not answered",
    "accuracy served", "by", "cores",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heavy:
    """A ticket to be overloaded, and the tickets of its family from it down."""

    name: str
    family: Sequence[Bundle]
    quality: Mapping[str, float]
    over: Sequence[float] = (3.0,)


def measure_overload(announce: Callable[[str], None], *, seconds: float = SECONDS) -> dict[str, Any]:
    """Capacity, then goodput, latency, refusals, tickets and CPU at so many times that, by heavy ticket."""
    starter = [bundles.read(STARTER / f"banking-{tier}.ticket") for tier in ("accurate", "balanced", "fast")]
    dense = dense_ticket(starter[0], service_ms=DENSE_MS).bundle
    quality: dict[str, float] = {ticket.id: ticket.manifest.evidence.quality for ticket in starter}
    quality[dense.id] = DENSE_QUALITY
    heavies = [
        Heavy("dense fp32", [dense, *starter], quality),
        Heavy("accurate int8", starter, quality, over=(1.5, 3.0)),
    ]
    return {"sla_ms": SLA_MS, "loads": [_measure(heavy, seconds, announce) for heavy in heavies]}


def _measure(heavy: Heavy, seconds: float, announce: Callable[[str], None]) -> dict[str, Any]:
    alone = heavy.family[:1]
    customers = {
        "capacity": Customer(alone, FOREVER_MS),
        "alone": Customer(alone, DEADLINE_MS),
        "family": Customer(heavy.family, DEADLINE_MS),
    }
    with tempfile.TemporaryDirectory() as name, serving(Path(name), customers, qualities=heavy.quality) as tombola:
        announce(f"overload: {heavy.name}, capacity")
        capacity = saturate(tombola, "capacity", seconds=seconds / 2)
        found: dict[str, Any] = {"ticket": heavy.name, "capacity_per_s": capacity}
        over = [(kind, times) for times in heavy.over for kind in ("alone", "family")]
        for customer, times in [("family", UNDER), *over]:
            label = f"{customer}, {times:g}x"
            announce(f"overload: {heavy.name}, {label} capacity")
            report = Path(name) / f"{customer}-{times:g}.json"
            found[label] = _load(tombola, customer, report, times * capacity, seconds) | {"times_capacity": times}
        for of in found.values():
            if isinstance(of, dict):
                of["served"] = _served(of.pop("tickets"), heavy, of["answered"])
                of["goodput_of_capacity"] = of["goodput_per_s"] / capacity if of["times_capacity"] > 1 else None
    return found


def _load(tombola: Serving, customer: str, report: Path, rate: float, seconds: float) -> dict[str, Any]:
    before = tombola.cpu_s()
    load = start_load(
        tombola, customer, report, "--rate", f"{rate:.0f}", "--duration", f"{seconds:g}", "--warmup", f"{WARMUP_S:g}",
        "--sla", f"{SLA_MS:g}", "--max-lateness-ms", "10",
    )  # fmt: skip
    step = report_of(load, report)
    after, total = tombola.cpu_s(), step["total"]
    took = seconds + WARMUP_S
    return {
        "rate_per_s": rate, "requests": total["requests"], "answered": total["good"],
        "goodput_per_s": total["goodput_per_s"], "attainment": total["attainment"],
        "p50_ms": total["from_intended"]["p50_ms"], "p99_ms": total["from_intended"]["p99_ms"],
        "in_gateway_p99_ms": total["server_total"]["p99_ms"], "errors": total["errors"],
        "tickets": total["tickets"], "valid": step["verdict"]["valid"],
        "sender_p99_late_ms": step["lateness"]["p99_ms"],
        "cores": {kind: (after[kind] - before[kind]) / took for kind in after},
    }  # fmt: skip


def _served(tickets: Mapping[str, int], heavy: Heavy, answered: int) -> dict[str, Any]:
    """The share of answers by tier, and the accuracy that they come to by the tickets' own figures."""
    tiers = {ticket.id: str(ticket.manifest.tier) for ticket in heavy.family}
    counts = {ticket: count for shown, count in tickets.items() for ticket in tiers if ticket.startswith(shown)}
    total = sum(counts.values())
    return {
        "shares": {tiers[ticket]: count / total for ticket, count in counts.items()},
        "accuracy": sum(heavy.quality[ticket] * count for ticket, count in counts.items()) / total if total else None,
        "unknown": answered - total,
    }


def table(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows for people, under COLUMNS."""
    rows: list[tuple[str, ...]] = []
    for found in results["loads"]:
        rows.append((found["ticket"], "capacity", "", f"{found['capacity_per_s']:.0f}", "", "", "", "", "", ""))
        for label, of in found.items():
            if not isinstance(of, dict):
                continue
            served = of["served"]
            part, accuracy = of["goodput_of_capacity"], served["accuracy"]
            shares = ", ".join(f"{tier} {share:.0%}" for tier, share in served["shares"].items())
            rows.append((
                found["ticket"], f"{label}{'' if of['valid'] else ' INVALID'}",
                f"{of['rate_per_s']:.0f}", f"{of['goodput_per_s']:.0f}", "" if part is None else f"{part:.0%}",
                " / ".join("-" if of[p] is None else f"{of[p]:.1f}" for p in ("p50_ms", "p99_ms")),
                f"{1 - of['answered'] / of['requests']:.0%}", "" if accuracy is None else f"{accuracy:.2%}", shares,
                f"gateway {of['cores']['gateway']:.2f}, worker {of['cores']['worker']:.2f}",
            ))  # fmt: skip
    return rows
