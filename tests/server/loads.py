"""Loading tickets in tests: waiting for a load, a clock that stands still, and what a tiny ticket counts for."""

import queue

from server.opening import MIN_BYTES
from server.sessions import Sessions

GENEROUS_S = 45.0
TINY_BYTES = MIN_BYTES
"""What a tiny ticket counts for where the heap is not measured."""


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def load(sessions: Sessions, ticket: str, tenant: str = "") -> str | None:
    """Load and wait: None, or why not."""
    results: queue.Queue[str | None] = queue.Queue()
    sessions.load(ticket, results.put, tenant=tenant)
    return results.get(timeout=GENEROUS_S)
