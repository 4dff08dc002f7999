"""The request log: at most one line per request, with who, what, where the time went and why.

Owns which requests get a line, and the line's fields. Nothing that a caller wrote is in it but what the table
vouches for and the request id, whose characters are bounded: never a text, never a key. Lines of failures are limited
to so many a second, since a surge must not become a surge of lines; what was left out is said. Lines are
gathered and written ten times a second. Format and place of all other lines are `server.logs`'s.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from typing import Literal, get_args

import msgspec

Mode = Literal["off", "errors", "sampled", "all"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_MODE: Mode = "sampled"
SAMPLED = 0.01
"""Of the requests that went well, the part that mode ``sampled`` writes, besides those with a trace."""
MAX_FAILURES_PER_S = 100
FLUSH_S = 0.1


class RequestDone(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag="request_done"):
    """One line. Times in milliseconds; what is not known is left out."""

    level: Literal["info", "warning"]
    timestamp: datetime
    request_id: str
    tenant: str = ""
    domain: str = ""
    tier: str = ""
    ticket: str = ""
    because: str = ""
    rows: int = 0
    admission_ms: float | None = None
    queue_ms: float | None = None
    run_ms: float | None = None
    total_ms: float
    deadline_ms: float | None = None
    outcome: str
    """``ok``, ``cancelled`` or the code of an error."""
    status: int
    """Of the answer; 0 where nobody was left to hear it."""
    trace_id: str = ""


class RequestLog:
    """Decides about lines and hands them to ``emit``, which takes all that have gathered."""

    def __init__(
        self, mode: Mode, emit: Callable[[list[RequestDone], int], None], *, draw: Callable[[], float] = random.random
    ) -> None:
        """``emit`` gets lines, and how many lines of failures were left out since it was last called."""
        self._mode = mode
        self._emit = emit
        self._draw = draw
        self._lines: list[RequestDone] = []
        self._flushing: asyncio.TimerHandle | None = None
        self._second = 0
        self._failures = 0
        self._left_out = 0

    def wants(self, *, is_good: bool, is_traced: bool, now: float) -> bool:
        """Whether this request gets a line. ``is_good``: answered, and in time. ``now`` in seconds."""
        if self._mode == "all":
            return True
        if self._mode == "off":
            return False
        if is_good:
            return self._mode == "sampled" and (is_traced or self._draw() < SAMPLED)
        if int(now) != self._second:
            self._second, self._failures = int(now), 0
        self._failures += 1
        if self._failures > MAX_FAILURES_PER_S:
            self._left_out += 1
            return False
        return True

    def add(self, line: RequestDone) -> None:
        """Have a line written soon."""
        self._lines.append(line)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what has gathered."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        lines, self._lines = self._lines, []
        left_out, self._left_out = self._left_out, 0
        if lines or left_out:
            self._emit(lines, left_out)
