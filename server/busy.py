"""How busy: the fraction of the last second or so that something ran, without a window to keep.

An exponentially weighted average over continuous time, exact between changes, so that it does not
matter how often it is asked for. Pure: time is an argument (seconds of the caller's clock).
"""

import math

TIME_CONSTANT_S = 1.0
"""Time weighs less by e for every such step into the past."""


class Busy:
    """Call ``begin`` and ``end`` in turns."""

    __slots__ = ("_is_running", "_since", "_then")

    def __init__(self) -> None:
        self._then = 0.0
        self._since = -math.inf
        self._is_running = False

    def begin(self, now: float) -> None:
        """Something runs from now on."""
        self._then, self._since, self._is_running = self.fraction(now), now, True

    def end(self, now: float) -> None:
        """Nothing runs from now on."""
        self._then, self._since, self._is_running = self.fraction(now), now, False

    def fraction(self, now: float) -> float:
        """From 0, idle for long, to 1, running for long."""
        target = 1.0 if self._is_running else 0.0
        return target + (self._then - target) * math.exp(-(now - self._since) / TIME_CONSTANT_S)
