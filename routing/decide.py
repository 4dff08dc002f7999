"""The decision: which ticket of the family answers this ask, on which worker, or why none does.

`choose` is pure and total: no clock, no chance, no I/O, and for every ask over every
table and fleet it gives a `Route` or a named `Refusal`. It knows nothing of what a ticket
computes. Authentication, admission and sending are the gateway's; what is remembered from one
decision to the next is `routing.ladder`'s.

The rule: the best ticket of the family that the domain's policy allows and that some worker is
predicted to finish by the deadline, with margin; under load a cheaper one, never below the
tier's quality floor; a refusal only where no ticket can make it. See tests/routing/test_decide.py
for the cases.
"""

from collections.abc import Sequence

from routing.options import Options, find_options
from routing.placement import ranked
from routing.predict import COLD_PENALTY_MS, prior, soonest, wait_ms
from routing.reasons import LOADING, NO_WORKER_RETRY_S, overloaded, why
from routing.table import Ask, FamilyTicket, Fleet, Reason, Refusal, Route, Table, Warm, WorkerView
from tickets.bundle import TicketId

Cold = tuple[int, WorkerView, float]
"""A step whose ticket has to be loaded, the worker that should, and when it would have answered, loading included."""


def choose(ask: Ask, table: Table, fleet: Fleet) -> Route | Refusal:
    """Decide one request from two frozen snapshots."""
    options = find_options(ask, table)
    if isinstance(options, Refusal):
        return options
    workers = reachable(ask, fleet)
    if not workers:
        return Refusal(code="no_worker", message="no worker can be reached", retry_after_s=NO_WORKER_RETRY_S)
    waits = [wait_ms(worker, ask.tenant, options.weight) for worker in workers]
    tickets, deadline_ms = options.tickets, options.deadline_ms
    first = max(0, min(ask.skip, len(tickets) - 1))
    first_needed_ms = 0.0
    learner: Cold | None = None
    for step in range(first, len(tickets)):
        worker, ready_ms, needed_ms = soonest(tickets[step], ask, workers, waits)
        after_ms = 0.0 if step or options.large is None else _large_ms(options.large, ask, workers, waits)
        if step == first:
            first_needed_ms = needed_ms + after_ms
        if worker is not None and needed_ms + after_ms <= deadline_ms:
            reason, because = why(ask, options, first, step, first_needed_ms)
            return _route(options, step, worker, ready_ms, reason, because, learner)
        cold = find_cold(tickets[step], ask, workers, waits, deadline_ms - after_ms)
        if cold is not None and cold[1] + after_ms <= deadline_ms:
            reason, because = why(ask, options, first, step, first_needed_ms)
            return _route(options, step, *cold, reason, because + LOADING, learner)
        if cold is not None and learner is None:
            learner = (step, *cold)
    if learner is None:
        return overloaded(ask, options, workers, waits)
    # The last resort before a refusal: a worker learns the best ticket that would make it there but for the
    # loading. This request may be late for it; without it, a ticket would never be loaded, nor a busy one spread.
    reason, because = why(ask, options, first, learner[0], first_needed_ms)
    return _route(options, *learner, reason, because + LOADING, None)


def reachable(ask: Ask, fleet: Fleet) -> Sequence[WorkerView]:
    """The workers that have not failed this request already."""
    if not ask.not_workers:
        return fleet.workers
    return [worker for worker in fleet.workers if worker.name not in ask.not_workers]


def find_cold(
    ticket: FamilyTicket, ask: Ask, workers: Sequence[WorkerView], waits: Sequence[float], deadline_ms: float
) -> tuple[WorkerView, float] | None:
    """The worker that should learn the ticket, and when it would have answered, loading included.

    The first in the ticket's rank that makes the deadline; if none does, the first that would
    but for the loading; None where every worker holds the ticket or is too busy.
    """
    run_ms = prior(ticket).of(ask.rows, 0.0)
    latest_ms, id_ = deadline_ms - run_ms, ticket.id
    if not min(waits) <= latest_ms:
        return None
    free = {
        worker.name: (worker, wait + run_ms + COLD_PENALTY_MS)
        for worker, wait in zip(workers, waits, strict=True)
        if id_ not in worker.costs and wait <= latest_ms
    }
    if not free:
        return None
    spots = [free[name] for name in ranked(ticket.id, list(free))]
    return next((spot for spot in spots if spot[1] <= deadline_ms), spots[0])


def _large_ms(large: FamilyTicket, ask: Ask, workers: Sequence[WorkerView], waits: Sequence[float]) -> float:
    """What a cascade's larger ticket would need, margin included, were every row left to it."""
    worker, _, needed_ms = soonest(large, ask, workers, waits)
    return needed_ms if worker is not None else min(waits) + prior(large).of(ask.rows, 0.0)


def _route(
    options: Options, step: int, worker: WorkerView, ready_ms: float, reason: Reason, because: str, learner: Cold | None
) -> Route:
    warm = None if learner is None else Warm(ticket=options.tickets[learner[0]].id, worker=learner[1].name)
    return Route(
        ticket=TicketId(options.tickets[step].id), worker=worker.name, tier=options.tier_name,
        deadline_ms=options.deadline_ms, because=because, predicted_ms=ready_ms, step=step,
        cascade=options.cascade if step == 0 else None, warm=warm, reason=reason,
    )  # fmt: skip
