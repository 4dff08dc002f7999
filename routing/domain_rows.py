"""One domain of one tenant inside a table, with the family that is its alone: looked at and replaced as a whole.

Owns how its rows are found and put back, and the copy on write: a family that others use too, or may, is copied under a
name of this tenant's before it changes. Which changes are legal is `routing.lifecycle`'s. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from routing.table import Domain, FamilyTicket, Former, Table, TicketState

SHORT_DIGITS = 12
_PREFIX = re.compile(r"[0-9a-f]{8,64}")
_replace = msgspec.structs.replace


class LifecycleError(ValueError):
    """A move that cannot be made. ``code`` is ``unknown`` where what it names is not there, else ``conflict``."""

    def __init__(self, code: Literal["unknown", "conflict"], message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def short(ticket: str) -> str:
    """A ticket's id as people see it."""
    return ticket[:SHORT_DIGITS]


def find_ticket(table: Table, tenant: str, prefix: str, domain: str | None = None) -> tuple[str, FamilyTicket]:
    """The domain and the ticket that an id, or at least its first 8 digits, names among a tenant's domains.

    ``domain`` narrows the search. Raises LifecycleError: ``unknown`` for none, ``conflict`` for more than one.
    """
    if not _PREFIX.fullmatch(prefix):
        raise LifecycleError("unknown", "a ticket is named by its id, or by at least its first 8 hex digits")
    row = table.tenants.get(tenant)
    found = [
        (name, ticket)
        for name, one in (row.domains if row is not None else {}).items()
        if domain in (None, name)
        for ticket in table.families.get(one.family, [])
        if ticket.id.startswith(prefix)
    ]
    if not found:
        raise LifecycleError(
            "unknown", f"there is no ticket {prefix[:64]}" + (f" in domain {domain}" if domain else "")
        )
    if len({ticket.id for _, ticket in found}) > 1:
        raise LifecycleError("conflict", f"{len(found)} tickets begin with {prefix}: give more digits")
    if len(found) > 1:
        places = ", ".join(name for name, _ in found)
        raise LifecycleError("conflict", f"ticket {short(prefix)} serves several domains ({places}): name the domain")
    return found[0]


