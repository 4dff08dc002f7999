"""The consistency of a table: which references in it must hold. Pure: a table in, its problems out.

Owns the rules that join one part of a table to another, each problem with the path of its place. The shape of each part
is its type's (`routing.table`); how documents are read, and what is raised, belongs to `routing.document`.
"""

import json
import re
from collections.abc import Iterator, Sequence

from routing.table import Domain, FamilyTicket, Table

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def problems_of(table: Table) -> Iterator[str]:
    """One ``path: reason`` for each reference that does not hold."""
    on_trial: dict[str, set[str]] = {}
    for tenant in table.tenants.values():
        for domain in tenant.domains.values():
            if domain.canary is not None:
                on_trial.setdefault(domain.family, set()).add(domain.canary.ticket)
    for name, tickets in table.families.items():
        yield from _family_problems(join("families", name), tickets, on_trial.get(name, set()))
    yield from _tenant_problems(table)


def join(path: str, name: str) -> str:
    """The path of what is called ``name`` below ``path``."""
    shown = name if _BARE.fullmatch(name) else json.dumps(name)
    return f"{path}.{shown}" if path else shown


def _family_problems(path: str, tickets: Sequence[FamilyTicket], on_trial: set[str]) -> Iterator[str]:
    if not tickets:
        yield f"{path}: a family needs at least one ticket"
    first: dict[str, int] = {}
    for i, ticket in enumerate(tickets):
        if first.setdefault(ticket.id, i) != i:
            yield f"{path}[{i}].id: the same ticket as {path}[{first[ticket.id]}]"
        if ticket.state == "canary" and ticket.id not in on_trial:
            yield f"{path}[{i}].state: no domain of this family has a canary that names this ticket"


def _tenant_problems(table: Table) -> Iterator[str]:
    owners: dict[str, str] = {}
    for name, tenant in table.tenants.items():
        path = join("tenants", name)
        for digest in tenant.key_hashes:
            if (owner := owners.setdefault(digest, name)) != name:
                yield f"{path}.key_hashes: tenant {owner} has the same key ({digest[:8]}...): a key names one tenant"
        for domain_name, domain in tenant.domains.items():
            yield from _domain_problems(join(f"{path}.domains", domain_name), name, domain, table)


def _domain_problems(path: str, tenant: str, domain: Domain, table: Table) -> Iterator[str]:
    if domain.family not in table.families:
        known = ", ".join(sorted(f for f in table.families if _may_use(tenant, f))) or "none"
        yield f"{path}.family: no family {domain.family!r} in this document (families: {known})"
    elif not _may_use(tenant, domain.family):
        owner = domain.family.partition("/")[0]
        yield f"{path}.family: family {domain.family!r} is made of tenant {owner}'s registrations, for {owner} alone"
    if not domain.tiers:
        yield f"{path}.tiers: a domain needs at least one tier"
    elif domain.default_tier not in domain.tiers:
        known = ", ".join(sorted(domain.tiers))
        yield f"{path}.default_tier: no tier {domain.default_tier!r} in this domain (tiers: {known})"
    family = table.families.get(domain.family, [])
    yield from _cascade_problems(f"{path}.cascade", domain, family)
    yield from _canary_problems(f"{path}.canary", domain, family)
    if family:
        known_ids = {ticket.id for ticket in family}
        for i, former in enumerate(domain.former):
            for ticket in former.tickets:
                if ticket not in known_ids:
                    yield f"{path}.former[{i}].tickets: {_no_ticket(ticket, domain)}"


def _may_use(tenant: str, family: str) -> bool:
    owner, slash, _ = family.partition("/")
    return not slash or owner == tenant


def _cascade_problems(path: str, domain: Domain, family: Sequence[FamilyTicket]) -> Iterator[str]:
    cascade = domain.cascade
    if cascade is None:
        if domain.policy == "cascade":
            yield f"{path}: policy cascade needs one (`tombola cascade` finds its threshold)"
        return
    costs = {ticket.id: ticket.service_ms for ticket in family}
    for name, ticket in (("small", cascade.small), ("large", cascade.large)):
        if family and ticket not in costs:
            yield f"{path}.{name}: {_no_ticket(ticket, domain)}"
    small_ms, large_ms = costs.get(cascade.small), costs.get(cascade.large)
    if small_ms is not None and large_ms is not None and not small_ms < large_ms:
        yield f"{path}.small: at {small_ms:g} ms it is not cheaper than the large ticket at {large_ms:g} ms"


def _canary_problems(path: str, domain: Domain, family: Sequence[FamilyTicket]) -> Iterator[str]:
    canary = domain.canary
    if canary is None or not family:
        return
    states = {ticket.id: ticket.state for ticket in family}
    for name, ticket, wanted in (("ticket", canary.ticket, "canary"), ("current", canary.current, "promoted")):
        if ticket not in states:
            yield f"{path}.{name}: {_no_ticket(ticket, domain)}"
        elif states[ticket] != wanted:
            yield f"{path}.{name}: ticket {ticket[:12]}... is {states[ticket]}, not {wanted}"


def _no_ticket(ticket: str, domain: Domain) -> str:
    return f"no ticket {ticket[:12]}... in family {domain.family!r}"
