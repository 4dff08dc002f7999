"""What is wrong now, in sentences: what, why, and what to do. Pure.

Owns the thresholds and the words, and the order: what fails somebody comes before what only may, what fails more
requests before what fails fewer. It looks only at what the viewer sees (`Seen`), so it cannot tell anybody more. Why a
promise was missed is `server.dashboard.misses`'s.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from routing.event import Event
from server.dashboard.facts import Facts
from server.dashboard.history import Process
from server.dashboard.misses import missed
from server.dashboard.overview import Control, GatewayRow, Problem, WorkerRow
from server.dashboard.shapes import Family, Flow, TenantRow

RECENT_S = 900.0
"""A canary that was rolled back so long ago is news no more."""
GONE_S = 300.0
"""A process that went away so long ago is believed to have been meant to."""
SETTLE_S = 15.0
"""What a new table gets to reach all gateways."""
TOO_BUSY = 0.9
CRASH_LOOP = 3
DRIFT_WATCH, DRIFT_ACT = 0.1, 0.25
"""The usual reading of a population stability index."""

Weighed = tuple[float, Problem]
"""A problem and its weight: about the requests that it fails, or may fail, a minute."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one viewer sees."""

    facts: Facts
    is_operator: bool
    tenants: list[TenantRow]
    flows: list[Flow]
    families: list[Family]
    workers: list[WorkerRow]
    gateways: list[GatewayRow]
    control: Control
    events: list[Event]
    gone: list[Process] = []
    """Processes that were there a while ago."""
    quarantined: float = 0.0
    unseen: float = 0.0
    """Requests that were refused before anybody looked at them."""
    limited: dict[tuple[str, str], float] = {}
    """Refusals by tenant and limit (``rate``, ``concurrency``, ``day``)."""
    gated: dict[tuple[str, str], float] = {}
    """Registrations that were refused, by tenant and refusal."""


def find_problems(seen: Seen) -> list[Problem]:
    """Everything that is wrong, the heaviest first."""
    found: list[Weighed] = [
        *_service(seen), *_promises(seen), *_processes(seen), *_control(seen), *_limits(seen), *_tickets(seen),
        *_canaries(seen),
    ]  # fmt: skip
    found.sort(key=lambda one: (one[1].severity != "act", -one[0], one[1].what))
    return [problem for _, problem in found]


def _service(seen: Seen) -> Iterator[Weighed]:
    facts = seen.facts
    if facts.table is None:
        yield 1e9, Problem(
            kind="not_ready", severity="act", what="This gateway has no routing table: it answers no request.", why="",
            do="Publish one with `tombola route publish`, or see whether Redis can be reached.",
        )  # fmt: skip
    elif not facts.workers:
        yield 1e9, Problem(
            kind="no_worker", severity="act", what="No worker can be reached: every request is refused.",
            why="None has announced itself, or none answers." if seen.is_operator else "",
            do="Start one with `tombola worker`, or read the log of the one that should run."
            if seen.is_operator else "Tell the operators of this installation.",
        )  # fmt: skip
    if seen.unseen:
        yield seen.unseen, Problem(
            kind="surge", severity="act", what=f"{_count(seen.unseen, 'request')} refused before being looked at.",
            why="More requests come than this gateway can read in half of a usual deadline.",
            do="Add a gateway, or see who sends so much.",
        )  # fmt: skip


def _promises(seen: Seen) -> Iterator[Weighed]:
    for flow in seen.flows:
        found = missed(flow, seen.families, is_operator=seen.is_operator)
        if found is not None:
            yield flow.traffic.sla.missed, found


def _processes(seen: Seen) -> Iterator[Weighed]:
    rows: list[WorkerRow | GatewayRow] = [*seen.workers, *seen.gateways]
    for row in rows:
        what = "Worker" if isinstance(row, WorkerRow) else "Gateway"
        if not row.is_up:
            yield 1e6, Problem(
                kind="process_down", severity="act", what=f"{what} {row.name} does not answer.",
                why="It has a lease, but did not give its metrics within a second: it hangs, or its host is too busy.",
                do="See its log; `tombola up` replaces a process that hangs within seconds.", subject=row.name,
            )  # fmt: skip
        if row.restarts:
            yield 10.0 * row.restarts, Problem(
                kind="process_restarts", severity="act" if row.restarts >= CRASH_LOOP else "watch",
                what=f"{what} {row.name} has restarted {_count(row.restarts, 'time')} in 15 minutes.", why="",
                do="See its log for the last words of the one before.", subject=row.name,
            )  # fmt: skip
    for process in seen.gone:
        since_s = seen.facts.at - (process.seen_at or seen.facts.at)
        yield 100.0, Problem(
            kind="process_gone", severity="watch", subject=process.name,
            what=f"{process.kind.title()} {process.name} has been gone for {since_s:.0f} s.",
            why="Its lease has run out or was withdrawn, and no other took its place.",
            do="If it was stopped on purpose, nothing; else start it again.",
        )  # fmt: skip
    for worker in seen.workers:
        if worker.busy is not None and worker.busy > TOO_BUSY:
            yield 100.0 * worker.busy, Problem(
                kind="worker_busy", severity="watch", subject=worker.name,
                what=f"Worker {worker.name} was running batches {worker.busy:.0%} of the time.",
                why="More work comes than leaves room for bursts: waiting grows, and cheaper tickets answer.",
                do="Add workers, or let the domains with most traffic use faster tickets.",
            )  # fmt: skip


