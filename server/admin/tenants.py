"""Tenants made, changed and deleted. Pure: what stands and what is wanted in, a change with its event out.

Owns the bodies that say what is wanted, what each act replaces, and what the audit log is told: never a key, only its
id. Rights, HTTP and the commit belong to `server.admin.tenants_api` and `server.admin.edits`.
"""

import base64
import binascii
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from routing.access import Caller
from routing.account import Account, ApiKey, Limits, Policy
from routing.change import Change
from routing.event import Event
from routing.restore import TENANT_CREATED, TENANT_DELETED
from routing.table import Name, Tenant
from server.admin.edits import Standing
from server.admin.holdings import with_row
from server.admin.keyring import pruned
from server.errors import BadRequest, Conflict

Weight = Annotated[float, Meta(ge=0.01, le=1000.0)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 50)]
Reason = Annotated[str, Meta(max_length=2000)]

PUBLIC_KEY_BYTES = 32
_PARTS = ("limits", "policy")
replace = msgspec.structs.replace


class NewTenant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tenant to be made."""

    name: Name
    weight: Weight = 1.0
    reserved_bytes: Bytes = 0
    limits: Limits = Limits()
    policy: Policy = Policy()


class TenantChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be otherwise about a tenant; what is absent stays as it is.

    Of limits and policy, members that are absent stay too, and null takes a limit or a gate away.
    """

    is_suspended: bool | UnsetType = UNSET
    limits: Limits | UnsetType = UNSET
    policy: Policy | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    reserved_bytes: Bytes | UnsetType = UNSET
    reason: Reason = ""
    """For the audit log."""


def creation(standing: Standing, wanted: NewTenant, key: ApiKey, caller: Caller, now: float) -> Change:
    """A tenant with its first key. Raises Conflict where there is one of this name, BadRequest."""
    check_signers(wanted.policy)
    if standing.has(wanted.name):
        raise Conflict(f"there is a tenant '{wanted.name}' already: change it with PATCH, or choose another name")
    row = Tenant(weight=wanted.weight, reserved_bytes=wanted.reserved_bytes)
    account = Account(name=wanted.name, limits=wanted.limits, policy=wanted.policy, keys=[key], created_at=now)
    after = {name: msgspec.to_builtins(getattr(wanted, name)) for name in wanted.__struct_fields__} | {"key": key.id}
    return Change(
        event=Event(
            action=TENANT_CREATED, actor=caller.actor, tenant=wanted.name, subject=wanted.name, after=after
        ),
        table=replace(standing.table, tenants={**standing.table.tenants, wanted.name: row}),
        accounts=(account,),
    )  # fmt: skip


def alteration(standing: Standing, name: str, wanted: TenantChange, given: dict[str, Any], now: float) -> Change:
    """The change that ``wanted`` asks for; ``given`` is the same body as it came, to tell null from absent.

    The event still lacks its actor's name: see `by`. Raises UnknownTenant, BadRequest.
    """
    account = standing.account(name)
    row = standing.table.tenants.get(name) or Tenant()
    parts = {part: _merged(getattr(account, part), given[part], part) for part in _PARTS if part in given}
    if "policy" in parts:
        check_signers(parts["policy"])
    if wanted.is_suspended is not UNSET:
        parts["is_suspended"] = wanted.is_suspended
    shares = {
        part: value for part in ("weight", "reserved_bytes") if (value := getattr(wanted, part)) is not UNSET
    }  # fmt: skip
    new, new_row = replace(pruned(account, now), **parts), replace(row, **shares)
    before = {part: msgspec.to_builtins(getattr(account, part)) for part in parts}
    before |= {part: getattr(row, part) for part in shares}
    after = {part: msgspec.to_builtins(getattr(new, part)) for part in parts} | shares
    table = with_row(standing.table, name) if shares else None
    if table is not None:
        table = replace(table, tenants={**table.tenants, name: new_row})
    event = Event(
        action=_action(account, new), actor="", tenant=name, subject=name, before=before, after=after,
        reason=wanted.reason,
    )  # fmt: skip
    return Change(event=event, table=table, accounts=(new,))


def deletion(standing: Standing, name: str, *, force: bool) -> Change:
    """Without the tenant, its keys, its routes, and the families that its registrations made.

    The event still lacks its actor's name: see `by`. Raises UnknownTenant; Conflict where it answers requests and
    nobody forces it.
    """
    account, table = standing.account(name), standing.table
    row = table.tenants.get(name) or Tenant()
    answering = [
        domain
        for domain, of in sorted(row.domains.items())
        if any(ticket.state == "promoted" for ticket in table.families.get(of.family, ()))
    ]
    if answering and not force:
        raise Conflict(
            f"tenant '{name}' answers requests with promoted tickets in {', '.join(answering[:8])}: retire them first, "
            "or send force=true"
        )
    families = {family: held for family, held in table.families.items() if not family.startswith(f"{name}/")}
    own = sorted({ticket.id for family, held in table.families.items() if family not in families for ticket in held})
    tenants = {other: of for other, of in table.tenants.items() if other != name}
    before = {"domains": sorted(row.domains), "tickets": own, "keys": len(account.keys) + len(row.key_hashes)}
    return Change(
        event=Event(action=TENANT_DELETED, actor="", tenant=name, subject=name, before=before),
        table=replace(table, families=families, tenants=tenants) if name in table.tenants or own else None,
        gone=(account,) if account.version else (),
        reports=dict.fromkeys((name, ticket) for ticket in own),
    )


def by(caller: Caller, change: Change) -> Change:
    """The change, with who makes it in its event."""
    return replace(change, event=replace(change.event, actor=caller.actor))


def check_signers(policy: Policy) -> None:
    """Raise BadRequest unless every signer is a public key: 32 bytes in base64."""
    for name, key in policy.signers.items():
        try:
            size = len(base64.b64decode(key + "=" * (-len(key) % 4), validate=True))
        except (binascii.Error, ValueError):
            size = 0
        if size != PUBLIC_KEY_BYTES:
            raise BadRequest(
                f"policy.signers.{name} is not an Ed25519 public key ({PUBLIC_KEY_BYTES} bytes, base64): "
                "`tombola keys show` prints one"
            )


def _merged(standing: Limits | Policy, given: object, part: str) -> Any:  # noqa: ANN401
    """``standing`` with the members of ``given``."""
    assert isinstance(given, dict)  # the body has been read as a TenantChange
    try:
        return msgspec.convert(msgspec.to_builtins(standing) | given, type(standing))
    except msgspec.ValidationError as error:
        raise BadRequest(f"{part} is not as it should be: {error}") from error


def _action(old: Account, new: Account) -> str:
    if new.is_suspended == old.is_suspended:
        return "tenant.change"
    return "tenant.suspend" if new.is_suspended else "tenant.resume"
