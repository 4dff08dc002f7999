"""The projection: how busy workers would be if a flow of asks were answered by a better ticket.

Owns the arithmetic behind the ladder's steps up, and no decision. What a flow takes is predicted
from its asks and the tickets' costs, each ask for itself, and then set against how busy the workers
that carry it really are, because batches save what such predictions cannot know of. Only this
gateway's part of a flow is moved: every gateway accounts for its own. Pure; time is an argument.
"""

import math
from collections.abc import Sequence

from routing.cost import Cost
from routing.options import Options
from routing.predict import prior
from routing.table import Ask, FamilyTicket, Fleet, WorkerView

FADE_S = 1.0
"""About how long it takes until workers' ``busy`` shows what a step up has added."""
UNSURE_SHARE = 0.5
"""Of a cascade's rows, those that are taken to go on to the larger ticket: nobody knows before."""


class Flow:
    """The asks of one flow since ``since_s``."""

    __slots__ = ("_asks", "_bytes", "_rows", "since_s")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self._asks = self._rows = self._bytes = 0

    def add(self, ask: Ask) -> None:
        """Count one."""
        self._asks += 1
        self._rows += ask.rows
        self._bytes += ask.row_bytes

    def load(self, cost: Cost, now_s: float) -> float:
        """How many workers it keeps busy at this cost, if every ask runs alone."""
        if not self._asks or now_s <= self.since_s:
            return 0.0
        return cost.of(*self._typical()) * self._asks / (1000.0 * (now_s - self.since_s))

    def least_saving(self, cost: Cost) -> float:
        """What is left of that in the largest of batches, as a fraction."""
        alone_ms = cost.of(*self._typical())
        return cost.marginal(*self._typical()) / alone_ms if alone_ms > 0.0 else 1.0

    def _typical(self) -> tuple[int, float]:
        """Rows, and the bytes of the largest, of an average ask."""
        asks = max(1, self._asks)
        return max(1, round(self._rows / asks)), self._bytes / asks


class Rises:
    """What steps up have lately added to the workers' load and is not in their ``busy`` yet, in workers."""

    def __init__(self) -> None:
        self._workers = 0.0
        self._at_s = 0.0

    def now(self, now_s: float) -> float:
        """It fades as it shows."""
        return self._workers * math.exp(min(0.0, self._at_s - now_s) / FADE_S)

    def add(self, workers: float, now_s: float) -> None:
        """One more step up."""
        self._workers, self._at_s = self.now(now_s) + workers, now_s


def projected(
    options: Options, step: int, better: int, flow: Flow, fleet: Fleet, risen: float, now_s: float
) -> tuple[float, float]:
    """(How busy the better option's workers would be on average, 0 to 1 and more; how many workers' work comes on
    top) if ``flow`` went from ``step`` up to ``better``. ``risen``: `Rises.now`."""
    ticket = options.tickets[step]
    carriers = _holders(ticket, fleet)
    takers = _holders(options.tickets[better], fleet) or list(fleet.workers)
    cost = _cost(ticket, carriers)
    alone = flow.load(cost, now_s)
    saving = 1.0
    if alone > 0.0:
        saving = min(1.0, max(flow.least_saving(cost), _busy(carriers) / alone))
    now, then = alone * saving, _load(options, better, flow, fleet, now_s) * saving
    shared = sum(worker.name in {taker.name for taker in takers} for worker in carriers)
    leaves = now * shared / len(carriers) if carriers else 0.0
    total = max(0.0, _busy(takers) - leaves) + then + risen
    return total / max(1, len(takers)), max(0.0, then - now)


def _load(options: Options, step: int, flow: Flow, fleet: Fleet, now_s: float) -> float:
    ticket = options.tickets[step]
    load = flow.load(_cost(ticket, _holders(ticket, fleet)), now_s)
    if step == 0 and options.large is not None:
        load += UNSURE_SHARE * flow.load(_cost(options.large, _holders(options.large, fleet)), now_s)
    return load


def _holders(ticket: FamilyTicket, fleet: Fleet) -> list[WorkerView]:
    return [worker for worker in fleet.workers if ticket.id in worker.costs]


def _cost(ticket: FamilyTicket, holders: Sequence[WorkerView]) -> Cost:
    return holders[0].costs[ticket.id] if holders else prior(ticket)


def _busy(workers: Sequence[WorkerView]) -> float:
    """How many of them are busy, all in all; one that does not make sense is."""
    return sum(worker.busy if 0.0 <= worker.busy <= 1.0 else 1.0 for worker in workers)
