"""The doorman: who sends a request, and whether they may come in. One per gateway.

Owns the access snapshot, made anew from the table and the accounts whenever one of them is replaced, and the refusals
that come of it. Where a key stands in a request belongs to `server.edge`, what keys and roles are to `routing.access`.
"""

import time
from collections.abc import Callable, Mapping

from routing.access import Access, Caller
from routing.account import OPERATOR, Account, Role
from routing.table import Table
from server import edge
from server.errors import Forbidden, NotReady, Suspended, Unauthorized


class Doorman:
    """Lets callers in by their key."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.accounts: Mapping[str, Account] = {}
        """The accounts in use; nobody changes the mapping."""
        self.table: Table | None = None
        self._access = Access(None, {})
        self._clock = clock

    def use_table(self, table: Table) -> None:
        """Use ``table`` for every request from now on."""
        self.table = table
        self._access = Access(table, self.accounts)

    def use_accounts(self, accounts: Mapping[str, Account]) -> None:
        """Use ``accounts`` for every request from now on."""
        self.accounts = accounts
        self._access = Access(self.table, accounts)

    def account(self, tenant: str) -> Account:
        """A tenant's account; where it has none of its own, one without keys, limits or gates."""
        return self.accounts.get(tenant) or Account(name=tenant)

    def caller(self, headers: edge.Headers) -> Caller:
        """Whose key the request carries. Raises Unauthorized, Suspended, NotReady."""
        key = edge.key_of(headers)
        caller = self._access.find(key, self._clock())
        if caller is None:
            if self.table is None and OPERATOR not in self.accounts:
                raise NotReady("no routing table has been published yet", retry_after_s=1.0)
            raise Unauthorized("this API key is not known")
        if caller.tenant in self._access.suspended:
            raise Suspended("this tenant is suspended; ask the operators of this installation")
        return caller

    def tenant(self, headers: edge.Headers, role: Role = "call") -> str:
        """The tenant that calls, whose key must have ``role``. Raises Forbidden, and as `caller` does."""
        caller = self.caller(headers)
        if caller.tenant is None:
            raise Forbidden("an operator's key does not call: use a key of a tenant")
        if not caller.may(role):
            raise Forbidden(f"this key's role is {caller.role!r}; this needs {role!r}")
        return caller.tenant
