"""Access: whose key this is, and what it may do. Pure: two documents and a clock's reading in, a caller out.

Owns how a key names its tenant and role. A key carries 256 random bits, so who does not have it learns nothing from
how long a look-up by a prefix of its hash takes; the whole hash is then compared in constant time. How keys are
written and hashed belongs to `routing.keys`; what a role is, to `routing.account`.
"""

import hmac
from collections.abc import Mapping
from typing import Literal

import msgspec

from routing.account import OPERATOR, ROLES, Account, ApiKey, Role
from routing.keys import key_hash, new_key
from routing.table import Table

KEY_ID_DIGITS = 12
_PREFIX_DIGITS = 16
_NOBODY = "0" * 64

Right = Role | Literal["operator"]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends a request. An operator has no tenant and may do everything but call."""

    tenant: str | None
    role: Right
    key_id: str

    @property
    def actor(self) -> str:
        """As the audit log names it."""
        return f"operator/{self.key_id}" if self.tenant is None else f"tenant/{self.tenant}/{self.key_id}"

    def may(self, role: Role) -> bool:
        """Whether this caller's role includes ``role``."""
        return self.role == "operator" or ROLES.index(self.role) >= ROLES.index(role)


class _Credential(msgspec.Struct, frozen=True, kw_only=True):
    hash: str
    expires_at: float | None
    caller: Caller


class Access:
    """Every key of one table and its accounts. Made anew when either changes; asked on every request."""

    def __init__(self, table: Table | None, accounts: Mapping[str, Account]) -> None:
        self.suspended = frozenset(name for name, account in accounts.items() if account.is_suspended)
        """The tenants whose keys are known but answered with nothing."""
        self._credentials: dict[str, _Credential] = {}
        for name, tenant in (table.tenants if table is not None else {}).items():
            for digest in tenant.key_hashes:
                self._add(digest, None, Caller(tenant=name, role="call", key_id=digest[:KEY_ID_DIGITS]))
        for name, account in accounts.items():
            for key in account.keys:
                caller = (
                    Caller(tenant=None, role="operator", key_id=key.id)
                    if name == OPERATOR
                    else Caller(tenant=name, role=key.role, key_id=key.id)
                )
                self._add(key.hash, key.expires_at, caller)

    def find(self, key: str, now: float) -> Caller | None:
        """Whose key this is; None for one that nobody has, or that has expired. ``now``: seconds since 1970."""
        digest = key_hash(key)
        found = self._credentials.get(digest[:_PREFIX_DIGITS])
        is_right = hmac.compare_digest(digest, found.hash if found is not None else _NOBODY)
        if found is None or not is_right or (found.expires_at is not None and now >= found.expires_at):
            return None
        return found.caller

    def _add(self, digest: str, expires_at: float | None, caller: Caller) -> None:
        self._credentials[digest[:_PREFIX_DIGITS]] = _Credential(hash=digest, expires_at=expires_at, caller=caller)


def make_key(role: Role, now: float, *, label: str = "", expires_at: float | None = None) -> tuple[str, ApiKey]:
    """A fresh key, to be shown once, and what is kept of it. ``now``: seconds since 1970."""
    key = new_key()
    return key, key_of(role, key, now, label=label, expires_at=expires_at)


def key_of(role: Role, key: str, now: float, *, label: str = "", expires_at: float | None = None) -> ApiKey:
    """What is kept of a key that exists already."""
    digest = key_hash(key)
    return ApiKey(id=digest[:KEY_ID_DIGITS], hash=digest, role=role, label=label, created_at=now, expires_at=expires_at)
