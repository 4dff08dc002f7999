"""The overview: what GET /v1/overview answers and the dashboard's page shows. The contract of both, and nothing else.

Owns the shapes, those of traffic and families by way of `server.dashboard.shapes`. Times are in milliseconds where a
name ends in ``_ms``, moments in seconds since 1970 (``at``, ``since``), shares and attainments are 0 to 1, rates are
per second. None always means "not known", never zero: no traffic, no process that says so, or not this viewer's
business. What an operator sees and a tenant does not is said at each field; how the numbers come about is
`server.dashboard.traffic`'s and its neighbours'.
"""

from typing import Literal

import msgspec

from routing.access import Right
from routing.event import Event
from server.dashboard.shapes import Count, Family, Flow, Ratio, TenantRow, Traffic

Severity = Literal["act", "watch"]
"""``act``: somebody is being failed now. ``watch``: it will come to that, or something needs a look."""


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """Whose key asked: decides what stands in everything below."""

    tenant: str | None
    """None: an operator, who sees everything."""
    role: Right
    """``operator``, or a tenant's ``call`` < ``register`` < ``admin``: each may do all that stands before it."""


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process. Operators only."""

    name: str
    is_up: bool
    """Whether it answered the last sample."""
    busy: Ratio | None
    """The part of the window that it was running batches."""
    queue_texts: float | None
    wait_ms: float | None
    """Predicted wait of work that would arrive now."""
    texts_per_s: float | None
    tickets: Count | None
    """In memory."""
    resident_bytes: float | None
    """Of all its tickets; what they share counts once."""
    process_bytes: float | None
    loads: float | None
    evictions: float | None
    """Over the window."""
    up_since: float | None
    restarts: Count
    """Seen in the history, which is 15 minutes long."""
    spark_busy: list[float | None]


class GatewayRow(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway process. Operators only."""

    name: str
    is_up: bool
    is_this: bool
    """Whether it is the one that answered this request."""
    in_flight: float | None
    rate_per_s: float | None
    workers: float | None
    """Workers that it can reach."""
    table_version: int | None
    stale_s: float | None
    """Since it last heard from Redis, beyond the second that is usual."""
    process_bytes: float | None
    up_since: float | None
    restarts: Count


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The control plane."""

    is_redis_up: bool
    """While it is not, answers go on and nothing can be changed."""
    table_version: int | None
    """In use here. Operators only."""
    table_since: float | None
    """When this gateway took it up. Operators only."""
    redis_away_s: float | None
    """Operators only."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something is wrong now. The heaviest first."""

    kind: Literal[
        "sla_missed", "no_worker", "not_ready", "process_down", "process_restarts", "process_gone", "redis_away",
        "table_behind", "worker_busy", "quota_used_up", "rate_limited", "canary_rolled_back", "canary_bad",
        "gate_refused", "ticket_missing", "quarantined", "drift", "surge",
    ]  # fmt: skip
    severity: Severity
    what: str
    """A sentence: what is wrong, with names and numbers."""
    why: str
    """A sentence; empty where the reason is not known."""
    do: str
    """A sentence: what to do next."""
    tenant: str | None = None
    """Whom it is about, so that the page can lead there; None: the installation."""
    domain: str | None = None
    tier: str | None = None
    subject: str | None = None
    """A process, a ticket's id or an event's, where it is about one."""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All that a viewer may see now."""

    at: float
    version: str
    """Tombola's."""
    viewer: Viewer
    window_s: Count
    """60, 300 or 900: the shortest that holds what was asked for."""
    covered_s: float
    """What the history holds of it; 0: less than two samples yet, all numbers are unknown or zero."""
    sample_s: float
    """How often processes are asked."""
    problems: list[Problem]
    total: Traffic | None
    """All tenants together, also what no tenant's key came with. Operators only."""
    tenants: list[TenantRow]
    flows: list[Flow]
    families: list[Family]
    workers: list[WorkerRow]
    """Operators only: else empty, as ``gateways``."""
    gateways: list[GatewayRow]
    control: Control
    events: list[Event]
    """The last 50, newest first; a tenant's own for its ``register`` and ``admin`` keys, none for ``call``."""
    are_events_fresh: bool
    """False: Redis did not answer; these are the last ones that were read."""
