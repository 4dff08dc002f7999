"""Measuring: what a batch of a ticket costs on this host, from a few that run when it is loaded.

Owns the shapes, the repeats and the limits. The time is the measuring thread's own CPU time where
graphs run on the thread that calls them, so that other work on the machine is not measured too; on a
device it is the wall's. The line through the points is `server.profile`'s.
"""

import time
from collections.abc import Callable

from routing.cost import Cost
from server.profile import fit
from server.task import Task

SHAPES = ((1, 8), (1, 32), (8, 16), (16, 24))
"""Rows and the size of each: lone asks, and batches as they form under load."""
REPEATS = 2
QUICK_S = 0.010
"""When so much has been spent, a shape runs once; after ten times that, not at all (but two do, to have a line)."""


def measure(task: Task, *, on_cpu: bool = True, clock: Callable[[], float] | None = None) -> Cost:
    """The cost of a task that has been warmed up, in the units of `server.task.Work.longest`."""
    clock = clock or (time.thread_time if on_cpu else time.perf_counter)
    points: list[tuple[int, float, float]] = []
    began = clock()
    for rows, size in SHAPES:
        if len(points) > 1 and clock() - began > 10 * QUICK_S:
            break
        size = min(size, task.max_size)
        batch = task.sample_rows(rows, size)
        best_s = float("inf")
        for _ in range(REPEATS):
            start = clock()
            task.run(batch)
            now = clock()
            best_s = min(best_s, now - start)
            if now - began > QUICK_S:
                break
        points.append((rows, float(size), best_s * 1000))
    return fit(points)