def rows_of(table: Table, tenant: str, domain: str) -> "Rows":
    """The rows of a domain. Raises LifecycleError where there is none."""
    row = table.tenants.get(tenant)
    found = row.domains.get(domain) if row is not None else None
    if found is None:
        raise LifecycleError("unknown", f"there is no domain {domain!r}")
    return Rows(table=table, tenant=tenant, name=domain, domain=found, family=tuple(table.families[found.family]))


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What is to stand in the place of a domain and its family once `put` is called."""

    table: Table
    """As it was."""
    tenant: str
    name: str
    domain: Domain
    family: tuple[FamilyTicket, ...]

    @classmethod
    def made(cls, table: Table, tenant: str, name: str, domain: Domain) -> "Rows":
        """Those of a domain that the table does not have yet; its family is empty and named by `put`."""
        return cls(table=table, tenant=tenant, name=name, domain=domain, family=())

    def has(self, ticket: str) -> bool:
        """Whether the family holds it."""
        return any(one.id == ticket for one in self.family)

    def ticket(self, ticket: str) -> FamilyTicket:
        """The family's row of it."""
        return next(one for one in self.family if one.id == ticket)

    def promoted(self, tier: str | None = None) -> list[FamilyTicket]:
        """The promoted tickets (of a tier), the best first."""
        found = [one for one in self.family if one.state == "promoted" and tier in (None, one.tier)]
        return sorted(found, key=lambda one: (-one.quality, one.service_ms, one.id))

    def with_domain(self, **changes: Any) -> "Rows":  # noqa: ANN401 - the fields of Domain
        """With these fields of the domain."""
        return _replace(self, domain=_replace(self.domain, **changes))

    def with_ticket(self, ticket: FamilyTicket) -> "Rows":
        """With one more ticket."""
        return _replace(self, family=(*self.family, ticket))

    def with_states(self, states: Mapping[str, TicketState], *, replaces: Sequence[str] = ()) -> "Rows":
        """With these states; those that are promoted say what they ``replaces``, the others nothing."""
        return _replace(
            self,
            family=tuple(
                one
                if (state := states.get(one.id)) is None
                else _replace(one, state=state, replaces=list(replaces) if state == "promoted" else [])
                for one in self.family
            ),
        )

    def without_canary(self, *involved: str) -> "Rows":
        """Without the domain's canary, where it is about one of these tickets (none named: whatever it is about)."""
        canary = self.domain.canary
        if canary is None or (involved and canary.ticket not in involved and canary.current not in involved):
            return self
        return self.with_states({canary.ticket: "registered"}).with_domain(canary=None)

    def without_ticket(self, ticket: str) -> "Rows":
        """Without a ticket, and without whatever names it: a cascade, the way back."""
        family = tuple(
            _replace(one, replaces=[id_ for id_ in one.replaces if id_ != ticket]) if ticket in one.replaces else one
            for one in self.family
            if one.id != ticket
        )
        domain = _replace(self.domain, former=_without(self.domain.former, ticket))
        cascade = domain.cascade
        if cascade is not None and ticket in (cascade.small, cascade.large):
            domain = _replace(domain, cascade=None, policy="best" if domain.policy == "cascade" else domain.policy)
        return _replace(self, family=family, domain=domain)

    def put(self) -> Table:
        """The table with these rows; all others as they were."""
        name = self._own_family()
        family = sorted(self.family, key=lambda one: (-one.service_ms, -one.quality, one.id))
        families = {**self.table.families, name: family}
        before = self.table.tenants[self.tenant].domains.get(self.name)
        if before is not None and before.family != name:
            families[before.family] = self._left(before.family)
        return self._with(families, _replace(self.domain, family=name))

    def cleared(self) -> Table:
        """The table without this domain, and without its family where that is nobody else's."""
        families = dict(self.table.families)
        if self._is_own(self.domain.family):
            del families[self.domain.family]
        else:
            families[self.domain.family] = self._left(self.domain.family)
        return self._with(families, None)

    def _with(self, families: dict[str, list[FamilyTicket]], domain: Domain | None) -> Table:
        row = self.table.tenants[self.tenant]
        domains = {name: one for name, one in row.domains.items() if name != self.name or domain is not None}
        if domain is not None:
            domains[self.name] = domain
        tenants = {**self.table.tenants, self.tenant: _replace(row, domains=domains)}
        return _replace(self.table, families=families, tenants=tenants)

    def _own_family(self) -> str:
        """The name of a family that is this domain's alone: the one it has, or a new one."""
        if self._is_own(self.domain.family):
            return self.domain.family
        base = f"{self.tenant}/{self.name}"
        names = [
            base,
            *(f"{self.tenant}/{self.name[:56]}.{number}" for number in range(2, len(self.table.families) + 3)),
        ]
        return next(name for name in names if name not in self.table.families)

    def _is_own(self, family: str) -> bool:
        return family.startswith(f"{self.tenant}/") and family in self.table.families and not self._others(family)

    def _others(self, family: str) -> list[Domain]:
        """The other domains, of whatever tenant, that use a family."""
        return [
            domain
            for tenant, row in self.table.tenants.items()
            for name, domain in row.domains.items()
            if domain.family == family and (tenant, name) != (self.tenant, self.name)
        ]

    def _left(self, family: str) -> list[FamilyTicket]:
        """A family that this domain has left: who was its canary alone is nobody's any more."""
        on_trial = {domain.canary.ticket for domain in self._others(family) if domain.canary is not None}
        return [
            _replace(one, state="registered") if one.state == "canary" and one.id not in on_trial else one
            for one in self.table.families[family]
        ]


def _without(formers: Sequence[Former], ticket: str) -> list[Former]:
    """The way back without a ticket. A step that led to nothing else goes; its promise stays with the one before it."""
    kept: list[Former] = []
    for former in formers:
        if ticket not in former.tickets:
            kept.append(former)
            continue
        left = [one for one in former.tickets if one != ticket]
        if left:
            kept.append(_replace(former, tickets=left))
        elif former.promise is not None:
            before = next((i for i in reversed(range(len(kept))) if kept[i].tier == former.tier), None)
            if before is not None and kept[before].promise is None:
                kept[before] = _replace(kept[before], promise=former.promise)
    return kept
