"""The explanation: every ticket of a family, and why a decision took it or passed it over.

For people. It asks the same questions as `routing.decide` with the same functions and
takes the outcome from `choose` itself, so that it cannot tell another story.
"""

import math
from collections.abc import Sequence

import msgspec

from routing.decide import choose, find_cold, reachable
from routing.options import Options, deadline_of, find_allowed, find_options, find_tier, floor_of
from routing.predict import margin, soonest, wait_ms
from routing.reasons import show_ms
from routing.table import Ask, Domain, FamilyTicket, Fleet, Refusal, Route, Table, Tier, WorkerView


class Considered(msgspec.Struct, frozen=True, kw_only=True):
    """One ticket of the family and what became of it."""

    ticket: FamilyTicket
    is_chosen: bool
    why: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The decision, and every ticket of the family in the order of choice."""

    outcome: Route | Refusal
    tier: str | None = None
    deadline_ms: float | None = None
    quality_floor: float | None = None
    policy: str | None = None
    considered: list[Considered] = []


def explain(ask: Ask, table: Table, fleet: Fleet) -> Explanation:
    """What `choose` decides for these snapshots, and why. Total, like `choose`."""
    outcome = choose(ask, table, fleet)
    found = find_tier(ask, table)
    if isinstance(found, Refusal):
        return Explanation(outcome=outcome)
    domain, name, tier = found
    allowed = find_allowed(ask, table, domain, name)
    allowed_ids = set() if isinstance(allowed, Refusal) else {ticket.id for ticket in allowed}
    options = find_options(ask, table)
    considered = []
    for ticket in table.best_first.get(domain.family, ()):
        is_chosen = isinstance(outcome, Route) and outcome.ticket == ticket.id
        if is_chosen and isinstance(outcome, Route):
            why = f"chosen, on worker {outcome.worker}: {outcome.because}"
        elif ticket.id not in allowed_ids:
            why = _not_allowed(ticket, ask, domain, name)
        else:
            why = _excluded(ticket, ask, tier, options) or _predicted(ticket, ask, options, fleet)
        considered.append(Considered(ticket=ticket, is_chosen=is_chosen, why=why))
    return Explanation(
        outcome=outcome,
        tier=name,
        deadline_ms=deadline_of(ask, tier),
        quality_floor=floor_of(ask, tier),
        policy=domain.policy,
        considered=considered,
    )


def _not_allowed(ticket: FamilyTicket, ask: Ask, domain: Domain, tier: str) -> str:
    """Why neither the version, nor the ticket's state, nor the domain's policy lets it answer."""
    if ask.version is not None:
        return "not the version asked for"
    canary = domain.canary
    if canary is not None and canary.ticket == ticket.id:
        takes = "is asked beside" if canary.mode == "shadow" else "answers"
        return f"a canary: it {takes} {canary.share:.0%} of the asks that {canary.current[:12]} would answer"
    if ticket.state != "promoted":
        return f"{ticket.state}, not promoted: it answers only who names it as version"
    return f"costs more than policy tier allows tier {tier}"


def _excluded(ticket: FamilyTicket, ask: Ask, tier: Tier, options: Options | Refusal) -> str | None:
    """Why the ticket is none of the options, or not looked at among them; None where it is."""
    if ticket.id in ask.not_tickets:
        return "could not be loaded"
    if ticket.quality < floor_of(ask, tier):
        return f"quality {ticket.quality:g} is below the floor {tier.quality_floor:g}"
    if isinstance(options, Refusal):
        return options.message
    steps = [step for step, option in enumerate(options.tickets) if option.id == ticket.id]
    if not steps:
        if options.large is not None and ticket.id == options.large.id:
            return "answers only what the cascade's small ticket is not sure of"
        if options.large is not None and ticket.service_ms > options.tickets[0].service_ms:
            return "costs more than the cascade's small ticket"
        return "another is at least as good and costs no more"
    if steps[-1] < min(ask.skip, len(options.tickets) - 1):
        return f"passed over: the ladder stands at step {ask.skip}, under load"
    return None


def _predicted(ticket: FamilyTicket, ask: Ask, options: Options | Refusal, fleet: Fleet) -> str:
    workers = reachable(ask, fleet)
    if not workers or isinstance(options, Refusal):
        return "no worker can be reached"
    waits = [wait_ms(worker, ask.tenant, options.weight) for worker in workers]
    worker, ready_ms, needed_ms = soonest(ticket, ask, workers, waits)
    if worker is None:
        return _unloaded(ticket, ask, options, workers, waits)
    prediction = f"predicted {show_ms(ready_ms)} on {worker.name} ({_wait(worker, ask, options)})"
    if needed_ms > ready_ms:
        prediction += f", {show_ms(needed_ms)} with a margin of {margin(worker.costs[ticket.id]) - 1:.0%}"
    if needed_ms <= options.deadline_ms:
        return f"{prediction} would do, but a better ticket does too"
    return f"{prediction} > {show_ms(options.deadline_ms)}"


def _unloaded(
    ticket: FamilyTicket, ask: Ask, options: Options, workers: Sequence[WorkerView], waits: Sequence[float]
) -> str:
    cold = find_cold(ticket, ask, workers, waits, options.deadline_ms)
    if cold is None:
        return f"no worker holds it, nor has time for it within {show_ms(options.deadline_ms)}"
    worker, ready_ms = cold
    prediction = f"no worker holds it; predicted {show_ms(ready_ms)} on {worker.name}, loading included,"
    if ready_ms <= options.deadline_ms:
        return f"{prediction} would do, but a better ticket does too"
    return f"{prediction} > {show_ms(options.deadline_ms)}"


def _wait(worker: WorkerView, ask: Ask, options: Options) -> str:
    """What would be waited for, and how much more stands in the queue that fairness lets go later."""
    waits_ms = wait_ms(worker, ask.tenant, options.weight)
    all_ms = worker.running_ms + worker.queued_ms
    if all_ms > waits_ms and math.isfinite(all_ms):
        return f"wait {show_ms(waits_ms)}: the tenant's share of {show_ms(all_ms)} of queue"
    return f"wait {show_ms(waits_ms)}"
