"""Fairness between tenants: who may be served now, by what each has been served so far.

Owns the tenants' counters of service and their weights. A counter is the milliseconds of service
charged to a tenant, divided by its weight (the Virtual Token Counter of Sheng et al., OSDI 2024).
A tenant may be served while its counter is within ``FAIR_LEAD_MS`` of the least one among those
with work waiting (as WF2Q serves only from an eligible set, Bennett & Zhang 1996); which of those
goes first is left to `server.scheduler`. So, while two tenants both have work waiting:

    |S_i / w_i - S_j / w_j| <= FAIR_LEAD_MS + one batch / the smaller weight, at every moment,

and over any interval within that time their shares differ by at most twice as much. A tenant that
comes back is lifted to the least counter of those that wait: having been idle banks no credit.
"""

import heapq
from collections.abc import Mapping

from routing.cost import FAIR_LEAD_MS

_FEW = 64


class Fair:
    """The counters of all tenants. A tenant *waits* from ``join`` to ``leave``."""

    def __init__(self, lead_ms: float = FAIR_LEAD_MS) -> None:
        self.lead_ms = lead_ms
        self._weights: Mapping[str, float] = {}
        self.counters: dict[str, float] = {}
        """The service charged to tenants, by their weights: of all that wait, and of those that are ahead."""
        self._waiting: set[str] = set()
        self._heap: list[tuple[float, str]] = []  # counters of those that wait; outdated ones are dropped at the top
        self._level = 0.0  # the least counter among those that wait, or of when somebody last did: never falls
        self._prune_at = _FEW

    def weigh(self, weights: Mapping[str, float]) -> None:
        """From now on these are the weights; tenants that are not named have weight 1."""
        self._weights = dict(weights)

    def weight(self, tenant: str) -> float:
        """The tenant's weight."""
        return self._weights.get(tenant, 1.0)

    def join(self, tenant: str) -> None:
        """The tenant has work waiting, and had none."""
        self._waiting.add(tenant)
        counter = max(self.counters.get(tenant, 0.0), self._least())
        self._set(tenant, counter)

    def leave(self, tenant: str) -> None:
        """The tenant has nothing waiting any more."""
        self._waiting.discard(tenant)
        if len(self.counters) > self._prune_at + len(self._waiting):
            self._prune()

    def charge(self, tenant: str, ms: float) -> None:
        """The tenant, which waits or waited a moment ago, is served for ``ms``."""
        self._set(tenant, self.counters.get(tenant, self._level) + ms / self.weight(tenant))

    def limit(self) -> float:
        """Tenants with a counter up to this may be served."""
        return self._least() + self.lead_ms

    def rest(self) -> None:
        """Nothing waits and nothing runs: whatever anybody was ahead is forgiven."""
        self.counters.clear()
        self._heap.clear()
        self._prune_at = _FEW

    def _set(self, tenant: str, counter: float) -> None:
        self.counters[tenant] = counter
        if tenant in self._waiting:
            heapq.heappush(self._heap, (counter, tenant))
            if len(self._heap) > 2 * len(self._waiting) + _FEW:
                self._heap = [(self.counters[one], one) for one in self._waiting]
                heapq.heapify(self._heap)

    def _least(self) -> float:
        heap = self._heap
        while heap:
            counter, tenant = heap[0]
            if tenant in self._waiting and self.counters.get(tenant) == counter:
                self._level = max(self._level, counter)
                break
            heapq.heappop(heap)
        return self._level

    def _prune(self) -> None:
        """Forget the counters that `join` would lift anyway: nothing is lost with them."""
        level = self._least()
        self.counters = {
            tenant: counter for tenant, counter in self.counters.items() if counter > level or tenant in self._waiting
        }
        self._prune_at = max(_FEW, 2 * len(self.counters))
