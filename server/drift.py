"""Drift: does a ticket answer as it did when it was new? Counts in, population stability indices out. Pure.

Owns what is counted of a ticket's answers (how sure it was, whether in scope, which label), the baseline, the sliding
window of about the last 2,000 answers, and the index between the two. What is read from it: below 0.1 nothing has
changed, from 0.1 on it is worth a look, from 0.25 on the ticket is not answering what it was made for (Siddiqi, Credit
Risk Scorecards, 2006). Where answers come from is left to `server.answers`.
"""

from collections import deque
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

CONFIDENCE_BINS = 10
LABEL_GROUPS = 32
"""More labels than this share groups, by their number in the manifest. To tell the baseline's commonest ones apart
would mislead: of 150 labels alike, those that were commonest by chance alone made an index of 0.11 out of no change."""
BASELINE_ROWS = 1000
WINDOW_ROWS = 2000
BLOCK_ROWS = 250
"""The window slides by so many rows at a time."""
MIN_ROWS = 250
"""Of a window with fewer rows nothing is said."""
WATCH, ACT = 0.1, 0.25
_PRIOR = 0.5  # of a row in every bin, so that an empty one does not make the index infinite

Kind = str
KINDS = ("confidence", "class", "scope")


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What some answers were. ``labels``: how many of those in scope had a label of which group."""

    rows: int
    confidence: NDArray[np.int64]
    confidence_sum: float
    in_scope: int
    labels: NDArray[np.int64]

    def plus(self, other: "Seen") -> "Seen":
        """Both together."""
        return Seen(
            rows=self.rows + other.rows, confidence=self.confidence + other.confidence,
            confidence_sum=self.confidence_sum + other.confidence_sum, in_scope=self.in_scope + other.in_scope,
            labels=self.labels + other.labels,
        )  # fmt: skip


NOTHING = Seen(
    rows=0, confidence=np.zeros(CONFIDENCE_BINS, np.int64), confidence_sum=0.0, in_scope=0,
    labels=np.zeros(LABEL_GROUPS, np.int64),
)  # fmt: skip


def see(confidence: NDArray[np.float32], in_scope: NDArray[np.bool_], labels: NDArray[np.int32]) -> Seen:
    """Count answers: row by row how sure, whether in scope, and the number of the best label."""
    bins = np.clip(
        np.ceil(confidence.astype(np.float64) * CONFIDENCE_BINS).astype(np.int64) - 1, 0, CONFIDENCE_BINS - 1
    )
    return Seen(
        rows=len(confidence),
        confidence=np.bincount(bins, minlength=CONFIDENCE_BINS),
        confidence_sum=float(confidence.sum(dtype=np.float64)),
        in_scope=int(np.count_nonzero(in_scope)),
        labels=np.bincount(labels[in_scope] % LABEL_GROUPS, minlength=LABEL_GROUPS),
    )


def stability_index(before: Sequence[int], now: Sequence[int]) -> float:
    """The population stability index of two counts of the same bins, less what chance alone would give.

    Between two samples of one distribution it is on average (bins - 1) (1/n + 1/m) (Yurdakul 2018): 0.05 for 32 bins,
    a baseline of 1,000 and a window of 2,000, half of what is worth a look. That is taken off. 0 where one is empty.
    """
    n, m, used = sum(before), sum(now), sum(1 for a, b in zip(before, now, strict=True) if a or b)
    if not n or not m:
        return 0.0
    p = (np.asarray(before, np.float64) + _PRIOR) / (n + _PRIOR * len(before))
    q = (np.asarray(now, np.float64) + _PRIOR) / (m + _PRIOR * len(now))
    index = float(((q - p) * np.log(q / p)).sum())
    return max(0.0, index - max(0, used - 1) * (1 / n + 1 / m))


class Drift:
    """One ticket's. Answers go to the baseline until it has `BASELINE_ROWS`, or has been given; then to the window."""

    def __init__(self) -> None:
        self.source = ""
        """Where the baseline comes from: ``evidence``, ``samples`` or ``first_answers``; empty while it is not full."""
        self.baseline = NOTHING
        self._block = NOTHING
        self._blocks: deque[Seen] = deque()

    @property
    def window(self) -> Seen:
        """The last answers."""
        window = self._block
        for block in self._blocks:
            window = window.plus(block)
        return window

    def begin(self, baseline: Seen, source: str) -> None:
        """What is compared with from now on."""
        self.baseline, self.source = baseline, source
        self._block, self._blocks = NOTHING, deque()

    def add(self, seen: Seen) -> None:
        """More answers, newer than those before."""
        if not self.source:
            self.baseline = self.baseline.plus(seen)
            if self.baseline.rows >= BASELINE_ROWS:
                self.source = "first_answers"
            return
        self._block = self._block.plus(seen)
        if self._block.rows >= BLOCK_ROWS:
            self._blocks.append(self._block)
            self._block = NOTHING
            while sum(block.rows for block in self._blocks) - self._blocks[0].rows >= WINDOW_ROWS:
                self._blocks.popleft()

    def indices(self) -> dict[Kind, float]:
        """The index of each of KINDS; nothing while there is too little to say."""
        window, base = self.window, self.baseline
        if not self.source or window.rows < MIN_ROWS:
            return {}
        return {
            "confidence": stability_index(base.confidence.tolist(), window.confidence.tolist()),
            "class": stability_index(base.labels.tolist(), window.labels.tolist()),
            "scope": stability_index(_scope(base), _scope(window)),
        }


def _scope(seen: Seen) -> list[int]:
    return [seen.in_scope, seen.rows - seen.in_scope]
