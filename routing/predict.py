"""The prediction: when a worker would have answered an ask, from what it says about itself.

Owns three formulas, each total over any numbers, because what a worker says is not trusted: what
a ticket costs (the worker's own measure, else a prior from the table), how long a tenant's work
would wait there, and the safety margin. What is decided with them is `routing.decide`'s business.
"""

import math
from collections.abc import Sequence

from routing.cost import FAIR_LEAD_MS, Cost
from routing.placement import score
from routing.table import Ask, FamilyTicket, WorkerView

COLD_PENALTY_MS = 30.0
"""What a request is predicted to lose by waiting for a ticket to be loaded."""
MAX_SPREAD = 1.0
"""A cost that is further off than this is not believed to be: nobody would ask for the ticket again, and so it
would never be measured again."""


def prior(ticket: FamilyTicket) -> Cost:
    """What a ticket costs on a worker that does not hold it, whatever the sizes: half of one text alone is spent
    per batch, as measured on the starter's tickets (alone against in batches of 32)."""
    return Cost(fixed_ms=ticket.service_ms / 2, row_ms=ticket.service_ms / 2, unit_ms=0.0)


def margin(cost: Cost) -> float:
    """What predictions are multiplied with before they are promised, as a retransmission timer adds four mean
    deviations (Jacobson, "Congestion avoidance and control", 1988): here two, since most of it is the wait."""
    spread = cost.spread
    if not spread <= MAX_SPREAD:
        return 1.0 + 2.0 * MAX_SPREAD
    return 1.0 + 2.0 * spread if spread > 0.0 else 1.0


def wait_ms(worker: WorkerView, tenant: str, weight: float) -> float:
    """Predicted milliseconds until work of ``tenant`` that arrives now would start.

    What runs, and of what waits no more than fairness lets go first: the tenant's own work at the
    tenant's share of the worker, and the lead that each other tenant may have (`routing.cost`). So
    another tenant's flood costs at most ``FAIR_LEAD_MS`` and slows what the tenant has waiting
    itself down to its share. Where nobody says whose the queue is, all of it is waited for.
    """
    queued, tenants = worker.queued_ms, worker.tenants
    if tenants and queued:
        own = tenants.get(tenant, 0.0)
        others = len(tenants)
        share = 0.0
        if own:
            others -= 1
            share = own * max(1.0, worker.active_weight / weight)
        queued = min(queued, share + min(queued - own, FAIR_LEAD_MS * others))
    waits = worker.running_ms + queued
    return waits if waits >= 0.0 else at_least_zero(waits)


def at_least_zero(milliseconds: float) -> float:
    """A time that makes sense: none is negative, and not-a-number is for ever."""
    if milliseconds >= 0.0:
        return milliseconds
    return 0.0 if milliseconds < 0.0 else math.inf


def soonest(
    ticket: FamilyTicket, ask: Ask, workers: Sequence[WorkerView], waits: Sequence[float]
) -> tuple[WorkerView | None, float, float]:
    """Of the workers that hold the ticket, the one that would have answered first: (it, predicted ms, the same with
    margin). ``waits`` are theirs, in the same order. (None, inf, inf) where nobody holds it."""
    found: WorkerView | None = None
    ready_ms = needed_ms = math.inf
    id_, rows, row_bytes = ticket.id, ask.rows, ask.row_bytes
    for worker, wait in zip(workers, waits, strict=True):
        cost = worker.costs.get(id_)
        if cost is None:
            continue
        ready = wait + cost.of(rows, row_bytes)
        if not ready >= 0.0:
            ready = at_least_zero(ready)
        needed = ready * margin(cost)
        if found is None or needed < needed_ms or (needed == needed_ms and _prefers(id_, worker, found)):
            found, ready_ms, needed_ms = worker, ready, needed
    return found, ready_ms, needed_ms


def _prefers(ticket: str, worker: WorkerView, other: WorkerView) -> bool:
    return score(ticket, worker.name) > score(ticket, other.name)
