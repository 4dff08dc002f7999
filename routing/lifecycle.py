"""The lifecycle of a tenant's tickets: registered, on trial as a canary, promoted, retired; and the way back.

Pure: a table in, a table and the event that tells of it out; `routing.store.Store.commit` makes it so. Owns which moves
are legal, and that a tenant's moves touch nobody else's rows: a domain that stands on a shared family gets a copy of
its own, ``tenant/domain``, before anything in it changes. Every illegal move raises LifecycleError with what to do. How
a domain's rows are found and replaced is `routing.domain_rows`'s.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from routing.domain_rows import LifecycleError, Rows, find_ticket, rows_of, short
from routing.event import Event
from routing.table import Canary, Domain, FamilyTicket, Former, Table, TicketState, Tier

__all__ = [
    "LifecycleError",
    "find_ticket",
    "promote",
    "register",
    "retire",
    "rollback",
    "start_canary",
    "withdraw",
]

DEADLINE_MS = 100.0
"""What a tier promises that a registration makes, unless it is told otherwise."""
MAX_FORMER = 32

Moved = tuple[Table, Event]


def register(
    table: Table, *, tenant: str, domain: str, tier: str, ticket: FamilyTicket, actor: str,
    deadline_ms: float | None = None, quality_floor: float | None = None,
) -> Moved:  # fmt: skip
    """The ticket joins the domain's family, callable by who pins it. A domain or tier that is not there is made.

    ``deadline_ms`` and ``quality_floor`` are those of a tier that is made. Raises LifecycleError.
    """
    row = table.tenants.get(tenant)
    if row is None:
        raise LifecycleError("unknown", f"there is no tenant {tenant!r}")
    new = msgspec.structs.replace(ticket, tier=tier, state="registered", replaces=[])
    promise = Tier(deadline_ms=DEADLINE_MS if deadline_ms is None else deadline_ms, quality_floor=quality_floor or 0.0)
    if domain not in row.domains:
        rows = Rows.made(table, tenant, domain, Domain(family="none", default_tier=tier, tiers={tier: promise}))
    else:
        rows = rows_of(table, tenant, domain)
    if rows.has(ticket.id):
        raise LifecycleError("conflict", f"ticket {short(ticket.id)} is registered in domain {domain} already")
    tiers = rows.domain.tiers if tier in rows.domain.tiers else {**rows.domain.tiers, tier: promise}
    after = {**_facts(domain, new), "quality": new.quality, "service_ms": new.service_ms, "bytes": new.bytes}
    return (
        rows.with_domain(tiers=tiers).with_ticket(new).put(),
        Event(action="ticket.register", actor=actor, tenant=tenant, subject=ticket.id, after=after),
    )


def start_canary(
    table: Table, *, tenant: str, ticket: str, now: float, actor: str, share: float = 0.1,
    mode: Literal["canary", "shadow"] = "canary", is_automatic: bool = False, domain: str | None = None,
) -> Moved:  # fmt: skip
    """A registered ticket is tried on ``share`` of the asks that the promoted one of its tier would answer.

    ``now`` is in seconds since 1970. Raises LifecycleError.
    """
    place, found = find_ticket(table, tenant, ticket, domain)
    rows = rows_of(table, tenant, place)
    if rows.domain.canary is not None:
        running = short(rows.domain.canary.ticket)
        raise LifecycleError("conflict", f"domain {place} has a canary already, {running}: withdraw or promote that")
    if found.state != "registered":
        raise LifecycleError("conflict", f"ticket {short(found.id)} is {found.state}: only a registered one is tried")
    if not 0.0 < share <= 1.0:
        raise LifecycleError("conflict", f"share {share:g}: a canary takes more than 0 and at most 1 of the asks")
    current = rows.promoted(found.tier)
    if not current:
        message = f"domain {place} has no promoted ticket of tier {found.tier} to compare with: promote this one"
        raise LifecycleError("conflict", message)
    _check_floor(rows, found, None)
    canary = Canary(
        ticket=found.id, current=current[0].id, share=share, mode=mode, is_automatic=is_automatic, started_at=now
    )
    moved = rows.with_states({found.id: "canary"}).with_domain(canary=canary)
    facts = {"current": canary.current, "share": share, "mode": mode, "is_automatic": is_automatic}
    return moved.put(), _event("canary.start", moved, found, actor, facts=facts)


def withdraw(
    table: Table, *, tenant: str, ticket: str, actor: str, reason: str = "", domain: str | None = None,
    is_rolled_back: bool = False,
) -> Moved:  # fmt: skip
    """A canary is registered again. ``is_rolled_back``: because it was found to be bad. Raises LifecycleError."""
    place, found = find_ticket(table, tenant, ticket, domain)
    rows = rows_of(table, tenant, place)
    if rows.domain.canary is None or rows.domain.canary.ticket != found.id:
        raise LifecycleError("conflict", f"ticket {short(found.id)} is {found.state}, not a canary of domain {place}")
    moved = rows.without_canary()
    action = "canary.roll_back" if is_rolled_back else "canary.withdraw"
    return moved.put(), _event(action, moved, found, actor, reason)


def promote(
    table: Table, *, tenant: str, ticket: str, actor: str, deadline_ms: float | None = None,
    quality_floor: float | None = None, reason: str = "", domain: str | None = None,
) -> Moved:  # fmt: skip
    """The ticket takes the place of the promoted ones of its tier, which are registered again.

    ``deadline_ms`` and ``quality_floor`` change the tier's promise with it. A canary that was being compared with
    one of those that step back ends. Raises LifecycleError.
    """
    place, found = find_ticket(table, tenant, ticket, domain)
    rows = rows_of(table, tenant, place)
    if found.state == "promoted":
        raise LifecycleError("conflict", f"ticket {short(found.id)} is promoted already")
    _check_floor(rows, found, quality_floor)
    was = rows.domain.tiers.get(found.tier)
    promise = Tier(
        deadline_ms=deadline_ms if deadline_ms is not None else was.deadline_ms if was else DEADLINE_MS,
        quality_floor=quality_floor if quality_floor is not None else was.quality_floor if was else 0.0,
    )
    replaced = [one.id for one in rows.promoted(found.tier)]
    moved = rows.without_canary(found.id, *replaced)
    states: dict[str, TicketState] = {found.id: "promoted", **dict.fromkeys(replaced, "registered")}
    moved = moved.with_states(states, replaces=replaced)
    former = Former(tier=found.tier, tickets=replaced, promise=was if was != promise else None)
    moved = moved.with_domain(
        tiers={**moved.domain.tiers, found.tier: promise}, former=[*moved.domain.former, former][-MAX_FORMER:]
    )
    facts = {"replaces": replaced, **_promised(promise, was)}
    return moved.put(), _event("ticket.promote", moved, found, actor, reason, facts)


def rollback(table: Table, *, tenant: str, domain: str, actor: str, tier: str | None = None, reason: str = "") -> Moved:
    """What stood before the latest promotion (of ``tier``, else of any) stands again, the tier's promise included.

    Again and again: further and further back. Raises LifecycleError.
    """
    rows = rows_of(table, tenant, domain)
    at = next((i for i in reversed(range(len(rows.domain.former))) if tier in (None, rows.domain.former[i].tier)), -1)
    if at < 0:
        of = "" if tier is None else f" of tier {tier}"
        raise LifecycleError("conflict", f"domain {domain} has no promotion{of} to roll back: promote another ticket")
    former = rows.domain.former[at]
    leaves = [one for one in rows.promoted(former.tier) if one.id not in former.tickets]
    if not former.tickets and len(leaves) == len(rows.promoted()):
        message = (
            f"before its latest promotion domain {domain} answered nothing: promote another ticket, or retire this one"
        )
        raise LifecycleError("conflict", message)
    rest = [*rows.domain.former[:at], *rows.domain.former[at + 1 :]]
    earlier = next((one.tickets for one in reversed(rest[:at]) if one.tier == former.tier), [])
    states: dict[str, TicketState] = dict.fromkeys(former.tickets, "promoted")
    states |= dict.fromkeys((one.id for one in leaves), "registered")
    moved = rows.without_canary(*states) if states else rows
    moved = moved.with_states(states, replaces=earlier)
    tiers = moved.domain.tiers if former.promise is None else {**moved.domain.tiers, former.tier: former.promise}
    moved = moved.with_domain(tiers=tiers, former=rest)
    event = Event(
        action="ticket.roll_back", actor=actor, tenant=tenant,
        subject=leaves[0].id if leaves else domain, reason=reason,
        before={"domain": domain, "tier": former.tier, "promoted": [one.id for one in leaves]},
        after={"domain": domain, "tier": former.tier, "promoted": former.tickets}
        | _promised(former.promise, rows.domain.tiers.get(former.tier)),
    )  # fmt: skip
    return moved.put(), event


def retire(
    table: Table, *, tenant: str, ticket: str, actor: str, reason: str = "", domain: str | None = None,
    is_last: bool = False,
) -> Moved:  # fmt: skip
    """The ticket leaves the family: nobody can call it any more, and no rollback brings it back.

    The domain goes with its only ticket, where ``is_last`` says that this is meant. Raises LifecycleError.
    """
    place, found = find_ticket(table, tenant, ticket, domain)
    rows = rows_of(table, tenant, place)
    others = [one for one in rows.promoted() if one.id != found.id]
    if found.state == "promoted" and not others:
        if len(rows.family) > 1:
            message = f"ticket {short(found.id)} is the only one that answers in domain {place}: promote another first"
            raise LifecycleError("conflict", message)
        if not is_last:
            message = f"ticket {short(found.id)} is the last of domain {place}, which would go with it: say that it is"
            raise LifecycleError("conflict", message)
    event = Event(
        action="ticket.retire", actor=actor, tenant=tenant, subject=found.id, reason=reason,
        before=_facts(place, found), after={"state": "retired", "domain": place},
    )  # fmt: skip
    if len(rows.family) == 1:
        return rows.cleared(), event
    return rows.without_canary(found.id).without_ticket(found.id).put(), event


def _check_floor(rows: Rows, ticket: FamilyTicket, quality_floor: float | None) -> None:
    promise = rows.domain.tiers.get(ticket.tier)
    floor = quality_floor if quality_floor is not None else promise.quality_floor if promise else 0.0
    if ticket.quality < floor:
        raise LifecycleError(
            "conflict",
            f"ticket {short(ticket.id)} has quality {ticket.quality:g}, below the {floor:g} that tier {ticket.tier} "
            "promises, so that it could not answer there: promote it with a lower quality_floor",
        )


def _event(
    action: str,
    rows: Rows,
    before: FamilyTicket,
    actor: str,
    reason: str = "",
    facts: Mapping[str, object] | None = None,
) -> Event:
    after = rows.ticket(before.id)
    return Event(
        action=action, actor=actor, tenant=rows.tenant, subject=before.id, reason=reason,
        before=_facts(rows.name, before), after={**_facts(rows.name, after), **(facts or {})},
    )  # fmt: skip


def _facts(domain: str, ticket: FamilyTicket) -> dict[str, object]:
    return {"state": ticket.state, "domain": domain, "tier": ticket.tier}


def _promised(promise: Tier | None, was: Tier | None) -> dict[str, object]:
    """What an event says of a tier's promise, where it changes."""
    if promise is None or promise == was:
        return {}
    return {"deadline_ms": promise.deadline_ms, "quality_floor": promise.quality_floor}
