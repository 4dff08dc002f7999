"""The decision: which ticket of the family answers this ask, on which worker, or why none does.

`choose` is pure and total: no clock, no chance, no I/O, and for every ask over every
table and fleet it gives a `Route` or a named `Refusal`. It knows nothing of what a ticket
computes. Authentication, admission and sending are the gateway's.

The rule: the best ticket of the asked tier that some worker is predicted to finish by
the deadline; under load a cheaper one, never below the tier's quality floor; a refusal
only where no ticket can make it. See tests/routing/test_decide.py for the cases.
"""

import math
import re
from collections.abc import Sequence
from hashlib import blake2b

from routing.table import Ask, Domain, FamilyTicket, Fleet, Refusal, Route, Table, Tier, WorkerView
from tickets.bundle import TicketId

COLD_PENALTY_MS = 30.0
"""What a worker is predicted to lose by loading a ticket that it does not hold."""
NO_WORKER_RETRY_S = 1.0
MAX_RETRY_S = 60.0
_RETRY_STEP_S = 0.05
_VERSION = re.compile(r"[0-9a-f]{8,64}")


def choose(ask: Ask, table: Table, fleet: Fleet) -> Route | Refusal:
    """Decide one request from two frozen snapshots."""
    found = find_tier(ask, table)
    if isinstance(found, Refusal):
        return found
    domain, tier_name, tier = found
    candidates = find_candidates(ask, table, domain, tier_name)
    if isinstance(candidates, Refusal):
        return candidates
    candidates = [ticket for ticket in candidates if ticket.id not in ask.not_tickets]
    good = [ticket for ticket in candidates if ticket.quality >= tier.quality_floor]
    if not good:
        return _below_floor(candidates, tier_name, tier)
    workers = reachable(ask, fleet)
    if not workers:
        return Refusal(code="no_worker", message="no worker can be reached", retry_after_s=NO_WORKER_RETRY_S)
    deadline_ms = deadline_of(ask, tier)
    ready = _find_ready(good, workers, deadline_ms) or _find_cold(good, workers, deadline_ms)
    if ready is None:
        return _overloaded(good, workers, deadline_ms)
    ticket, worker = ready
    if ticket is good[0]:
        because = _why_best(ask, tier_name, ticket, deadline_ms)
    else:
        because = _why_stepped_down(good[0], workers, deadline_ms)
    if ticket.id not in worker.holds:
        because += ", loading it first"
    return Route(
        ticket=TicketId(ticket.id), worker=worker.name, tier=tier_name, deadline_ms=deadline_ms, because=because
    )


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
        return Refusal(
            code="unknown_tier", message=f"domain {ask.domain} has no tier {_shown(name)}; its tiers: {known}"
        )
    return domain, name, tier


def find_candidates(ask: Ask, table: Table, domain: Domain, tier: str) -> Sequence[FamilyTicket] | Refusal:
    """The family's tickets that may answer, best first: the pinned one, or those of the tier and below it."""
    family = table.families.get(domain.family, [])
    if ask.version is not None:
        return _find_version(ask, ask.version, family)
    for i, ticket in enumerate(family):
        if ticket.tier == tier:
            return family[i:]
    return family


def reachable(ask: Ask, fleet: Fleet) -> Sequence[WorkerView]:
    """The workers that have not failed this request already."""
    if not ask.not_workers:
        return fleet.workers
    return [worker for worker in fleet.workers if worker.name not in ask.not_workers]


def deadline_of(ask: Ask, tier: Tier) -> float:
    """Milliseconds that are left: the tier's promise, or the caller's own deadline where that is sooner."""
    return tier.deadline_ms if ask.deadline_ms is None else min(tier.deadline_ms, ask.deadline_ms)


def best_worker(
    ticket: FamilyTicket, workers: Sequence[WorkerView], cold_penalty_ms: float = COLD_PENALTY_MS
) -> tuple[WorkerView, float]:
    """Of one worker or more, the one predicted to finish first, and after how many milliseconds.

    Ties go to a holder, then to the shorter queue, then to the ticket's own order of
    preference (rendezvous hashing), which keeps a ticket on few workers.
    """
    best, best_cost = workers[0], _cost(ticket, workers[0], cold_penalty_ms)
    for worker in workers[1:]:
        cost = _cost(ticket, worker, cold_penalty_ms)
        if cost < best_cost or (cost == best_cost and _preference(ticket, worker) > _preference(ticket, best)):
            best, best_cost = worker, cost
    return best, best_cost[0]


def show_ms(milliseconds: float) -> str:
    """Milliseconds for people, rounded up so that a refused prediction never looks like its deadline."""
    if not abs(milliseconds) < 1e5:
        return f"{milliseconds:.0f} ms"
    return f"{math.ceil(milliseconds * 10 - 1e-6) / 10:g} ms"


def _shown(text: str) -> str:
    """What a caller wrote, fit to be sent back: bounded and printable."""
    return repr(text[:64])


