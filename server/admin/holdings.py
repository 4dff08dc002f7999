"""Holdings: which tickets a tenant has registered, and how many more it may. Pure: what stands in, answers out.

Owns how a quota is counted: the tickets of the families that the tenant's own registrations made, once for each domain
(each is a row of the table), their bytes once (each is one file). A family that several tenants share counts for none
of them. Who may ask belongs to `server.admin.rights`.
"""

import msgspec

from routing.account import Limits
from routing.table import FamilyTicket, Table, Tenant
from server.admin.edits import Standing
from server.errors import ApiError, TicketQuota, TooLarge


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant may still register. Sizes in bytes."""

    limits: Limits
    tickets: int
    bytes: int
    """What it has already."""

    def limit(self, most_bytes: int) -> int:
        """The largest bundle that still fits, of at most ``most_bytes``."""
        if self.limits.ticket_bytes is None:
            return most_bytes
        return max(0, min(most_bytes, self.limits.ticket_bytes - self.bytes))

    def too_much(self, most_bytes: int) -> ApiError:
        """What is said of a bundle that is larger than `limit`."""
        if self.limit(most_bytes) == most_bytes:
            return TooLarge(f"the bundle has more than {most_bytes} bytes, the most that one may have")
        return TicketQuota(
            f"the tenant's tickets have {self.bytes} of {self.limits.ticket_bytes} bytes, and this one does not fit "
            "beside them: retire some, or ask the operators for more"
        )

    def check(self, size: int, most_bytes: int) -> None:
        """Raise TicketQuota or TooLarge where another bundle of ``size`` bytes may not be registered."""
        if self.tickets >= self.limits.tickets:
            raise TicketQuota(
                f"the tenant has {self.tickets} of {self.limits.tickets} tickets: retire some, or ask the operators"
            )
        if size > self.limit(most_bytes):
            raise self.too_much(most_bytes)


def room(standing: Standing, tenant: str) -> Room:
    """What a tenant may still register. Raises UnknownTenant."""
    limits = standing.account(tenant).limits
    own = registered(standing.table, tenant)
    return Room(limits=limits, tickets=len(own), bytes=sum({ticket.id: ticket.bytes for ticket in own}.values()))


def registered(table: Table, tenant: str) -> list[FamilyTicket]:
    """The tickets that a tenant has registered, once for each domain: those of its own families, whether a domain uses
    them or not, but for those that came into one with a copy of a shared family (they have no ``bytes``)."""
    return [ticket for ticket in table.registered_by.get(tenant, ()) if ticket.bytes]


def find(table: Table, tenant: str, ticket: str, domain: str | None = None) -> tuple[str, FamilyTicket] | None:
    """The domain where a tenant has this very ticket, and the ticket's row; ``domain``: look only there."""
    for name, row in held(table, tenant):
        if row.id == ticket and domain in (None, name):
            return name, row
    return None


def held(table: Table, tenant: str) -> list[tuple[str, FamilyTicket]]:
    """Every ticket that may answer the tenant, with its domain, by domain and then by cost."""
    domains = table.tenants[tenant].domains if tenant in table.tenants else {}
    return [(name, ticket) for name in sorted(domains) for ticket in table.families.get(domains[name].family, [])]


def with_row(table: Table, tenant: str) -> Table:
    """The same table with a row for the tenant, which may have had an account only."""
    if tenant in table.tenants:
        return table
    return msgspec.structs.replace(table, tenants={**table.tenants, tenant: Tenant()})


def is_own(table: Table, tenant: str, domain: str) -> bool:
    """Whether a domain's family was made by the tenant's own registrations."""
    return table.tenants[tenant].domains[domain].family.startswith(f"{tenant}/")
