"""The explanation: every ticket of a family, and why a decision took it or passed it over.

For people. It asks the same questions as `routing.decide` with the same functions and
takes the outcome from `choose` itself, so that it cannot tell another story.
"""

import msgspec

from routing.decide import best_worker, choose, deadline_of, find_candidates, find_tier, reachable, show_ms
from routing.table import Ask, FamilyTicket, Fleet, Refusal, Route, Table, Tier


class Considered(msgspec.Struct, frozen=True, kw_only=True):
    """One ticket of the family and what became of it."""

    ticket: FamilyTicket
    is_chosen: bool
    why: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The decision, and every ticket of the family from the most expensive to the cheapest."""

    outcome: Route | Refusal
    tier: str | None = None
    deadline_ms: float | None = None
    quality_floor: float | None = None
    considered: list[Considered] = []


def explain(ask: Ask, table: Table, fleet: Fleet) -> Explanation:
    """What `choose` decides for these snapshots, and why. Total, like `choose`."""
    outcome = choose(ask, table, fleet)
    found = find_tier(ask, table)
    if isinstance(found, Refusal):
        return Explanation(outcome=outcome)
    domain, name, tier = found
    candidates = find_candidates(ask, table, domain, name)
    allowed = set() if isinstance(candidates, Refusal) else {ticket.id for ticket in candidates}
    considered = []
    for ticket in table.families.get(domain.family, []):
        is_chosen = isinstance(outcome, Route) and outcome.ticket == ticket.id
        if is_chosen and isinstance(outcome, Route):
            why = f"chosen, on worker {outcome.worker}: {outcome.because}"
        elif ticket.id not in allowed:
            why = "not the version asked for" if ask.version is not None else f"above tier {name}"
        else:
            why = _why_not(ticket, ask, tier, fleet)
        considered.append(Considered(ticket=ticket, is_chosen=is_chosen, why=why))
    return Explanation(
        outcome=outcome,
        tier=name,
        deadline_ms=deadline_of(ask, tier),
        quality_floor=tier.quality_floor,
        considered=considered,
    )


def _why_not(ticket: FamilyTicket, ask: Ask, tier: Tier, fleet: Fleet) -> str:
    if ticket.id in ask.not_tickets:
        return "could not be loaded"
    if ticket.quality < tier.quality_floor:
        return f"quality {ticket.quality:g} is below the floor {tier.quality_floor:g}"
    workers = reachable(ask, fleet)
    if not workers:
        return "no worker can be reached"
    worker, predicted_ms = best_worker(ticket, workers)
    prediction = f"predicted {show_ms(predicted_ms)} on {worker.name} (queue {show_ms(worker.wait_ms)}"
    prediction += ")" if ticket.id in worker.holds else ", must load it)"
    if predicted_ms <= deadline_of(ask, tier):
        return f"{prediction} would do, but a better ticket does too"
    return f"{prediction} > {show_ms(deadline_of(ask, tier))}"
