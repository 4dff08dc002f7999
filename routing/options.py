"""The options: what may answer an ask, whatever the load.

Owns what the table alone decides: the tier that is asked for, the tickets of the family that the
version, the domain's policy and the tier's floor leave, in the order of choice, without those that
another one beats at its own price: a step down must be a cheaper one, or it relieves nobody. It knows no
worker and no queue: which of the options it is to be is `routing.decide`'s business.
"""

import re
from collections.abc import Sequence

import msgspec

from routing.table import Ask, Cascade, Domain, FamilyTicket, Refusal, Table, Tier

_VERSION = re.compile(r"[0-9a-f]{8,64}")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What may answer an ask. Steps count from 0 through ``tickets``, best first; there is at least one."""

    tier_name: str
    tier: Tier
    deadline_ms: float
    """What is left: the tier's promise, or the caller's own deadline where that is sooner."""
    weight: float
    """The tenant's."""
    tickets: Sequence[FamilyTicket]
    cascade: Cascade | None = None
    """Where set, step 0 is the cascade, which begins with ``tickets[0]``, and step 1 is that ticket alone."""
    large: FamilyTicket | None = None
    """The ticket that a cascade goes on with."""
    is_best_lost: bool = False
    """Whether the best that might answer could not be loaded, so that it is not among ``tickets``."""


def find_options(ask: Ask, table: Table) -> Options | Refusal:
    """What the table lets answer the ask, or the refusal that no worker could change."""
    found = find_tier(ask, table)
    if isinstance(found, Refusal):
        return found
    domain, name, tier = found
    allowed = find_allowed(ask, table, domain, name)
    if isinstance(allowed, Refusal):
        return allowed
    floor = floor_of(ask, tier)
    good = [ticket for ticket in allowed if ticket.quality >= floor and ticket.id not in ask.not_tickets]
    if not good:
        return _below_floor(ask, allowed, name, tier)
    useful = without_dominated(good)
    deadline_ms, weight = deadline_of(ask, tier), table.tenants[ask.tenant].weight
    is_best_lost = good[0] is not allowed[0]
    if domain.policy == "cascade" and domain.cascade is not None and ask.version is None:
        small, large = _find(good, domain.cascade.small), _find(good, domain.cascade.large)
        if small is not None and large is not None:
            cheaper = [ticket for ticket in useful if ticket.service_ms <= small.service_ms and ticket is not small]
            return Options(
                tier_name=name, tier=tier, deadline_ms=deadline_ms, weight=weight,
                tickets=[small, small, *cheaper], cascade=domain.cascade, large=large,
            )  # fmt: skip
    return Options(
        tier_name=name, tier=tier, deadline_ms=deadline_ms, weight=weight, tickets=useful, is_best_lost=is_best_lost
    )


def without_dominated(best_first: Sequence[FamilyTicket]) -> Sequence[FamilyTicket]:
    """Those for which no other is at least as good and costs no more: each step down really is a cheaper one."""
    useful: list[FamilyTicket] = []
    for ticket in best_first:
        if not useful or ticket.service_ms < useful[-1].service_ms:
            useful.append(ticket)
    return useful


def find_tier(ask: Ask, table: Table) -> tuple[Domain, str, Tier] | Refusal:
    """The domain and tier that the ask names. Another tenant's domain is as unknown as one that nobody has."""
    tenant = table.tenants.get(ask.tenant)
    domain = tenant.domains.get(ask.domain) if tenant is not None else None
    if domain is None:
        return Refusal(code="unknown_domain", message=f"unknown domain {_shown(ask.domain)}")
    name = domain.default_tier if ask.tier is None else ask.tier
    tier = domain.tiers.get(name)
    if tier is None:
        known = ", ".join(domain.tiers)
        message = f"domain {ask.domain} has no tier {_shown(name)}; its tiers: {known}"
        return Refusal(code="unknown_tier", message=message)
    return domain, name, tier


def find_allowed(ask: Ask, table: Table, domain: Domain, tier: str) -> Sequence[FamilyTicket] | Refusal:
    """The family's tickets that the ask and the domain's policy allow, best first.

    A version may be any ticket of the family; without one only promoted tickets answer. Policy ``tier``
    allows of them what costs no more than the one found for the tier (of several the costliest); a tier
    that no ticket was found for may use all of them.
    """
    if ask.version is not None:
        return _find_version(ask, ask.version, table.best_first.get(domain.family, ()))
    family = table.promoted_first.get(domain.family, ())
    if not family and table.families.get(domain.family):
        message = f"no ticket of domain {ask.domain} has been promoted yet: promote one, or name one as version"
        return Refusal(code="not_promoted", message=message)
    if domain.policy == "tier":
        own_ms = max((ticket.service_ms for ticket in family if ticket.tier == tier), default=None)
        if own_ms is not None:
            return [ticket for ticket in family if ticket.service_ms <= own_ms]
    return family


def floor_of(ask: Ask, tier: Tier) -> float:
    """The quality that answers must have. Who pins a version and names no tier wants that ticket, whatever it is."""
    return 0.0 if ask.version is not None and ask.tier is None else tier.quality_floor


def deadline_of(ask: Ask, tier: Tier) -> float:
    """Milliseconds that are left: the tier's promise, or the caller's own deadline where that is sooner."""
    return tier.deadline_ms if ask.deadline_ms is None else min(tier.deadline_ms, ask.deadline_ms)


def _find(tickets: Sequence[FamilyTicket], ticket_id: str) -> FamilyTicket | None:
    return next((ticket for ticket in tickets if ticket.id == ticket_id), None)


def _find_version(ask: Ask, version: str, family: Sequence[FamilyTicket]) -> Sequence[FamilyTicket] | Refusal:
    if not _VERSION.fullmatch(version):
        reason = "a version is a ticket id or at least its first 8 hex digits"
        return Refusal(code="unknown_version", message=f"unknown version {_shown(version)}: {reason}")
    named = [ticket for ticket in family if ticket.id.startswith(version)]
    if len(named) == 1:
        return named
    reason = f"{len(named)} tickets begin with it" if named else "no ticket that serves this domain has it"
    return Refusal(code="unknown_version", message=f"unknown version {version} of domain {ask.domain}: {reason}")


def _below_floor(ask: Ask, allowed: Sequence[FamilyTicket], tier: str, floor: Tier) -> Refusal:
    best = max((ticket.quality for ticket in allowed if ticket.id not in ask.not_tickets), default=0.0)
    message = f"tier {tier} promises quality {floor.quality_floor:g}; the best ticket that may answer has {best:g}"
    return Refusal(code="below_quality_floor", message=message)


def _shown(text: str) -> str:
    """What a caller wrote, fit to be sent back: bounded and printable."""
    return repr(text[:64])
