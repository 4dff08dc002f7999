"""The account: what the control plane knows of a tenant beside its routes: keys, limits, policy, suspension.

Owns the types. Routes (domains, families, shares of a busy worker) are the table's; an account is not part of the
table, so that restoring an earlier table brings no revoked key back. Plain data: no I/O, no clock.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from routing.table import Fraction, KeyHash, Milliseconds, Name

OPERATOR = "@operator"
"""The account that holds the operators' keys; no tenant can have this name."""

AccountName = Annotated[str, Meta(pattern=r"^(@operator|[a-z0-9][a-z0-9_.-]{0,63})\Z")]
KeyId = Annotated[str, Meta(pattern=r"^[0-9a-f]{12}\Z")]
Seconds = Annotated[float, Meta(ge=0.0, le=1e11)]
"""Since 1970, UTC."""

Role = Literal["call", "register", "admin"]
ROLES: tuple[Role, ...] = ("call", "register", "admin")
"""What a tenant's key may do; each role may do all that stands before it."""


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One API key of a tenant. The key itself is shown once, when it is made; only its hash is kept."""

    id: KeyId
    hash: KeyHash
    role: Role = "call"
    label: Annotated[str, Meta(max_length=64)] = ""
    created_at: Seconds = 0.0
    expires_at: Seconds | None = None
    """From this moment on it is as unknown as one that nobody has."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a tenant may use, over all gateways together; None is no limit."""

    rate_per_s: Annotated[float, Meta(ge=0.001, le=1e6)] | None = None
    """At least 3.6 an hour: for less there is ``daily_requests``, and times to wait stay numbers."""
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Requests that may come at once after a quiet while; absent: one second's worth, at least 1."""
    concurrency: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Requests in flight at the same time."""
    daily_requests: Annotated[int, Meta(ge=1, le=1 << 50)] | None = None
    """Requests of one day, which begins at midnight UTC."""
    ticket_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] | None = 4 << 30
    """Bytes of all its registered tickets together."""
    tickets: Annotated[int, Meta(ge=0, le=10_000)] = 200


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a ticket must show before this tenant may serve it. None is no gate."""

    requires_signature: bool = False
    signers: dict[Name, Annotated[str, Meta(min_length=43, max_length=44)]] = {}
    """Ed25519 public keys (32 bytes, base64) whose signatures are accepted, by the signer's name."""
    requires_evidence: bool = False
    """Whether a bundle must carry an evidence set, so that its claims are measured and not believed."""
    min_quality: Fraction | None = None
    max_loss: Fraction | None = None
    """In-scope accuracy that it may lose against its dense parent on the evidence set."""
    max_calibration_error: Fraction | None = None
    min_out_of_scope_recall: Fraction | None = None
    max_service_ms: Milliseconds | None = None
    """One row alone, as profiled on this host."""
    max_resident_bytes: Annotated[int, Meta(ge=1, le=1 << 50)] | None = None


class Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tenant as the control plane knows it. ``version`` counts its changes, for optimistic concurrency."""

    name: AccountName
    version: Annotated[int, Meta(ge=0)] = 0
    """0: it has never been stored."""
    is_suspended: bool = False
    """Its keys are known, but nothing is answered and nothing may be changed by it."""
    keys: Annotated[list[ApiKey], Meta(max_length=256)] = []
    limits: Limits = Limits()
    policy: Policy = Policy()
    created_at: Seconds = 0.0
