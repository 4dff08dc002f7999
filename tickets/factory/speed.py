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
    rounds; ``batch_*``: one batch of 16 whose texts were tokenized before, over batches and rounds.
    """

    texts_per_s: float
    speedup: tuple[float, float, float]
    alone_ms: float
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    batch_p50_ms: float = 0.0
    batch_p95_ms: float = 0.0
    batch_p99_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of times in milliseconds: half, 95 % and 99 % of them are no longer than this."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


def percentiles(times_ms: Sequence[float]) -> Percentiles:
    """Of a list of times, linear between neighbours. Of fewer than a hundred times the 99th percentile is nearly their
    largest. Raises ValueError for an empty list.
    """
    if not len(times_ms):
        raise ValueError("no times were measured")
    return Percentiles(*(round(float(value), 4) for value in np.percentile(times_ms, [50, 95, 99])))


def cost(size_bytes: int, speed: Speed | None = None) -> dict[str, float]:
    """What a ticket costs, as the evaluation document has it: bytes, and where speed was measured its times, its rate
    and its median speed-up.
    """
    if speed is None:
        return {"bytes": size_bytes}
    return {"bytes": size_bytes, "texts_per_s": speed.texts_per_s, "speedup": speed.speedup[0],
            "p50_ms": speed.p50_ms, "p95_ms": speed.p95_ms, "p99_ms": speed.p99_ms}  # fmt: skip


def measure(
    references: Mapping[str, Reference], baseline: str, texts: Sequence[str], tick: Callable[[], None]
) -> dict[str, Speed]:
    """Time every reference against ``references[baseline]``. ``tick`` is called after each of `ROUNDS` rounds."""
    random = np.random.default_rng(0)
    chosen = [[texts[i] for i in random.choice(len(texts), BATCH_TEXTS)] for _ in range(BATCHES)]
    ids = {name: [r.tokens(batch) for batch in chosen] for name, r in references.items()}
    rates: dict[str, list[float]] = {name: [] for name in references}
    batches: dict[str, list[float]] = {name: [] for name in references}
    alone: dict[str, list[float]] = {name: [] for name in references}
    for name, reference in references.items():
        _batches_ms(reference, ids[name], 0.05)  # warm up
    for _ in range(ROUNDS):
        for name, reference in references.items():
            times_ms = _batches_ms(reference, ids[name], ROUND_SECONDS)
            rates[name].append(1000 * BATCH_TEXTS * len(times_ms) / sum(times_ms))
            batches[name] += times_ms
            alone[name] += _alone_ms(reference, [batch[0] for batch in chosen])
        tick()
    return {name: _speed(rates[name], rates[baseline], alone[name], batches[name]) for name in references}


def _speed(rates: list[float], base: list[float], alone: list[float], batches: list[float]) -> Speed:
    ratios = sorted(a / b for a, b in zip(rates, base, strict=True))
    spread = (round(statistics.median(ratios), 2), round(ratios[0], 2), round(ratios[-1], 2))
    one, many = percentiles(alone), percentiles(batches)
    return Speed(
        round(statistics.median(rates), 1), spread, one.p50_ms,
        one.p50_ms, one.p95_ms, one.p99_ms, many.p50_ms, many.p95_ms, many.p99_ms,
    )  # fmt: skip


def _batches_ms(reference: Reference, batches: Sequence[NDArray[np.int32]], seconds: float) -> list[float]:
    """Of batch after batch, until ``seconds`` are spent. The time between two batches belongs to the second."""
    times_ms: list[float] = []
    start = last = time.thread_time()
    while last - start < seconds:
        reference.run(batches[len(times_ms) % len(batches)])
        now = time.thread_time()
        times_ms.append(1000 * (now - last))
        last = now
    return times_ms


def _alone_ms(reference: Reference, texts: Sequence[str]) -> list[float]:
    times = []
    for text in texts:
        start = time.thread_time()
        reference.run(reference.tokens([text]))
        times.append(1000 * (time.thread_time() - start))
    return times
