"""The restoration of an earlier table: its families and domains, over the tenants and keys of today.

Pure. Owns what comes back and what does not: keys never, because one of them may have been revoked since; nor a tenant
that has been deleted since, even where another one has been made under its name. Publishing the result belongs to
`server.admin.table_api` and `tombola route restore`.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence

import msgspec

from routing.event import Event
from routing.table import FamilyTicket, Table, Tenant

TENANT_CREATED, TENANT_DELETED = "tenant.create", "tenant.delete"
"""The events that begin and end a tenant."""


async def ended_since(version: int, page: Callable[[str | None], Awaitable[Sequence[Event]]]) -> frozenset[str] | None:
    """The tenants that have been made or deleted since a table's ``version``; None where the log does not say.

    ``page(before)`` gives events, newest first: the newest there are, or those before the event with that id. No more
    pages are asked for than it takes to get back to ``version``.
    """
    ended: set[str] = set()
    before: str | None = None
    while events := await page(before):
        for event in events:
            made = event.table_version
            if made is not None and made <= version:
                return frozenset(ended)
            if event.action in (TENANT_CREATED, TENANT_DELETED) and event.tenant is not None:
                ended.add(event.tenant)
            if made == version + 1:
                return frozenset(ended)
        before = events[-1].id
    return None


def restored(current: Table, earlier: Table, ended: Collection[str]) -> Table:
    """``current`` with the families and domains of ``earlier``; ``version`` stays that of ``current``.

    Tenants named in ``ended`` stay as they are now, which may be not at all. A tenant that ``earlier`` does not know
    keeps its routes; one that only ``earlier`` knows comes back without keys.
    """
    tenants: dict[str, Tenant] = {}
    families: dict[str, list[FamilyTicket]] = {
        name: family for name, family in earlier.families.items() if _owner(name) not in ended
    }
    for name, row in current.tenants.items():
        before = earlier.tenants.get(name)
        if before is not None and name not in ended:
            tenants[name] = msgspec.structs.replace(row, domains=before.domains)
            continue
        tenants[name] = row
        for family in _families_of(name, row, current):
            families.setdefault(family, current.families[family])
    for name, before in earlier.tenants.items():
        if name not in tenants and name not in ended:
            tenants[name] = msgspec.structs.replace(before, key_hashes=[])
    return Table(version=current.version, families=families, tenants=tenants)


def _families_of(name: str, row: Tenant, table: Table) -> set[str]:
    used = {domain.family for domain in row.domains.values()}
    return {family for family in table.families if family in used or _owner(family) == name}


def _owner(family: str) -> str | None:
    owner, slash, _ = family.partition("/")
    return owner if slash else None
