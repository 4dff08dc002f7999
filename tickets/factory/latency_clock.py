"""The clock: what one run of each of several graphs takes on one core, all timed in turns.

Milliseconds are of the thread's CPU time, which is wall time on an idle core. Beside other work on the same cores a run
of 40 ms took 60 by the wall clock, because the scheduler interrupts it, and one of 3 ms took 3: ratios of wall times
are then worth nothing. What is left (shared caches and clock rates) hits graphs that run in turns alike.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickets.reference import open_graph

QUIET = 0.25
"""The quantile of many runs that counts: neighbours make runs slower, never faster."""
RUNS = 2
FEWEST_ROUNDS = 5

Feed = dict[str, NDArray[np.int32]]


def in_turns(
    models: Sequence[bytes], feeds: Sequence[Feed], seconds: float, tick: Callable[[int, int], None]
) -> NDArray[np.float64]:
    """Quiet milliseconds of one run of each graph on each feed, [models, feeds]; opened as a ticket is, one thread.

    Round after round for about ``seconds``, at least `FEWEST_ROUNDS`. ``tick`` is called after each with per cent
    done and 100.
    """
    sessions = [open_graph(model, 1) for model in models]
    rounds: list[list[list[list[float]]]] = []
    start = time.perf_counter()
    while len(rounds) < FEWEST_ROUNDS or time.perf_counter() - start < seconds:
        rounds.append([[_visit(session, feed) for feed in feeds] for session in sessions])
        tick(min(99, int(100 * (time.perf_counter() - start) / seconds)), 100)
    tick(100, 100)
    return np.asarray(np.quantile(np.array(rounds), QUIET, axis=(0, 3)), np.float64)


def _visit(session: Any, feed: Feed) -> list[float]:  # noqa: ANN401 - onnxruntime has no types
    """Milliseconds of `RUNS` runs, after one that warms the caches."""
    session.run(None, feed)
    times = []
    for _ in range(RUNS):
        start = time.thread_time()  # a session with one thread runs in the caller's
        session.run(None, feed)
        times.append(1000 * (time.thread_time() - start))
    return times
