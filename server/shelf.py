"""The shelf: which tickets stay in a bounded memory, and which leave for others. Pure: no clock, no sessions.

Owns the accounts: a ticket's own bytes, and parts that several tickets share, counted once. Owns the
choice of who leaves: the ticket that is worth least by GreedyDual-Size (Cao & Irani, "Cost-Aware WWW
Proxy Caching Algorithms", USITS 1997, section 4), within what tenants have reserved. A ticket's worth
is H = L + reload_ms / bytes, set anew at every use, where L is the worth of the last that had to
leave: so cheap, large and long unused tickets go first, and nothing stays for ever on its price alone.
"""

from collections.abc import Mapping

import msgspec


class Item(msgspec.Struct, kw_only=True, eq=False):
    """A ticket on the shelf. Only the shelf changes it."""

    ticket: str
    own_bytes: int
    parts: dict[str, int]
    """Bytes of what it shares, or might share, with others, by their keys."""
    worth_per_use: float
    worth: float = 0.0
    used: int = 0
    tenant: str = ""
    """Who used it last."""


class Shelf:
    """The tickets in memory, by id. Not thread-safe: the caller holds a lock."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        """Of all tickets; what they share counts once."""
        self._items: dict[str, Item] = {}
        self._users: dict[str, int] = {}
        self._reserved: dict[str, int] = {}
        self._inflation = 0.0
        self._uses = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, ticket: str) -> bool:
        return ticket in self._items

    def put(self, ticket: str, *, own_bytes: int, parts: Mapping[str, int], reload_ms: float, tenant: str = "") -> None:
        """Account for a ticket that is not here yet. `make_room` is the caller's to call."""
        assert ticket not in self._items
        size = own_bytes + sum(size // (self._users.get(part, 0) + 1) for part, size in parts.items())
        item = Item(ticket=ticket, own_bytes=own_bytes, parts=dict(parts), worth_per_use=reload_ms / max(1, size))
        self._items[ticket] = item
        self.used_bytes += own_bytes
        for part, part_bytes in item.parts.items():
            users = self._users.get(part, 0)
            self._users[part] = users + 1
            self.used_bytes += 0 if users else part_bytes
        self.use(ticket, tenant)

    def use(self, ticket: str, tenant: str = "") -> None:
        """Note that ``tenant`` uses a ticket, if it is here; "" leaves it whose it was."""
        item = self._items.get(ticket)
        if item is not None:
            self._uses += 1
            item.used = self._uses
            item.worth = self._inflation + item.worth_per_use
            if tenant:
                item.tenant = tenant

    def remove(self, ticket: str) -> None:
        """Take a ticket off."""
        item = self._items.pop(ticket)
        self.used_bytes -= item.own_bytes
        for part, part_bytes in item.parts.items():
            self._users[part] -= 1
            if not self._users[part]:
                del self._users[part]
                self.used_bytes -= part_bytes

    def reserve(self, shares: Mapping[str, int]) -> None:
        """Bytes by tenant; replaces what was said before."""
        self._reserved = {tenant: size for tenant, size in shares.items() if size > 0}

    def fits(self, size: int) -> bool:
        """Whether so many more bytes fit beside all that is here."""
        return self.used_bytes + size <= self.capacity_bytes

    def make_room(self, size: int, *, tenant: str = "", keep: str = "") -> list[str] | None:
        """Take off the tickets worth least until ``size`` more bytes fit; their ids, or None, and nothing
        has changed, where not enough may leave.

        Neither ``keep`` nor what others than ``tenant`` have reserved (see `reserved`) is taken.
        """
        if self.fits(size):
            return []
        stay = self._reserved_by_others(tenant) | {keep}
        gone: list[str] = []
        missing = self.used_bytes + size - self.capacity_bytes
        users = dict[str, int]()
        inflation = self._inflation
        for item in sorted(self._items.values(), key=lambda item: (item.worth, item.used)):
            if missing <= 0:
                break
            if item.ticket in stay:
                continue
            gone.append(item.ticket)
            inflation = max(inflation, item.worth)
            missing -= item.own_bytes
            for part, part_bytes in item.parts.items():
                users[part] = users.get(part, self._users[part]) - 1
                missing -= 0 if users[part] else part_bytes
        if missing > 0:
            return None
        for ticket in gone:
            self.remove(ticket)
        self._inflation = inflation
        return gone

    def reserved(self, tenant: str) -> list[str]:
        """Of the tickets that ``tenant`` used last, those worth most that its reservation covers."""
        left = self._reserved.get(tenant, 0)
        own = [item for item in self._items.values() if item.tenant == tenant]
        covered: list[str] = []
        seen: set[str] = set()
        for item in sorted(own, key=lambda item: (-item.worth, -item.used)):
            size = item.own_bytes + sum(size for part, size in item.parts.items() if part not in seen)
            if size <= left:
                left -= size
                seen |= item.parts.keys()
                covered.append(item.ticket)
        return covered

    def _reserved_by_others(self, tenant: str) -> set[str]:
        return {ticket for other in self._reserved if other != tenant for ticket in self.reserved(other)}
