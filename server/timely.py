"""What time allows: how many rows may join a batch, and who is given up when not all can be in time.

Under overload a queue grows until work reaches its head with hardly any time left. Filled up to the token
budget, a batch then ends after the deadlines of most of its entries, and the worker is busy for nothing. So
nobody joins a batch that would make its most urgent entry late; and since batches of one waste what every
run costs, an entry without time for an efficient batch is given up where enough others of its own tenant
wait for one. (As a discrete simulation of one worker with deadlines of 22 ms: at three times the capacity
0-21 % of what it could do was in time without these rules, 95-98 % with them; below capacity they hardly
ever bind.) Pure.
"""

import math
from collections.abc import Sequence

from routing.cost import Cost
from server.batch import Entry

EFFICIENCY = 0.95
"""A batch is efficient when at least so much of its time goes into rows, not into the call."""
KNOWN_SPREAD = 0.9
"""A cost that is further off than this is a guess (`server.profile.PRIOR`): nobody is given up, nor kept out of a
batch, for a guess. What was measured on a machine whose cores others use, too, came to 0.4-0.6."""


def latest_start(entry: Entry, cost: Cost) -> float:
    """When its run would have to begin for it to make its deadline, if all goes as well as it ever does.

    Of its rows only the longest is known to be that long; and a cost that is often far off says less.
    """
    least_ms = cost.fixed_ms + (entry.texts - entry.done) * cost.row_ms + entry.longest * cost.unit_ms
    return entry.deadline - least_ms * max(0.0, 1 - 2 * cost.spread) / 1000


def efficient_rows(cost: Cost, size: float) -> int:
    """The rows of the smallest efficient batch."""
    row_ms = cost.marginal(1, size)
    if not row_ms > 0:
        return 1
    return max(1, math.ceil(cost.fixed_ms / row_ms * EFFICIENCY / (1 - EFFICIENCY) - 1e-9))


def rows_in_time(cost: Cost, size: float, left_ms: float) -> float:
    """How many rows a batch may have that is to be done in ``left_ms``, with a margin for how far costs are off."""
    row_ms = cost.marginal(1, size)
    if cost.spread > KNOWN_SPREAD or not row_ms > 0:
        return math.inf
    return math.floor((left_ms / (1 + 2 * cost.spread) - cost.fixed_ms) / row_ms + 1e-9)


def give_way(cost: Cost, size: float, left_ms: Sequence[float], most_rows: int) -> int:
    """How many of the most urgent entries stand in the way of efficient batches of those behind them.

    ``left_ms``: what is left of the deadlines of all that could be in a batch, rising. ``most_rows``: what the token
    budget allows. Nobody gives way where the next ones would be in time after a smaller batch just as well.
    """
    rows = min(efficient_rows(cost, size), most_rows)
    for at, left in enumerate(left_ms):
        in_time = rows_in_time(cost, size, left)
        small = max(1, int(min(in_time, rows)))
        if in_time >= rows or at + max(rows, small) >= len(left_ms):
            return at
        if rows_in_time(cost, size, left_ms[at + small] - cost.of(small, size)) >= rows:
            return at
    return 0
