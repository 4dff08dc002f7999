"""What the admin routes show of tenants, keys, events and the table: frozen documents, never a whole hash.

Owns the answers' shapes, from which the OpenAPI schemas are made, and how they are filled from what stands. The bodies
of requests stand beside the routes that read them.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from routing.access import Right
from routing.account import ApiKey, Limits, Policy
from routing.diff import Difference
from routing.event import Event
from routing.table import Tenant
from server.admin import holdings
from server.admin.edits import Standing
from server.admin.keyring import Ring


class TenantView(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant: its account, and its share of the table."""

    tenant: str
    version: int
    """Of its account, which every change of the account or its keys counts up: what `ETag` and `If-Match` name."""
    is_suspended: bool
    limits: Limits
    policy: Policy
    weight: float
    reserved_bytes: int
    domains: list[str]
    keys: int
    """How many of its keys have not expired."""
    tickets: int
    """How many tickets stand registered in its name, and the bytes of all of them: what its quota is for."""
    ticket_bytes: int
    created_at: float
    """Seconds since 1970; 0 where it has only ever stood in the table."""


class TenantMade(TenantView, frozen=True, kw_only=True):
    """A tenant that has just been made, with its first key."""

    key: str
    """An admin key. It is shown this once and kept nowhere."""
    key_id: str


class TenantList(msgspec.Struct, frozen=True, kw_only=True):
    """The tenants that the caller may see, by name."""

    tenants: list[TenantView]


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key as anybody may see it."""

    id: str
    role: Right
    label: str
    created_at: float
    """Seconds since 1970; 0 where an authored table gives the key."""
    expires_at: float | None = None


class KeyMade(KeyView, frozen=True, kw_only=True):
    """A key that has just been made."""

    key: str
    """It is shown this once and kept nowhere."""


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that have not expired, in the order in which they were made; then those of an authored table."""

    keys: list[KeyView]


class EventList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the audit log, newest first."""

    events: list[Event]
    next: str | None = None
    """What to send as ``before`` for the page after this one; absent: there is none."""


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What has been deleted."""

    deleted: str


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a document could become the table, everything that keeps it from that, and what it would change."""

    valid: bool
    problems: list[str]
    differences: list[Difference] = []


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A table that has just become the standing one."""

    version: int
    differences: list[Difference]


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """What leads from one version of the table to another."""

    before: int
    after: int
    differences: list[Difference]


def tenant_view(standing: Standing, name: str, now: float) -> TenantView:
    """A tenant that stands. ``now``: seconds since 1970. Raises UnknownTenant."""
    return TenantView(**tenant_fields(standing, name, now))


def tenant_fields(standing: Standing, name: str, now: float) -> dict[str, Any]:
    """The members of a `TenantView`. Raises UnknownTenant."""
    account, row = standing.account(name), standing.table.tenants.get(name) or Tenant()
    held = holdings.room(standing, name)
    return {
        "tenant": name,
        "version": account.version,
        "is_suspended": account.is_suspended,
        "limits": account.limits,
        "policy": account.policy,
        "weight": row.weight,
        "reserved_bytes": row.reserved_bytes,
        "domains": sorted(row.domains),
        "keys": len(Ring(account=account, row=row).keys(now)),
        "tickets": held.tickets,
        "ticket_bytes": held.bytes,
        "created_at": account.created_at,
    }


def key_fields(key: ApiKey, *, is_operators: bool) -> dict[str, Any]:
    """The members of a `KeyView`."""
    role = "operator" if is_operators else key.role
    return {
        "id": key.id, "role": role, "label": key.label, "created_at": key.created_at, "expires_at": key.expires_at,
    }  # fmt: skip


def key_list(keys: Iterable[ApiKey], *, is_operators: bool) -> KeyList:
    """Keys as they may be seen."""
    return KeyList(keys=[KeyView(**key_fields(key, is_operators=is_operators)) for key in keys])
