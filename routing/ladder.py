"""The ladder: keeps choices from flapping between a family's tickets while load comes and goes.

Owns what one gateway remembers from one decision to the next: for each flow of asks (a tenant's
tier, asks of like size and deadline) the step down the family that load has brought it to. It wraps
`routing.decide.choose` and is as pure: time is an argument. It never allows what `choose` does
not, it only passes over better tickets for a while.

Down at once, when load (and not the ask itself) keeps a ticket from making the deadline. Up one step
after a dwell in which the better ticket would have fitted all the time, where its holders, with this
gateway's part of the flow moved to it, would stay under UP_UTILISATION. A step up that does
not last doubles the next dwell, as exponential back-off does. Flows are kept apart by tenant, so that
a flood costs only its own tenant quality.
"""

import math
from dataclasses import dataclass

import msgspec

from routing.decide import choose
from routing.options import deadline_of, find_options, find_tier
from routing.projection import Flow, Rises, projected
from routing.table import Ask, Fleet, Refusal, Route, Table

DWELL_S = 1.0
MAX_DWELL_S = 16.0
SOON_DWELLS = 2.0
"""A step up that is taken back within so many of the dwells it took has failed: the next one takes twice as long to
come. Every so many dwells that it lasts halve the next one."""
UP_UTILISATION = 0.75
CHECK_S = 0.05
"""How often it is looked whether the better ticket fits: not for every ask."""
WARM_AGAIN_S = 1.0
MAX_FLOWS = 4096

Key = tuple[str, str, str, int, int]


@dataclass(slots=True)
class _Rung:
    """Where one flow stands. Times in seconds of the caller's clock."""

    step: int
    seen_s: float
    flow: Flow
    """Its asks since the better ticket would fit."""
    checked_s: float
    dwell_s: float = DWELL_S
    risen_s: float = -math.inf
    """When it last went up."""


