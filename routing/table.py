"""The table and the fleet: everything a routing decision looks at, frozen.

Owns the types. A `Table` is replaced whole, never edited in place; a `Fleet` is a
snapshot. Both are plain data: no I/O, no clock. Documents (TOML, JSON) are read and
checked in `routing.document`; Redis is known only to `routing.store`.
"""

from functools import cached_property
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tickets.bundle import TicketId

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}\Z")]
TicketIdText = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
KeyHash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Milliseconds = Annotated[float, Meta(gt=0.0, le=600_000.0)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]


class FamilyTicket(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ticket of a family, with what routing needs to know about it."""

    id: TicketIdText
    tier: Name
    """The tier this ticket was found for: asks of that tier start here and only step to cheaper ones."""
    quality: Fraction
    """In-scope accuracy on held-out data, from the ticket's evidence."""
    service_ms: Milliseconds
    """One text alone on the measuring host."""


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A latency promise: answered within ``deadline_ms``, never by a ticket below ``quality_floor``."""

    deadline_ms: Milliseconds
    quality_floor: Fraction = 0.0


class Domain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A domain of one tenant: which family serves it, under which tiers."""

    family: Name
    default_tier: Name
    tiers: dict[Name, Tier]


class Tenant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A customer. ``key_hashes`` are sha256 of its API keys; a key itself is never stored."""

    key_hashes: list[KeyHash]
    domains: dict[Name, Domain]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """The routing document: one version, published whole. Families' tickets are ordered from the
    most expensive to the cheapest (by ``service_ms``)."""

    format: Literal[1] = 1
    version: Annotated[int, Meta(ge=0)] = 0
    families: dict[Name, list[FamilyTicket]] = {}
    tenants: dict[Name, Tenant] = {}

    @cached_property
    def tenant_of_hash(self) -> dict[str, str]:
        """Tenant names by key hash, built once per table (``dict=True`` above makes room for it)."""
        return {digest: name for name, tenant in self.tenants.items() for digest in tenant.key_hashes}


class WorkerView(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the gateway knows about one live worker right now."""

    name: str
    holds: frozenset[str]
    """Ids of the tickets it has in memory."""
    wait_ms: float
    """Predicted time until work sent now would start."""


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A snapshot of the workers that can be reached."""

    workers: tuple[WorkerView, ...] = ()


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a decision needs to know of a request. ``tenant`` has been authenticated."""

    tenant: str
    domain: str
    tier: str | None = None
    version: str | None = None
    """A ticket id or a prefix of at least 8 hex digits: pins the answer to that ticket of the family."""
    deadline_ms: float | None = None
    """The caller's own deadline, remaining; absent: the tier's."""
    not_workers: frozenset[str] = frozenset()
    """Workers that have already failed this request."""
    not_tickets: frozenset[str] = frozenset()
    """Tickets that could not be loaded for this request."""


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The decision: this ticket, on this worker, by this deadline, and why."""

    ticket: TicketId
    worker: str
    tier: str
    deadline_ms: float
    because: str


RefusalCode = Literal[
    "unknown_domain", "unknown_tier", "unknown_version", "below_quality_floor", "no_worker", "overloaded"
]


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The named reason why no ticket answers. ``retry_after_s`` is set where trying again can help."""

    code: RefusalCode
    message: str
    retry_after_s: float | None = None
