"""What the ticket routes show: frozen documents, from which the OpenAPI schemas are made too.

Owns the answers' shapes and how they are filled from the table. The bodies of requests stand beside the routes that
read them.
"""

from typing import Any

import msgspec

from routing.table import Canary, FamilyTicket, Table, Tier
from server.admin import holdings


class TicketView(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket that may answer a tenant."""

    ticket: str
    """Its id."""
    domain: str
    tier: str
    state: str
    """``registered``: answers only who names it as `version`; ``canary``; ``promoted``: routing may choose it."""
    quality: float
    service_ms: float
    """One row alone, on the host that measured it."""
    bytes: int
    """Of its bundle, where it was registered; 0 where an operator put it into the table."""
    replaces: list[str]
    """The tickets that a rollback brings back in its place."""
    is_shared: bool
    """Whether its family was given to the tenant, and not made by its registrations."""


class TicketList(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's tickets, and the version of the table that names them."""

    version: int
    tickets: list[TicketView]


class TicketDetail(TicketView, frozen=True, kw_only=True):
    """A ticket with all that is known of it."""

    promise: Tier | None
    """What its tier promises in this domain."""
    canary: Canary | None
    """Its trial, where it is one."""
    report: Any
    """Of its registration; null for a ticket that an operator put into the table."""


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket that is registered now."""

    ticket: str
    state: str
    domain: str
    tier: str
    report: Any
    """What the gate found out; null for a ticket that an operator put into the table."""


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket that is not in the table any more."""

    ticket: str
    domain: str
    state: str = "retired"


class RolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """A domain after a rollback: the tickets that are promoted in it now."""

    domain: str
    promoted: list[TicketView]


def ticket_view(table: Table, tenant: str, domain: str, row: FamilyTicket) -> TicketView:
    """A ticket of a domain."""
    return TicketView(**_fields(table, tenant, domain, row))


def ticket_detail(table: Table, tenant: str, domain: str, row: FamilyTicket, report: msgspec.Raw) -> TicketDetail:
    """A ticket of a domain, with the report of its registration as JSON."""
    place = table.tenants[tenant].domains[domain]
    canary = place.canary if place.canary is not None and place.canary.ticket == row.id else None
    fields = _fields(table, tenant, domain, row)
    return TicketDetail(**fields, promise=place.tiers.get(row.tier), canary=canary, report=report)


def _fields(table: Table, tenant: str, domain: str, row: FamilyTicket) -> dict[str, Any]:
    return {
        "ticket": row.id, "domain": domain, "tier": row.tier, "state": row.state, "quality": row.quality,
        "service_ms": row.service_ms, "bytes": row.bytes, "replaces": row.replaces,
        "is_shared": not holdings.is_own(table, tenant, domain),
    }  # fmt: skip


_ID = "3f9a61c0d2b47e58" * 4
EXAMPLE: dict[str, Any] = {
    "ticket": _ID, "domain": "banking", "tier": "fast", "state": "registered", "quality": 0.93, "service_ms": 0.41,
    "bytes": 2_101_352, "replaces": [], "is_shared": False,
}  # fmt: skip
REPORT_EXAMPLE: dict[str, Any] = {
    "ticket": _ID, "tenant": "acme", "domain": "banking", "tier": "fast", "bytes": 2_101_352, "accepted": True,
    "steps": [{"name": "size", "status": "passed", "ms": 18.2, "detail": "2101352 bytes", "facts": {"bytes": 2101352}}],
    "refusal": None, "message": "", "quality": 0.93, "service_ms": 0.41, "resident_bytes": 2_400_000,
    "confinement": ["seccomp"], "at": 1_790_000_000.0,
}  # fmt: skip
