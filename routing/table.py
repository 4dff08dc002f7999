"""The table and the fleet: everything a routing decision looks at, frozen.

Owns the types. A `Table` is replaced whole, never edited in place; a `Fleet` is a
snapshot. Both are plain data: no I/O, no clock. Documents (TOML, JSON) are read and
checked in `routing.document`; Redis is known only to `routing.store`.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from routing.cost import Cost
from tickets.bundle import TicketId

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}\Z")]
FamilyName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}(/[a-z0-9][a-z0-9_.-]{0,63})?\Z")]
"""``banking``: any tenant may be given it. ``acme/banking``: made by registrations of tenant acme, for it alone."""
TicketIdText = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
KeyHash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Milliseconds = Annotated[float, Meta(gt=0.0, le=600_000.0)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]


TicketState = Literal["registered", "canary", "promoted"]
"""``registered``: answers only who pins it by its id. ``canary``: also takes a share of its domain's asks.
``promoted``: routing may choose it. A retired ticket is not in the table any more."""


class FamilyTicket(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One ticket of a family, with what routing needs to know about it."""

    id: TicketIdText
    tier: Name
    """The tier this ticket was found for; where the policy is ``tier``, its asks get nothing that costs more."""
    quality: Fraction
    """How often it is right on held-out data: what routing maximises and floors bound."""
    service_ms: Milliseconds
    """One text alone on the measuring host; workers that hold the ticket say what it costs on theirs."""
    state: TicketState = "promoted"
    bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 0
    """Of its bundle, where it was registered: what counts against its tenant's quota."""
    replaces: list[TicketIdText] = []
    """Of a promoted ticket: those of its tier that were promoted until it was. For people; the way back is the
    domain's (`Former`)."""


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A latency promise: answered within ``deadline_ms``, never by a ticket below ``quality_floor``."""

    deadline_ms: Milliseconds
    quality_floor: Fraction = 0.0


class Cascade(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two tickets of a family in a row: the small one answers where it is sure, else the large one does."""

    small: TicketIdText
    large: TicketIdText
    threshold: Fraction
    """The small ticket's answer stands where its calibrated confidence is at least this."""
    accuracy: Fraction
    """What the threshold held on validation data (`tombola cascade` finds it)."""


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ticket on trial in a domain, beside the one it would replace."""

    ticket: TicketIdText
    current: TicketIdText
    """The promoted ticket whose asks it is tried on."""
    share: Fraction = 0.1
    """The part of those asks that it is tried on."""
    mode: Literal["canary", "shadow"] = "canary"
    """``canary``: it answers them. ``shadow``: it is asked too, and nobody sees its answer."""
    is_automatic: bool = False
    """Whether it is promoted as soon as it has shown itself to be good; else somebody promotes it."""
    started_at: Annotated[float, Meta(ge=0.0, le=1e11)] = 0.0
    """Seconds since 1970."""


class Former(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What stood in a domain until a promotion, so that a rollback can bring exactly that back."""

    tier: Name
    """Whose ticket was replaced."""
    tickets: list[TicketIdText] = []
    """The tickets of that tier that were promoted until then; none where it had none."""
    promise: Tier | None = None
    """The tier's promise until then, where the promotion changed it."""


Policy = Literal["best", "tier", "cascade"]


