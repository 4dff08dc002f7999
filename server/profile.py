"""The profile: a ticket's `Cost` from measurements, and its correction from every batch that runs.

Owns the two estimators. `fit` draws the line through the few shapes measured when a ticket is
loaded; `Correction` follows how the host really runs it afterwards, as one factor on the whole
line and the average error that remains. `Profiles` keeps both for a worker's tickets. Pure: no
clock, nothing is measured here (`server.measure` does), nobody is told (`server.news` does).
"""

import copy
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from routing.cost import Cost

PRIOR = Cost(0.5, 0.0, 0.02, 1.0)
"""Of a ticket that nothing is known of: a few layers on one core. Its spread says that it is a guess."""
MIN_SPREAD = 0.1
"""Nobody's runs are steadier than this; a few measurements that agree by chance do not say otherwise."""

_MIN_MS = 1e-3
_SLOWEST_GAIN = 1 / 16  # at a batch every few ms a change of the host is followed within a tenth of a second
_MAX_RATIO = 4.0  # one batch that was interrupted says little about the next one
_TELL_FACTOR, _TELL_SPREAD = 0.10, 0.15
_PATIENCE = 8  # calls of `Profiles.news`, about 2 s of heartbeats
_RELAX = 0.8  # what is left of a correction (its logarithm) after each call beyond that
_RELEARN_BATCHES = 3


def fit(points: Sequence[tuple[int, float, float]]) -> Cost:
    """The line that explains ``points`` = (rows, size of the largest row, measured ms) best.

    Least squares of the relative errors (so that a lone row counts as much as a full batch) with
    non-negative coefficients: of the few subsets of the three terms, the best that has none below
    zero (Lawson & Hanson 1974, ch. 23, whose active sets are few enough here to try them all).
    Raises ValueError without points.
    """
    if not points:
        raise ValueError("a profile needs at least one measurement")
    measured = np.array([max(ms, _MIN_MS) for _, _, ms in points])
    terms = np.array([(1.0, rows, rows * size) for rows, size, _ in points]) / measured[:, None]
    best, least = np.zeros(3), float(len(points))  # of predicting zero: every relative error is one
    for count in (1, 2, 3):
        for chosen in combinations(range(3), count):
            solved, *_ = np.linalg.lstsq(terms[:, chosen], np.ones(len(points)), rcond=None)
            error = float(((terms[:, chosen] @ solved - 1) ** 2).sum())
            if (solved >= 0).all() and error < least - 1e-12:
                best, least = np.zeros(3), error
                best[list(chosen)] = solved
    spread = float(np.abs(1 / np.maximum(terms @ best, 1e-3) - 1).mean())
    fixed_ms, row_ms, unit_ms = best.tolist()
    return Cost(fixed_ms, row_ms, unit_ms, max(spread, MIN_SPREAD))


class Correction:
    """How one ticket really runs, beside what was measured when it was loaded."""

    __slots__ = ("_batches", "_told", "factor", "spread")

    def __init__(self, cost: Cost) -> None:
        self.factor = 1.0
        """Measured over predicted, averaged."""
        self.spread = cost.spread
        """The average of |measured / predicted - 1|, as TCP follows the variation of round trips (Jacobson 1988)."""
        self._batches = 0
        self._told = (1.0, cost.spread)

    def learn(self, ratio: float) -> None:
        """Take in a batch that took ``ratio`` times what was predicted with the factor of then."""
        ratio = min(max(ratio, 1 / _MAX_RATIO), _MAX_RATIO)
        self._batches += 1
        gain = max(_SLOWEST_GAIN, 1 / (self._batches + 1))  # an average at first, in which the cost itself counts once
        self.spread = max(MIN_SPREAD, self.spread + gain * (abs(ratio - 1) - self.spread))
        self.factor *= 1 + gain * (ratio - 1)

    def relax(self, cost: Cost) -> bool:
        """Nothing has run for a while: what made runs slow may be over. Go back towards ``cost``, and learn quickly
        should it not be. A ticket that looks too slow for its deadlines is not asked any more, so that nothing else
        would ever correct it. Returns whether there is more to go back.
        """
        self._batches = min(self._batches, _RELEARN_BATCHES)
        if self.factor > 1.0:
            self.factor = self.factor**_RELAX if self.factor > 1.01 else 1.0
        self.spread = max(cost.spread, self.spread * _RELAX)
        return self.factor > 1.0 or self.spread > cost.spread

    def of(self, cost: Cost) -> Cost:
        """The cost as it has turned out to be; linear, so in whatever unit its sizes are."""
        factor = self.factor
        return Cost(cost.fixed_ms * factor, cost.row_ms * factor, cost.unit_ms * factor, self.spread, cost.max_size)

    def is_news(self) -> bool:
        """Whether it has moved so far since this last said so that predictions made elsewhere should follow."""
        factor, spread = self._told
        if abs(self.factor / factor - 1) <= _TELL_FACTOR and abs(self.spread - spread) <= _TELL_SPREAD:
            return False
        self._told = (self.factor, self.spread)
        return True


class _Profile:
    __slots__ = ("base", "correction", "cost", "idle")

    def __init__(self, base: Cost) -> None:
        self.base = base
        self.correction = Correction(base)
        self.cost = base
        self.idle = 0
        """Calls of `Profiles.news` since it ran last."""


class Profiles:
    """What the tickets in memory cost here, as far as is known by now. Not thread-safe: the caller holds a lock."""

    def __init__(self) -> None:
        self._profiles: dict[str, _Profile] = {}
        self._ran: set[str] = set()  # since `news` was asked for
        self._corrected: set[str] = set()

    def know(self, ticket: str, cost: Cost) -> None:
        """A ticket has come into memory, and was measured."""
        self._profiles[ticket] = _Profile(cost)

    def forget(self, ticket: str) -> None:
        """A ticket has gone out of memory."""
        self._profiles.pop(ticket, None)
        self._ran.discard(ticket)
        self._corrected.discard(ticket)

    def cost(self, ticket: str) -> Cost:
        """What a batch of the ticket is predicted by; `PRIOR` where it is not known."""
        profile = self._profiles.get(ticket)
        return PRIOR if profile is None else profile.cost

    def learn(self, ticket: str, ratio: float) -> bool:
        """A batch took ``ratio`` times what was predicted; whether the ticket is known, else it says nothing."""
        profile = self._profiles.get(ticket)
        if profile is None:
            return False
        profile.correction.learn(ratio)
        profile.cost = profile.correction.of(profile.base)
        profile.idle = 0
        self._ran.add(ticket)
        self._corrected.add(ticket)
        return True

    def news(self) -> dict[str, Correction]:
        """The corrections of tickets whose cost has moved far since this last told it. Ask a few times a second:
        the corrections of tickets that do not run wear off by it.
        """
        relaxed = [ticket for ticket in self._corrected - self._ran if self._relax(ticket)]
        moved = [(ticket, self._profiles[ticket].correction) for ticket in (*self._ran, *relaxed)]
        self._ran.clear()
        return {ticket: copy.copy(correction) for ticket, correction in moved if correction.is_news()}

    def _relax(self, ticket: str) -> bool:
        profile = self._profiles[ticket]
        profile.idle += 1
        if profile.idle <= _PATIENCE:
            return False
        if not profile.correction.relax(profile.base):
            self._corrected.discard(ticket)
        profile.cost = profile.correction.of(profile.base)
        return True
