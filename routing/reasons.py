"""The reasons: what a route says in ``because``, and a refusal in ``message``, for people.

Owns the words, and the time after which trying again can help. Every figure in them is one that
`routing.decide` decided by, rounded up, so that a refused prediction never looks like its deadline.
"""

import math
from collections.abc import Sequence

from routing.options import Options
from routing.predict import at_least_zero, margin, prior
from routing.table import Ask, FamilyTicket, Reason, Refusal, WorkerView

LOADING = ", loading it first"
NO_WORKER_RETRY_S = 1.0
MAX_RETRY_S = 60.0
_RETRY_STEP_S = 0.05


def why(ask: Ask, options: Options, first: int, step: int, needed_ms: float) -> tuple[Reason, str]:
    """Why the option at ``step`` answers, in a word and in a sentence. ``first`` was the first that was looked at, and
    would have needed ``needed_ms``, margin included; infinitely many where no worker has it in memory."""
    if ask.version is not None:
        return "pinned", f"pinned to version {ask.version}"
    if step > first:
        passed = "the cascade" if first == 0 and options.cascade is not None else options.tickets[first].tier
        if needed_ms == math.inf:
            return "cold", f"stepped down from {passed}: no worker has it in memory and time to answer"
        return (
            "late",
            f"stepped down from {passed}: predicted {_compared(needed_ms, options.deadline_ms)} on every worker",
        )
    ticket, cascade = options.tickets[step], options.cascade
    if step > 0:
        passed = "the cascade" if cascade is not None else options.tickets[0].tier
        return "load", f"stepped down from {passed}: more than the workers can carry for now"
    if cascade is not None and options.large is not None:
        sure = f"{ticket.tier} answers where its confidence is at least {cascade.threshold:g}"
        return "cascade", f"cascade within {show_ms(options.deadline_ms)}: {sure}, else {options.large.tier}"
    if options.is_best_lost:
        return "lost", f"stepped down to {ticket.tier}: a better ticket could not be loaded"
    if ticket.tier == options.tier_name:
        return "best", f"best ticket of tier {ticket.tier} within {show_ms(options.deadline_ms)}"
    within = f"best ticket for tier {options.tier_name} within {show_ms(options.deadline_ms)}"
    return "best", f"{within}: the one found for {ticket.tier}"


def overloaded(ask: Ask, options: Options, workers: Sequence[WorkerView], waits: Sequence[float]) -> Refusal:
    """No option is predicted to make the deadline: whether and when trying again can help."""
    deadline = show_ms(options.deadline_ms)
    if not _could_be_made(ask, options, workers):
        quickest_ms = min(_idle_ms(ask, ticket, worker) for worker in workers for ticket in options.tickets)
        message = (
            f"no ticket can answer within {deadline}, however idle the workers: "
            f"the smallest deadline that could work is {show_ms(quickest_ms)}"
        )
        return Refusal(code="overloaded", message=message)
    shortest_ms = min(waits)
    message = f"no ticket is predicted to answer within {deadline}: the shortest queue is {show_ms(shortest_ms)}"
    return Refusal(code="overloaded", message=message, retry_after_s=_retry_after_s(shortest_ms))


def show_ms(milliseconds: float) -> str:
    """Milliseconds for people, rounded up so that a refused prediction never looks like its deadline."""
    if not abs(milliseconds) < 1e5:
        return f"{milliseconds:.0f} ms"
    return f"{math.ceil(milliseconds * 10 - 1e-6) / 10:g} ms"


def _could_be_made(ask: Ask, options: Options, workers: Sequence[WorkerView]) -> bool:
    """Whether an idle worker could answer in time; the cheapest ticket is asked first, because it mostly can."""
    for ticket in reversed(options.tickets):
        for worker in workers:
            if _idle_ms(ask, ticket, worker) <= options.deadline_ms:
                return True
    return False


def _idle_ms(ask: Ask, ticket: FamilyTicket, worker: WorkerView) -> float:
    """What the ticket would need on this worker, were it idle, margin included."""
    cost = worker.costs.get(ticket.id)
    if cost is None:
        return prior(ticket).of(ask.rows, 0.0)
    return at_least_zero(cost.of(ask.rows, ask.row_bytes)) * margin(cost)


def _compared(needed_ms: float, deadline_ms: float) -> str:
    return f"{show_ms(needed_ms)} > {show_ms(deadline_ms)}"


def _retry_after_s(wait_ms: float) -> float:
    """Seconds until the shortest queue is gone: in steps of 50 ms, above a second in whole ones."""
    wait_s = wait_ms / 1000.0
    if wait_s > 1.0:
        return float(math.ceil(min(wait_s, MAX_RETRY_S)))
    return round(max(1, math.ceil(wait_s / _RETRY_STEP_S)) * _RETRY_STEP_S, 2)
