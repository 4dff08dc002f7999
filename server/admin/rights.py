"""Rights on the admin routes: whose key a request carries, and whether it may do this to that tenant.

Owns the rule that nobody learns of another tenant: a tenant's key gets the same `unknown_tenant` on every path that
is not its own, whether somebody stands there or nobody does. Asking costs no round trip, because it runs on every
request; whether the tenant of an operator's request exists, and whether the key still stands, is looked up in
what has just been read (`still_stands`, `server.admin.edits`). What roles are belongs to `routing.account`.
"""

from fastapi import Request

from routing.access import KEY_ID_DIGITS, Caller
from routing.account import OPERATOR, Account, Role
from routing.table import Table
from server.errors import Forbidden, Suspended, Unauthorized, UnknownTenant
from server.gateway import Gateway

MAX_ECHO = 64


def unknown_tenant(name: str) -> UnknownTenant:
    """The one wording for a tenant that does not exist, or that this key may not know of."""
    return UnknownTenant(f"there is no tenant '{name[:MAX_ECHO]}' that this key may know of")


def anyone(gateway: Gateway, request: Request) -> Caller:
    """Whoever has a key that stands. Raises Unauthorized, Suspended, NotReady."""
    return gateway.caller(dict(request.scope["headers"]))


def operator(gateway: Gateway, request: Request) -> Caller:
    """An operator. Raises Forbidden for the keys of tenants, and as `anyone` does."""
    caller = anyone(gateway, request)
    if caller.tenant is not None:
        raise Forbidden("this is for the operators of the installation")
    return caller


def authorize(gateway: Gateway, request: Request, tenant: str, role: Role) -> Caller:
    """Who may do to ``tenant`` what ``role`` allows: an operator, or one of its own keys.

    A tenant's changes are paced. Raises UnknownTenant for any tenant that is not the caller's own, Forbidden,
    RateLimited, and as `anyone` does. For an
    operator the tenant may not exist: `server.admin.edits.Standing.account` says so.
    """
    caller = anyone(gateway, request)
    if caller.tenant is not None:
        if caller.tenant != tenant:
            raise unknown_tenant(tenant)
        if not caller.may(role):
            raise Forbidden(f"this key's role is {caller.role!r}; this needs {role!r}")
        if request.method not in ("GET", "HEAD"):
            gateway.pace.take(tenant)
    return caller


def still_stands(caller: Caller, table: Table, account: Account | None, now: float) -> None:
    """Check a caller against documents that have just been read: a key that was revoked a moment ago changes nothing.

    ``account`` is the caller's own (`OPERATOR`'s for an operator), ``now`` in seconds since 1970. Raises
    Unauthorized, Suspended.
    """
    if account is not None:
        if account.is_suspended and account.name != OPERATOR:
            raise Suspended("this tenant is suspended; ask the operators of this installation")
        for key in account.keys:
            if key.id == caller.key_id and (key.expires_at is None or now < key.expires_at):
                return
    row = table.tenants.get(caller.tenant) if caller.tenant is not None else None
    if row is None or all(digest[:KEY_ID_DIGITS] != caller.key_id for digest in row.key_hashes):
        raise Unauthorized("this API key is not known any more")
