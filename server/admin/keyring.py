"""The keyring: a tenant's keys made, rotated and deleted. Pure but for the randomness of a new key.

Owns what may be done to keys, over both places where they stand: the account, and the routing table, whose authored
documents may give a tenant keys that call. Whoever writes an account through here drops its expired keys. Rights and
HTTP belong to `server.admin.keys_api`, what a key is to `routing.access`.
"""

import msgspec

from routing.access import KEY_ID_DIGITS, make_key
from routing.account import OPERATOR, Account, ApiKey, Role
from routing.table import Tenant
from server.errors import Conflict, UnknownKey

MAX_KEYS = 256
IN_TABLE = "in the routing table"
"""The label under which a key that an authored table gives is shown."""

replace = msgspec.structs.replace


class Ring(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's keys, in both places. ``row`` is None for the operators, and where the table has no such tenant."""

    account: Account
    row: Tenant | None = None

    def keys(self, now: float) -> list[ApiKey]:
        """Every key that has not expired at ``now`` (seconds since 1970), those of the table last."""
        return [*_alive(self.account, now), *map(_of_table, self.row.key_hashes if self.row is not None else ())]

    def find(self, key_id: str, now: float) -> ApiKey:
        """The key with this id. Raises UnknownKey."""
        for key in self.keys(now):
            if key.id == key_id:
                return key
        raise UnknownKey("there is no such key; GET the list of keys for those that there are")


def pruned(account: Account, now: float) -> Account:
    """The same account without the keys that have expired."""
    alive = _alive(account, now)
    return account if alive == account.keys else replace(account, keys=alive)


def add(ring: Ring, role: Role, now: float, *, label: str, expires_in_s: float | None) -> tuple[Ring, str, ApiKey]:
    """With a new key; also the key itself, and what is kept of it. Raises Conflict where there are too many."""
    alive = _alive(ring.account, now)
    if len(alive) >= MAX_KEYS:
        raise Conflict(f"there are {MAX_KEYS} keys already; delete some first")
    expires_at = None if expires_in_s is None else now + expires_in_s
    key, kept = make_key(role, now, label=label, expires_at=expires_at)
    return replace(ring, account=replace(ring.account, keys=[*alive, kept])), key, kept


def rotate(ring: Ring, key_id: str, now: float, *, grace_s: float) -> tuple[Ring, str, ApiKey]:
    """With another key in the place of this one, which lives on for ``grace_s`` seconds.

    The new key has the old one's role and label, and lives as long as that was made to live. Raises UnknownKey,
    Conflict.
    """
    old = ring.find(key_id, now)
    lifetime_s = None if old.expires_at is None else max(1.0, old.expires_at - old.created_at)
    rest = _without(ring, old, now)
    if grace_s > 0:
        ends_at = now + grace_s if old.expires_at is None else min(old.expires_at, now + grace_s)
        kept = [*rest.account.keys, replace(old, expires_at=ends_at)]
        rest = replace(rest, account=replace(rest.account, keys=kept))
    return add(rest, old.role, now, label=old.label, expires_in_s=lifetime_s)


def remove(ring: Ring, key_id: str, now: float, *, may_remove_last: bool) -> tuple[Ring, ApiKey]:
    """Without this key, and what it was. Raises UnknownKey; Conflict for the last one that can make others."""
    old = ring.find(key_id, now)
    rest = _without(ring, old, now)
    is_operator = ring.account.name == OPERATOR
    leads = is_operator or old.role == "admin"
    if leads and not may_remove_last and not any(is_operator or key.role == "admin" for key in rest.keys(now)):
        raise Conflict(
            "this is the last operator's key; make another one first"
            if is_operator
            else "this is the tenant's last admin key; make another one first, or ask an operator"
        )
    return rest, old


def _alive(account: Account, now: float) -> list[ApiKey]:
    return [key for key in account.keys if key.expires_at is None or now < key.expires_at]


def _without(ring: Ring, old: ApiKey, now: float) -> Ring:
    row = ring.row
    if row is not None and old.hash in row.key_hashes:
        row = replace(row, key_hashes=[digest for digest in row.key_hashes if digest != old.hash])
    keys = [key for key in _alive(ring.account, now) if key.hash != old.hash]
    return replace(ring, account=replace(ring.account, keys=keys), row=row)


def _of_table(digest: str) -> ApiKey:
    return ApiKey(id=digest[:KEY_ID_DIGITS], hash=digest, role="call", label=IN_TABLE)
