"""What an overview says of traffic and of families: a part of the contract of GET /v1/overview.

Owns the shapes only; units and the meaning of None are told in `server.dashboard.overview`, of which this is the half
that tenants see too.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Ratio = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=0)]


class Sla(msgspec.Struct, frozen=True, kw_only=True):
    """How the promise was kept over the window."""

    objective: Ratio
    attainment: Ratio | None
    """The part of the requests that met the deadline. Those that the caller got wrong or was refused by its own
    limits are not counted."""
    met: float
    missed: float
    burn: float | None
    """How fast the error budget is used up: 1 is exactly as fast as the objective allows, 10 ten times as fast."""


class Spark(msgspec.Struct, frozen=True, kw_only=True):
    """The window as little curves of at most 60 points, oldest first, as far back as the history goes. All lists of
    an overview are equally long."""

    step_s: float
    """From one point to the next: 5 for windows up to 5 minutes, 15 for 15 minutes."""
    ends_at: float
    rate_per_s: list[float | None]
    p99_ms: list[float | None]
    """None: no request ended then."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What some requests came to over the window: from their arrival at a gateway to their answer."""

    rate_per_s: float
    requests: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    """Of all that ended, interpolated in histogram buckets; at most 10,000: the last bucket's bound."""
    queue_ms: float | None
    """Of those answered, on average: waiting in a worker."""
    parts_ms: dict[str, float]
    """Where the time of those answered went, on average: ``admission`` (parsing and routing), ``hop`` (between the
    processes, and whatever was tried before), ``queue``, ``tokenize``, ``run``. Empty where nothing was answered."""
    outcomes: dict[str, float]
    """Requests by how they ended: ``ok``, ``cancelled``, or an error's ``code``. Only what happened."""
    sla: Sla
    spark: Spark


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """How far down its family the ticket stood that answered, and why."""

    step: str
    """``0``: the best that may answer; ``1``: the next one, and so on; ``8+``."""
    answers: float
    share: Ratio
    reasons: dict[str, float]
    """The answers by why it was taken, in a word: see `routing.table.Reason`."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket that answered a flow."""

    ticket: str | None
    """Its id; None: one that is not in the table any more, or one of more than are told apart."""
    tier: str | None
    """The tier that it was found for."""
    answers: float
    share: Ratio


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """One tier of one domain of one tenant. There is one for each that stands in the table, with or without traffic,
    and one for each name that only the traffic knows (``other``)."""

    tenant: str
    domain: str
    tier: str
    is_default: bool
    """Whether it is the tier of requests that name none."""
    policy: str | None
    """``best``, ``tier`` or ``cascade``; None: not in the table."""
    deadline_ms: float | None
    """The SLA line."""
    quality_floor: float | None
    traffic: Traffic
    steps: list[Step]
    answered: list[Answered]
    """Who served it, the one with most answers first."""


class TenantRow(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant, all its flows together."""

    tenant: str
    is_suspended: bool
    weight: float
    domains: Count
    traffic: Traffic
    limits: dict[str, float | None]
    """As set: ``rate_per_s``, ``burst``, ``concurrency``, ``daily_requests``; None: no limit."""
    refused_by_limits: float
    """Requests over the window."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the canary of one domain stands."""

    tenant: str
    domain: str
    current: str
    """The id of the ticket it is tried beside."""
    mode: Literal["canary", "shadow"]
    share: Ratio
    is_automatic: bool
    started_at: float
    outcome: Literal["running", "passed", "bad"] | None
    """None: nobody could ask how it stands (Redis is away)."""
    words: str
    asks: Count
    """Asks it was tried on, since it was started."""
    errors: Count
    late: Count
    agreement: Ratio | None
    """The part of the rows on which it and the current ticket said the same."""


class TicketRow(msgspec.Struct, frozen=True, kw_only=True):
    """One ticket of a family."""

    ticket: str
    """Its id."""
    tier: str
    state: Literal["registered", "canary", "promoted"]
    quality: Ratio
    service_ms: float
    """One text alone, where it was proven: the other axis of the Pareto plot."""
    bytes: Count | None
    """Of its bundle; None where that is not known (an operator put it into the table)."""
    rate_per_s: float
    """Answers over the window to the viewer: to all tenants for an operator, to itself for a tenant."""
    share: Ratio | None
    """Of the family's answers to the viewer over the window; None: there were none."""
    is_yours: bool
    """Whether the numbers below may be told: to operators, and to a tenant that alone uses the ticket. Else they are
    None, because they are about other tenants' requests too."""
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    """From a request's arrival to its answer."""
    sla: Sla | None
    """Of the requests that it answered."""
    run_p50_ms: float | None
    run_p95_ms: float | None
    """Tokenizing and running."""
    prediction_ratio: float | None
    """Median of actual over predicted time."""
    resident_bytes: float | None
    """In one worker's memory, where it takes most."""
    drift: dict[str, float]
    """How far its answers are from those at its registration, by kind (``confidence``, ``class``, ``scope``):
    population stability index, 0.1 is to be watched, 0.25 to be acted on. Empty where not known."""
    replaces: list[str]
    canaries: list[Standing]
    """Where it is on trial: at most one for each domain."""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """A domain that a family answers."""

    tenant: str
    domain: str
    policy: str
    """``best``, ``tier`` or ``cascade``."""


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One family: the Pareto plot. Tickets from the dearest to the cheapest."""

    family: str
    is_shared: bool
    """Given by the operators to whoever they like, and not made by one tenant's registrations."""
    used_by: list[Use]
    """A tenant sees its own domains only."""
    tickets: list[TicketRow]
