"""The cost: what running a ticket takes on one worker, as a line through its measurements.

Owns the formula by which everybody predicts: the scheduler (sizes in tokens, or whatever a task
counts), and the gateways (sizes in bytes of input, because they know nothing of tasks). Workers
measure and correct it (`server.profile`). Plain data, no clock.
"""

import math

import msgspec

FAIR_LEAD_MS = 10.0
"""How much more service than its fair share a tenant may have had on a worker before less-served ones
go first, whatever the deadlines: the bound of `server.fair`, and what a prediction of a wait must allow for."""


class Cost(msgspec.Struct, frozen=True, array_like=True):
    """Milliseconds of a batch: ``fixed_ms + rows x (row_ms + size x unit_ms)``.

    ``size`` is that of the largest row, in units of the owner's choice. ``spread`` is how far off
    predictions are: the average of |measured / predicted - 1|.
    """

    fixed_ms: float
    row_ms: float
    unit_ms: float
    spread: float = 0.0
    max_size: float = math.inf
    """Rows larger than this cost no more: the task cuts them."""

    def of(self, rows: int, size: float) -> float:
        """What a batch of ``rows`` padded to ``size`` takes."""
        return self.fixed_ms + self.marginal(rows, size)

    def marginal(self, rows: int, size: float) -> float:
        """What so many rows add to a batch that runs anyway."""
        return rows * (self.row_ms + min(size, self.max_size) * self.unit_ms)