class Ladder:
    """One gateway's. ``max_flows`` bounds its memory: beyond it, the flow that stepped down first is forgotten."""

    def __init__(self, *, max_flows: int = MAX_FLOWS) -> None:
        self.ups = 0
        self.downs = 0
        self._max_flows = max_flows
        self._rungs: dict[Key, _Rung] = {}
        self._rises = Rises()
        self._unloaded: dict[Key, tuple[float, int]] = {}
        self._warmed: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        """How many flows it holds below their best ticket, or has let up only just now."""
        return len(self._rungs)

    def choose(self, ask: Ask, table: Table, fleet: Fleet, now_s: float) -> Route | Refusal:
        """As `routing.decide.choose`, at the flow's step. ``now_s`` never goes back; ``ask.skip`` is set here."""
        if ask.version is not None:
            return self._once(choose(ask, table, fleet), now_s)
        found = find_tier(ask, table)
        if isinstance(found, Refusal):
            return found
        key = _key(ask, found[1], deadline_of(ask, found[2]))
        rung = self._rungs.get(key)
        if ask.not_workers or ask.not_tickets:  # a retry says something about a worker, nothing about load
            return self._once(_from(0 if rung is None else rung.step, ask, table, fleet), now_s)
        if rung is not None and now_s - rung.seen_s >= rung.dwell_s:
            del self._rungs[key]  # no load comes from a flow that has paused for so long
            rung = None
        if rung is None:
            route = choose(ask, table, fleet)
            if isinstance(route, Route) and route.step and self._lightest(key, ask, table, fleet, now_s) < route.step:
                self._enter(key, _Rung(route.step, now_s, Flow(now_s), now_s))
            return self._once(route, now_s)
        return self._once(self._on(rung, key, ask, table, fleet, now_s), now_s)

    def _on(self, rung: _Rung, key: Key, ask: Ask, table: Table, fleet: Fleet, now_s: float) -> Route | Refusal:
        rung.seen_s = now_s
        rung.flow.add(ask)
        route = _from(rung.step, ask, table, fleet)
        if isinstance(route, Refusal):
            rung.flow = Flow(now_s)
            return route
        if route.step > rung.step:
            if max(rung.step, self._lightest(key, ask, table, fleet, now_s)) < route.step:
                self._down(rung, route.step, now_s)
        elif rung.step and now_s - rung.checked_s >= CHECK_S:
            rung.checked_s = now_s
            self._look_up(rung, ask, table, fleet, now_s)
        elif not rung.step and now_s - rung.risen_s >= SOON_DWELLS * rung.dwell_s:
            if rung.dwell_s <= DWELL_S:
                del self._rungs[key]
            rung.dwell_s, rung.risen_s = rung.dwell_s / 2, now_s
        return route

    def _down(self, rung: _Rung, step: int, now_s: float) -> None:
        has_failed = now_s - rung.risen_s < SOON_DWELLS * rung.dwell_s
        rung.dwell_s = min(2 * rung.dwell_s, MAX_DWELL_S) if has_failed else max(rung.dwell_s / 2, DWELL_S)
        rung.step, rung.risen_s, rung.flow = step, -math.inf, Flow(now_s)
        self.downs += 1

    def _look_up(self, rung: _Rung, ask: Ask, table: Table, fleet: Fleet, now_s: float) -> None:
        """Go up a step where that has been safe for the whole dwell."""
        best = _unloaded_step(ask, table, fleet)
        if best >= rung.step:
            return  # nothing better could make it, however light the load: this ask says nothing
        better = _nearest_that_fits(rung.step, best, ask, table, fleet)
        if better is None:
            rung.flow = Flow(now_s)
            return
        if now_s - rung.flow.since_s < rung.dwell_s:
            return
        options = find_options(ask, table)
        assert not isinstance(options, Refusal)  # it has just been routed
        risen = self._rises.now(now_s)
        utilisation, added = projected(options, rung.step, better, rung.flow, fleet, risen, now_s)
        rung.flow = Flow(now_s)
        if utilisation < UP_UTILISATION:
            rung.step, rung.risen_s = better, now_s
            self._rises.add(added, now_s)
            self.ups += 1

    def _enter(self, key: Key, rung: _Rung) -> None:
        if len(self._rungs) >= self._max_flows:
            del self._rungs[next(iter(self._rungs))]
        self._rungs[key] = rung
        self.downs += 1

    def _lightest(self, key: Key, ask: Ask, table: Table, fleet: Fleet, now_s: float) -> int:
        """The step of asks like this where nothing waits; looked up once in a while only."""
        known = self._unloaded.get(key)
        if known is not None and now_s - known[0] < CHECK_S:
            return known[1]
        if len(self._unloaded) >= self._max_flows:
            self._unloaded.clear()
        step = _unloaded_step(ask, table, fleet)
        self._unloaded[key] = now_s, step
        return step

    def _once(self, route: Route | Refusal, now_s: float) -> Route | Refusal:
        """The same, without a wish to load a ticket that has been uttered a moment ago."""
        if isinstance(route, Refusal) or route.warm is None:
            return route
        wish = (route.warm.ticket, route.warm.worker)
        if now_s - self._warmed.get(wish, -math.inf) < WARM_AGAIN_S:
            return msgspec.structs.replace(route, warm=None)
        if len(self._warmed) >= self._max_flows:
            self._warmed = {known: at_s for known, at_s in self._warmed.items() if now_s - at_s < WARM_AGAIN_S}
        if len(self._warmed) < self._max_flows:
            self._warmed[wish] = now_s
        return route


def _key(ask: Ask, tier: str, deadline_ms: float) -> Key:
    """The flow that an ask belongs to. Asks whose rows or deadlines differ by more than twice are not held back by
    each other: what is too much for one is no load for the other."""
    return ask.tenant, ask.domain, tier, ask.rows.bit_length(), math.frexp(deadline_ms)[1]


def _from(step: int, ask: Ask, table: Table, fleet: Fleet) -> Route | Refusal:
    """The choice from this step downwards. Before an answer that would be late, because a ticket has to be loaded
    first, the better tickets are tried too; before a refusal there is no use in it, because they cost more."""
    if step == 0:
        return choose(ask, table, fleet)
    route = choose(msgspec.structs.replace(ask, skip=step), table, fleet)
    if isinstance(route, Refusal) or route.predicted_ms <= route.deadline_ms:
        return route
    return choose(ask, table, fleet)


def _unloaded_step(ask: Ask, table: Table, fleet: Fleet) -> int:
    """The step at which the ask would be answered if nothing waited anywhere."""
    views = (
        msgspec.structs.replace(worker, running_ms=0.0, queued_ms=0.0, tenants={}, active_weight=0.0)
        for worker in fleet.workers
    )
    route = choose(ask, table, Fleet(workers=tuple(views)))
    return route.step if isinstance(route, Route) else 0


def _nearest_that_fits(step: int, best: int, ask: Ask, table: Table, fleet: Fleet) -> int | None:
    """The nearest step above this one that would make the deadline now, where there is one."""
    for above in range(step - 1, best - 1, -1):
        route = choose(msgspec.structs.replace(ask, skip=above), table, fleet)
        if isinstance(route, Route) and route.step == above:
            return above
    return None
