"""What is scheduled: entries that wait, and the batches that they run in. Plain data.

Owns the words that `server.scheduler`, which fills batches, and `server.runner`, which runs them, have in
common. Rows and tokens are numbers here; what they are is the task's business.
"""

from typing import Any

import msgspec

PRIORITIES = 3


class Entry(msgspec.Struct, kw_only=True, eq=False):
    """``texts`` rows of work for one ticket, wanted before ``deadline`` (seconds of the caller's clock).

    ``longest`` is the estimated number of tokens of the longest row. ``priority`` goes from 1, first,
    to 3, among the same tenant's. ``done`` counts the rows that batches have taken; only the
    scheduler changes it. ``payload`` is the caller's.
    """

    id: int
    ticket: str
    tenant: str
    deadline: float
    texts: int
    longest: int
    priority: int = 2
    payload: Any = None
    done: int = 0


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Rows ``start`` to ``stop`` (exclusive) of an entry."""

    entry: Entry
    start: int
    stop: int

    @property
    def is_first(self) -> bool:
        """Whether the entry begins to run with this slice."""
        return self.start == 0

    @property
    def is_last(self) -> bool:
        """Whether nothing of the entry is left to run after this slice."""
        return self.stop == self.entry.texts


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What to run together now, most urgent first. ``tokens`` is its estimated padded size, ``predicted_ms``
    what it should take: the sum of what its tenants are charged."""

    ticket: str
    slices: list[Slice]
    texts: int
    tokens: int
    predicted_ms: float
    began: float