class Domain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A domain of one tenant: which family serves it, under which tiers, by which policy.

    ``best``: the best ticket of the family that makes the deadline. ``tier``: as best, but never
    one that costs more than the ticket found for the asked tier. ``cascade``: see `Cascade`; while one of
    its two tickets is not promoted, as best.
    """

    family: FamilyName
    default_tier: Name
    tiers: dict[Name, Tier]
    policy: Policy = "best"
    cascade: Cascade | None = None
    canary: Canary | None = None
    former: Annotated[list[Former], Meta(max_length=32)] = []
    """What promotions have replaced, the latest last: the way back."""


class Tenant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A customer's routes. Its account (keys with roles, limits, policy) is `routing.account`'s.

    ``key_hashes`` are sha256 of keys that an authored document gives it; they may call, no more.
    """

    key_hashes: list[KeyHash] = []
    domains: dict[Name, Domain] = {}
    weight: Annotated[float, Meta(ge=0.01, le=1000.0)] = 1.0
    """Its share of a busy worker, beside the other tenants' weights."""
    reserved_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    """Memory of each worker that others' tickets do not push this tenant's out of."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """The routing document: one version, published whole. Families' tickets are ordered from the
    most expensive to the cheapest (by ``service_ms``)."""

    format: Literal[1] = 1
    version: Annotated[int, Meta(ge=0)] = 0
    families: dict[FamilyName, list[FamilyTicket]] = {}
    tenants: dict[Name, Tenant] = {}

    @cached_property
    def tenant_of_hash(self) -> dict[str, str]:
        """Tenant names by key hash, built once per table (``dict=True`` above makes room for it)."""
        return {digest: name for name, tenant in self.tenants.items() for digest in tenant.key_hashes}

    @cached_property
    def best_first(self) -> dict[str, tuple[FamilyTicket, ...]]:
        """Each family in the order of choice: best quality first, of two alike the cheaper one. Pins find these."""
        return {
            name: tuple(sorted(tickets, key=lambda t: (-t.quality, t.service_ms, t.id)))
            for name, tickets in self.families.items()
        }

    @cached_property
    def promoted_first(self) -> dict[str, tuple[FamilyTicket, ...]]:
        """Of each family in the order of choice, the promoted ones: what may answer an ask that pins no version."""
        return {name: tuple(t for t in tickets if t.state == "promoted") for name, tickets in self.best_first.items()}

    @cached_property
    def registered_by(self) -> dict[str, list[FamilyTicket]]:
        """By tenant, every ticket of the families that its registrations made, once for each family."""
        found: dict[str, list[FamilyTicket]] = {}
        for name, tickets in self.families.items():
            owner, slash, _ = name.partition("/")
            if slash:
                found.setdefault(owner, []).extend(tickets)
        return found

    @cached_property
    def canaries(self) -> dict[tuple[str, str], Canary]:
        """The canaries that run, by tenant and domain."""
        return {
            (tenant_name, domain_name): domain.canary
            for tenant_name, tenant in self.tenants.items()
            for domain_name, domain in tenant.domains.items()
            if domain.canary is not None
        }


class WorkerView(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the gateway knows about one live worker right now. Nobody changes the mappings."""

    name: str
    costs: Mapping[str, Cost] = {}
    """The tickets it has in memory, by id, and what a batch of each costs there."""
    running_ms: float = 0.0
    """Predicted time until what runs now ends."""
    queued_ms: float = 0.0
    """Predicted time to run all that waits."""
    tenants: Mapping[str, float] = {}
    """Of ``queued_ms``, the part of each tenant that has work waiting (the largest ones)."""
    active_weight: float = 0.0
    """Sum of the weights of the tenants that have work waiting."""
    busy: float = 0.0
    """Fraction of the last second or so that it has been running batches."""


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
    rows: int = 1
    """How many rows it has, and the bytes of the largest: what the predictions are made from."""
    row_bytes: int = 40
    skip: int = 0
    """So many of the best candidates are passed over: the ladder's doing, under load (`routing.ladder`)."""
    not_workers: frozenset[str] = frozenset()
    """Workers that have already failed this request."""
    not_tickets: frozenset[str] = frozenset()
    """Tickets that could not be loaded for this request."""


class Warm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ticket worth loading: it is better than the one that was routed to, and would have made the deadline
    on this worker but for the loading."""

    ticket: TicketIdText
    worker: str


Reason = Literal["best", "cascade", "pinned", "late", "cold", "load", "lost", "canary"]
"""Why this ticket, in a word. ``best``: none that may answer is better. ``pinned``: asked for by its id. ``canary``: a
trial. Else a better one was predicted to miss the deadline (``late``), is in no worker's memory (``cold``), could not
be loaded (``lost``), or is more than the workers can carry for now (``load``: the ladder)."""


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The decision: this ticket, on this worker, by this deadline, and why."""

    ticket: TicketId
    worker: str
    tier: str
    deadline_ms: float
    because: str
    predicted_ms: float = 0.0
    """When the answer is expected, counted from now, without any safety margin."""
    step: int = 0
    """How far down the candidates this is; 0 is the best that may answer."""
    cascade: Cascade | None = None
    """Set where the answer stands only if the ticket is sure: else ask ``cascade.large`` next."""
    warm: Warm | None = None
    """Set where a better ticket should be loaded meanwhile, at nobody's cost (`Ladder` says so once a second)."""
    reason: Reason = "best"
    """``because`` in a word: for whoever counts."""


RefusalCode = Literal[
    "unknown_domain",
    "unknown_tier",
    "unknown_version",
    "not_promoted",
    "below_quality_floor",
    "no_worker",
    "overloaded",
]


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The named reason why no ticket answers. ``retry_after_s`` is set where trying again can help."""

    code: RefusalCode
    message: str
    retry_after_s: float | None = None
