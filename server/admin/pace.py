"""The pace of changes: how fast one tenant may change things, so that it cannot push out what all tenants share.

Owns a token bucket per tenant, in one gateway. Every change writes an event and often a version of the table, of which
a bounded number is kept for everybody: without a pace one tenant's loop would push the others' out in minutes. Limits
of inference are `server.limits`'s, which hold over all gateways; here a factor of their number does no harm.
"""

import time
from collections.abc import Callable

from server.errors import RateLimited

CHANGES_AT_ONCE = 120
CHANGES_PER_S = 1.0


class Pace:
    """One gateway's. Operators are not paced."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        """By tenant: how many changes were left, and when. Tenants at rest are forgotten."""

    def take(self, tenant: str) -> None:
        """One change of a tenant. Raises RateLimited where it has made too many."""
        now = self._clock()
        left, at = self._left.get(tenant, (CHANGES_AT_ONCE, now))
        left = min(CHANGES_AT_ONCE, left + (now - at) * CHANGES_PER_S)
        if left < 1.0:
            promise = f"{CHANGES_AT_ONCE} at once, then {CHANGES_PER_S:g} a second"
            raise RateLimited(f"changes come too fast: {promise}", retry_after_s=(1.0 - left) / CHANGES_PER_S)
        self._left = {name: told for name, told in self._left.items() if now - told[1] < CHANGES_AT_ONCE}
        self._left[tenant] = (left - 1.0, now)
