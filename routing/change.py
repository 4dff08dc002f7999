"""The change: everything that one act of the control plane replaces, to be committed whole or not at all.

Owns the type. `routing.store.Store.commit` carries it out in one atomic step, or raises `VersionConflict` where
somebody else has changed the table or one of the accounts meanwhile.
"""

import msgspec

from routing.account import Account
from routing.event import Event
from routing.table import Table


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is to stand afterwards. Versions inside the documents are those they were *read* with."""

    event: Event
    table: Table | None = None
    """The new table; ``table.version`` is still that of the table it was made from (0: there is none yet)."""
    accounts: tuple[Account, ...] = ()
    """New contents of accounts; ``version`` still the one that was read (0: the account must not exist yet)."""
    gone: tuple[Account, ...] = ()
    """Accounts to delete, as they were read."""
    reports: dict[tuple[str, str], bytes | None] = {}
    """(tenant, ticket id) -> the report of its registration as JSON; None: forget it."""


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """What now stands: the documents with their new versions, the event with its id and time."""

    event: Event
    table: Table | None = None
    accounts: tuple[Account, ...] = ()
