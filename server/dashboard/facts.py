"""What an overview is made from besides the numbers: the documents in use and the state of this gateway, frozen.

Owns the type, and who has been using a ticket lately: numbers by ticket are a tenant's to see only where it alone has.
"""

from collections.abc import Mapping

import msgspec

from routing.account import Account
from routing.event import Event
from routing.table import Table
from server.labels import TICKET_DIGITS
from server.overseer import CanaryStanding


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One moment. Nobody changes the mappings."""

    at: float
    """Seconds since 1970."""
    version: str
    gateway: str
    """The name of the one that answers."""
    table: Table | None = None
    accounts: Mapping[str, Account] = {}
    workers: int = 0
    """That this gateway is linked to."""
    not_ready: str = ""
    """Why this gateway cannot serve now."""
    redis_away_s: float | None = None
    """None: it answers."""
    missing: frozenset[str] = frozenset()
    """Tickets of the table that the registry cannot give."""
    standings: Mapping[tuple[str, str], CanaryStanding] = {}
    """Of canaries, by tenant and domain, as far as they could be asked for."""
    users: Mapping[str, frozenset[str]] = {}
    """The tenants that have used a ticket within the history, by the label of the ticket."""
    events: list[Event] = []
    are_events_fresh: bool = True


def label_of(ticket: str) -> str:
    """A ticket as metrics name it."""
    return ticket[:TICKET_DIGITS]


class Users:
    """Remembers who might have used which ticket."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._seen: dict[str, dict[str, float]] = {}

    def see(self, table: Table, at: float) -> Mapping[str, frozenset[str]]:
        """``table`` is in use at ``at``: the tenants by ticket, those of the last while included."""
        for name, tenant in table.tenants.items():
            for domain in tenant.domains.values():
                for ticket in table.families.get(domain.family, ()):
                    self._seen.setdefault(label_of(ticket.id), {})[name] = at
        for label, tenants in list(self._seen.items()):
            kept = {name: last for name, last in tenants.items() if last >= at - self._keep_s}
            if kept:
                self._seen[label] = kept
            else:
                del self._seen[label]
        return {label: frozenset(tenants) for label, tenants in self._seen.items()}