def _find_version(ask: Ask, version: str, family: Sequence[FamilyTicket]) -> Sequence[FamilyTicket] | Refusal:
    if not _VERSION.fullmatch(version):
        reason = "a version is a ticket id or at least its first 8 hex digits"
        return Refusal(code="unknown_version", message=f"unknown version {_shown(version)}: {reason}")
    named = [ticket for ticket in family if ticket.id.startswith(version)]
    if len(named) == 1:
        return named
    reason = f"{len(named)} tickets begin with it" if named else "no ticket that serves this domain has it"
    return Refusal(code="unknown_version", message=f"unknown version {version} of domain {ask.domain}: {reason}")


def _find_ready(
    good: Sequence[FamilyTicket], workers: Sequence[WorkerView], deadline_ms: float
) -> tuple[FamilyTicket, WorkerView] | None:
    """The first ticket that is predicted to make the deadline.

    One that no worker holds need only fit without the time to load it: otherwise a ticket
    with a deadline shorter than a load would never be loaded at all.
    """
    for ticket in good:
        worker, predicted_ms = best_worker(ticket, workers)
        if predicted_ms <= deadline_ms:
            return ticket, worker
        if _wait_ms(worker) + ticket.service_ms <= deadline_ms and not any(ticket.id in w.holds for w in workers):
            return ticket, worker
    return None


def _find_cold(
    good: Sequence[FamilyTicket], workers: Sequence[WorkerView], deadline_ms: float
) -> tuple[FamilyTicket, WorkerView] | None:
    """The last resort before a refusal: the holders are busy, so a free worker learns the ticket.

    This request may be late for it, but without it a busy ticket would never spread.
    """
    for ticket in good:
        worker, predicted_ms = best_worker(ticket, workers, cold_penalty_ms=0.0)
        if predicted_ms <= deadline_ms:
            return ticket, worker
    return None


def _cost(ticket: FamilyTicket, worker: WorkerView, cold_penalty_ms: float) -> tuple[float, bool, float]:
    """(predicted milliseconds, must load, waiting milliseconds): smaller is better."""
    wait_ms, cold = _wait_ms(worker), ticket.id not in worker.holds
    return (wait_ms + (cold_penalty_ms if cold else 0.0) + ticket.service_ms, cold, wait_ms)


def _wait_ms(worker: WorkerView) -> float:
    """What the worker says, where that makes sense: no time is negative, and not-a-number is for ever."""
    wait_ms = worker.wait_ms
    if wait_ms >= 0.0:
        return wait_ms
    return 0.0 if wait_ms < 0.0 else math.inf


def _preference(ticket: FamilyTicket, worker: WorkerView) -> tuple[bytes, str]:
    name = worker.name.encode("utf-8", "surrogatepass")
    return blake2b(name, key=ticket.id.encode("utf-8", "surrogatepass")[:64], digest_size=8).digest(), worker.name


def _why_best(ask: Ask, tier: str, chosen: FamilyTicket, deadline_ms: float) -> str:
    if ask.version is not None:
        return f"pinned to version {ask.version}"
    if ask.not_tickets:
        return f"stepped down to {chosen.tier}: a better ticket could not be loaded"
    if chosen.tier == tier:
        return f"best ticket of tier {tier} within {show_ms(deadline_ms)}"
    return f"best ticket for tier {tier} within {show_ms(deadline_ms)}: the one found for {chosen.tier}"


def _why_stepped_down(best: FamilyTicket, workers: Sequence[WorkerView], deadline_ms: float) -> str:
    predicted = show_ms(best_worker(best, workers)[1])
    return f"stepped down from {best.tier}: predicted {predicted} > {show_ms(deadline_ms)} on every worker"


def _below_floor(candidates: Sequence[FamilyTicket], tier: str, floor: Tier) -> Refusal:
    best = max((ticket.quality for ticket in candidates), default=0.0)
    message = f"tier {tier} promises quality {floor.quality_floor:g}; the best ticket that may answer has {best:g}"
    return Refusal(code="below_quality_floor", message=message)


def _overloaded(good: Sequence[FamilyTicket], workers: Sequence[WorkerView], deadline_ms: float) -> Refusal:
    quickest_ms = min(ticket.service_ms for ticket in good)
    if not quickest_ms <= deadline_ms:
        message = (
            f"no ticket can answer within {show_ms(deadline_ms)}, however idle the workers: "
            f"the smallest deadline that could work is {show_ms(quickest_ms)}"
        )
        return Refusal(code="overloaded", message=message)
    wait_ms = min(map(_wait_ms, workers))
    message = (
        f"no ticket is predicted to answer within {show_ms(deadline_ms)}: the shortest queue is {show_ms(wait_ms)}"
    )
    return Refusal(code="overloaded", message=message, retry_after_s=_retry_after_s(wait_ms))


def _retry_after_s(wait_ms: float) -> float:
    """Seconds until the shortest queue is gone: in steps of 50 ms, above a second in whole ones."""
    wait_s = wait_ms / 1000.0
    if wait_s > 1.0:
        return float(math.ceil(min(wait_s, MAX_RETRY_S)))
    return round(max(1, math.ceil(wait_s / _RETRY_STEP_S)) * _RETRY_STEP_S, 2)
