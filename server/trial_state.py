"""One trial as this gateway sees it: what it has counted, and how cautious it has to be with the canary.

Owns the counts, the places for asks that nobody waits for, and the caution with a ticket that nobody knows yet: one ask
at a time until it has answered, and none for a while after it has cost a worker. Who is asked is `server.trial`'s.
Times are `time.perf_counter`'s, and arguments.
"""

import math

import msgspec
import structlog

from routing.canary import Counts, Trial
from routing.table import Canary

BESIDE_AT_ONCE = 4
BESIDE_PER_S = 25.0
"""So many of them there are at a time, and begin in a second, for each trial."""
MAX_PAUSE_S = 60.0

log = structlog.get_logger()


class Running:
    """A trial that runs."""

    def __init__(self, trial: Trial, canary: Canary) -> None:
        self.trial, self.canary = trial, canary
        self.counts = Counts()
        self.number = 0
        self.answered = 0
        self.pending: dict[int, float] = {}
        """The canary's asks that callers wait for or waited for, by number, and when each must have been answered."""
        self.beside = 0
        self.tokens = BESIDE_PER_S
        self.filled_at = self.loaded_at = -math.inf
        self.harms = 0
        self.paused_until = -math.inf

    def saw_canary(self, *, is_error: bool = False, is_late: bool = False) -> None:
        """Count one ask of the canary."""
        arm = self.counts.canary.plus(1, int(is_error), int(is_late))
        self.counts = msgspec.structs.replace(self.counts, canary=arm)
        self.answered += not (is_error or is_late)

    def saw_current(self, *, is_error: bool = False, is_late: bool = False) -> None:
        """Count one ask of the ticket that it is compared with."""
        arm = self.counts.current.plus(1, int(is_error), int(is_late))
        self.counts = msgspec.structs.replace(self.counts, current=arm)

    def skipped(self) -> None:
        """Count one that was drawn and not tried."""
        self.counts = msgspec.structs.replace(self.counts, skipped=self.counts.skipped + 1)

    def harmed(self, pause_s: float, now: float) -> None:
        """It has cost a worker: leave it alone for a while. What it did before that is one harm with it."""
        if now < self.paused_until:
            return
        self.paused_until = now + min(MAX_PAUSE_S, pause_s * 2**self.harms)
        self.harms += 1
        log.warning("canary_harms", ticket=self.canary.ticket, paused_s=round(self.paused_until - now, 1))

    def may_be_tried(self, now: float) -> bool:
        """One at a time until it has answered, more and more then; not while one is overdue."""
        if now < self.paused_until or len(self.pending) > self.answered:
            return False
        return not any(ends < now for ends in self.pending.values())

    def may_ask_beside(self, now: float) -> bool:
        """Take a place for an ask that nobody waits for, where one is free."""
        self.tokens = min(BESIDE_PER_S, self.tokens + (now - self.filled_at) * BESIDE_PER_S)
        self.filled_at = now
        if self.beside >= BESIDE_AT_ONCE or self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        self.beside += 1
        return True
