"""The surge: requests that a gateway could not look at in time are refused before it looks at them.

Owns one estimate: how long the requests that this turn of the event loop has brought will take to get
through it. Where a gateway itself is the bottleneck, every request waits behind thousands of others,
and all answers come too late, refusals first of all, because they cost nearly as much as answers. What
would wait for longer than half of what callers usually allow is refused before its body is looked at, and the
rest is answered in time: admission by prediction, as in `routing.decide`, one step earlier.
"""

import asyncio
import time
from collections.abc import Callable

SHARE = 0.5
"""Of a usual deadline, what a request may spend waiting for the gateway's attention."""
FIRST_COST_S = 100e-6
_LEARNING_RATE = 0.1
_FEW = 8  # a turn with fewer requests says little about what one costs


class Surge:
    """One gateway's. ``deadline_ms`` gives the deadline that callers usually set, in milliseconds; ``refused``
    is called for every request that is refused."""

    def __init__(self, deadline_ms: Callable[[], float], refused: Callable[[], None] = lambda: None) -> None:
        self._deadline_ms = deadline_ms
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._cost_s = FIRST_COST_S
        self._admitted = 0
        self._began = 0.0

    def admit(self) -> bool:
        """Whether the request that has just arrived can be looked at in time."""
        if not self._admitted:
            self._began = time.perf_counter()
            self._loop.call_soon(self._all_here)
        elif self._admitted * self._cost_s * 1000 > SHARE * self._deadline_ms():
            self._refused()
            return False
        self._admitted += 1
        return True

    def _all_here(self) -> None:
        """Everything that has been read in this turn has been counted; its work is what the loop does next."""
        admitted, self._admitted = self._admitted, 0
        if admitted >= _FEW:
            self._loop.call_soon(self._learn, admitted, self._began)

    def _learn(self, admitted: int, began: float) -> None:
        """That work has been begun; what it waits for comes in later turns, between other requests' work."""
        self._cost_s += _LEARNING_RATE * ((time.perf_counter() - began) / admitted - self._cost_s)
