"""Speed: what one core of this host makes of each graph in ONNX Runtime, side by side.

All graphs run in turns in one process, round after round, so that a noisy neighbour hits all
of them; a speed-up is the median of per-round ratios to the baseline, with its range.
Texts are real; tokenizing is timed apart from running. Times are CPU times of the one thread
that runs: beside other work, wall times of long runs grow by what the scheduler takes and those
of short ones do not (measured: 17 times became what 12 times is).
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tickets.reference import Reference

BATCH_TEXTS = 16
ROUNDS = 9
ROUND_SECONDS = 0.25
BATCHES = 24


@dataclass(frozen=True, slots=True)
class Speed:
    """``texts_per_s`` of one core running batches of 16; ``speedup`` (median, lowest, highest) of the rounds'
    ratios to the baseline; ``alone_ms``: one text, tokenized and run (median), with its percentiles over texts and
    rounds.
    """

    texts_per_s: float
    speedup: tuple[float, float, float]
    alone_ms: float
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0


def measure(
    references: Mapping[str, Reference], baseline: str, texts: Sequence[str], tick: Callable[[], None]
) -> dict[str, Speed]:
    """Time every reference against ``references[baseline]``. ``tick`` is called after each of `ROUNDS` rounds."""
    random = np.random.default_rng(0)
    chosen = [[texts[i] for i in random.choice(len(texts), BATCH_TEXTS)] for _ in range(BATCHES)]
    ids = {name: [r.tokens(batch) for batch in chosen] for name, r in references.items()}
    rates: dict[str, list[float]] = {name: [] for name in references}
    alone: dict[str, list[float]] = {name: [] for name in references}
    for name, reference in references.items():
        _rate(reference, ids[name], 0.05)  # warm up
    for _ in range(ROUNDS):
        for name, reference in references.items():
            rates[name].append(_rate(reference, ids[name], ROUND_SECONDS))
            alone[name] += _alone_ms(reference, [batch[0] for batch in chosen])
        tick()
    return {name: _speed(rates[name], rates[baseline], alone[name]) for name in references}


def _speed(rates: list[float], base: list[float], alone: list[float]) -> Speed:
    ratios = sorted(a / b for a, b in zip(rates, base, strict=True))
    spread = (round(statistics.median(ratios), 2), round(ratios[0], 2), round(ratios[-1], 2))
    p50, p95, p99 = (round(float(value), 4) for value in np.percentile(alone, [50, 95, 99]))
    return Speed(round(statistics.median(rates), 1), spread, p50, p50, p95, p99)


def _rate(reference: Reference, batches: Sequence[NDArray[np.int32]], seconds: float) -> float:
    start = time.thread_time()
    done = 0
    while (elapsed := time.thread_time() - start) < seconds:
        reference.run(batches[done % len(batches)])
        done += 1
    return done * BATCH_TEXTS / elapsed


def _alone_ms(reference: Reference, texts: Sequence[str]) -> list[float]:
    times = []
    for text in texts:
        start = time.thread_time()
        reference.run(reference.tokens([text]))
        times.append(1000 * (time.thread_time() - start))
    return times