def _control(seen: Seen) -> Iterator[Weighed]:
    control, facts = seen.control, seen.facts
    if not control.is_redis_up:
        for_s = f" for {control.redis_away_s:.0f} s" if control.redis_away_s is not None else ""
        yield 1e5, Problem(
            kind="redis_away", severity="act",
            what=f"Redis has not answered{for_s}: answers go on, nothing can be changed." if seen.is_operator
            else "Nothing can be changed now: no registration, no promotion, no keys. Answers go on.", why="",
            do="See whether Redis runs and can be reached from here; nothing is lost here meanwhile."
            if seen.is_operator else "Try again in a while.",
        )  # fmt: skip
    newest = max((row.table_version or 0 for row in seen.gateways), default=0)
    is_settled = control.table_since is None or facts.at - control.table_since > SETTLE_S
    for row in seen.gateways:
        if row.table_version is not None and row.table_version < newest and is_settled:
            yield 1e4, Problem(
                kind="table_behind", severity="watch", subject=row.name,
                what=f"Gateway {row.name} uses table {row.table_version}; the newest is {newest}.",
                why="It has not heard from Redis, or its registry lacks a ticket of the newer table.",
                do="See its log; restart it if it does not catch up.",
            )  # fmt: skip


def _limits(seen: Seen) -> Iterator[Weighed]:
    for (tenant, limit), count in seen.limited.items():
        is_day = limit == "day"
        row = next((row for row in seen.tenants if row.tenant == tenant), None)
        of = {"day": "daily_requests", "rate": "rate_per_s"}.get(limit, "concurrency")
        bound = row.limits.get(of) if row is not None else None
        limits: dict[str, str] = {
            "day": "its requests of today are used up",
            "rate": "it sends faster than its rate allows",
            "concurrency": "too many of its requests are in flight at the same time",
        }
        yield count, Problem(
            kind="quota_used_up" if is_day else "rate_limited", severity="act" if is_day else "watch", tenant=tenant,
            what=f"{_count(count, 'request')} of {tenant} refused: {limits.get(limit, limit)}.",
            why=f"Its limit is {bound:g}." if bound is not None else "",
            do="Wait for midnight UTC, or have the limit raised." if is_day
            else "Send more slowly and obey Retry-After, or have the limit raised.",
        )  # fmt: skip


def _tickets(seen: Seen) -> Iterator[Weighed]:
    for (tenant, refusal), count in seen.gated.items():
        yield count, Problem(
            kind="gate_refused", severity="watch", tenant=tenant,
            what=f"{_count(count, 'registration')} of {tenant} refused: {refusal.replace('_', ' ')}.", why="",
            do="The report of the upload says which step refused it, and what to change.",
        )  # fmt: skip
    if seen.quarantined:
        yield 1e3, Problem(
            kind="quarantined", severity="act", what=f"{_count(seen.quarantined, 'ticket')} in quarantine.",
            why="It has crashed workers again and again; the rest of its family answers for it.",
            do="See `tombola quarantine`; retire the ticket, or let it run again once its fault is mended.",
        )  # fmt: skip
    for family in seen.families:
        for row in family.tickets:
            if row.ticket in seen.facts.missing:
                yield 1e3, Problem(
                    kind="ticket_missing", severity="act", subject=row.ticket,
                    what=f"Ticket {row.ticket[:12]} of family {family.family} is not in the registry.",
                    why="The table names it, but its file cannot be read here.",
                    do="Register it again; until then the rest of the family answers.",
                )  # fmt: skip
            kind, psi = max(row.drift.items(), key=lambda item: item[1], default=("", 0.0))
            if psi >= DRIFT_WATCH and row.state != "registered":
                yield 10.0 * psi, Problem(
                    kind="drift", severity="act" if psi >= DRIFT_ACT else "watch", subject=row.ticket,
                    what=f"Ticket {row.ticket[:12]} of {family.family} answers differently than at its registration.",
                    why=f"Its {kind} has shifted by {psi:.2f} ({DRIFT_WATCH} is to be watched, {DRIFT_ACT} acted on).",
                    do="Look at what is being asked; find and register a new ticket on data like it.",
                )  # fmt: skip


def _canaries(seen: Seen) -> Iterator[Weighed]:
    for event in seen.events:
        if event.action == "canary.roll_back" and seen.facts.at - event.at < RECENT_S:
            yield 50.0, Problem(
                kind="canary_rolled_back", severity="watch", tenant=event.tenant, subject=event.id,
                domain=_text(event.after.get("domain")), do="Find out why before it is tried again.",
                what=f"Canary {event.subject[:12]} was rolled back.", why=f"{event.reason}." if event.reason else "",
            )  # fmt: skip
    for family in seen.families:
        for row in family.tickets:
            for standing in row.canaries:
                if standing.outcome == "bad":
                    yield 60.0, Problem(
                        kind="canary_bad", severity="act", tenant=standing.tenant, domain=standing.domain,
                        subject=row.ticket, what=f"Canary {row.ticket[:12]} of {standing.domain} is proven to be bad.",
                        why=f"{standing.words}.", do="It should roll back within seconds; if not, withdraw it.",
                    )  # fmt: skip


Noun = Literal["request", "registration", "ticket", "time"]


def _count(count: float, noun: Noun) -> str:
    """``1 request``, ``12 requests``."""
    return f"{count:.0f} {noun}" + ("" if round(count) == 1 else "s")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
