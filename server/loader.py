"""The loader: the one thread that brings tickets into memory, one after another.

Owns the order (urgent loads first), that callers who want the same ticket share one load, and that
every caller is told. What a load does is the caller's function; it returns a reason where it failed.
"""

import itertools
import os
import queue
import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger()

Done = Callable[[str | None], None]

REST_AFTER_S = 1.0
BETWEEN_RESTS_S = 0.02
_NICENESS = 10


class Loader:
    """Runs ``load(ticket, tenant)`` for tickets that are asked for, and ``rest()`` in the quiet after loads, again and
    again for as long as it says that there is more to do."""

    def __init__(self, load: Callable[[str, str], str | None], rest: Callable[[], bool]) -> None:
        self._load, self._rest = load, rest
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Done]] = {}
        self._jobs: queue.PriorityQueue[tuple[int, int, str | None, str]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)
        self._thread.start()

    def add(self, ticket: str, done: Done, *, tenant: str, urgent: bool) -> None:
        """Load a ticket for a tenant, and call ``done(None)`` or ``done(reason)`` on this thread."""
        with self._lock:
            waiting = self._waiting.setdefault(ticket, [])
            waiting.append(done)
            if len(waiting) == 1 or urgent:  # asked again urgently: goes to the front, and the old job finds nothing
                self._jobs.put((0 if urgent else 1, next(self._numbers), ticket, tenant))

    def close(self) -> None:
        """End the thread after the load in progress."""
        self._jobs.put((-1, next(self._numbers), None, ""))
        self._thread.join()

    def _run(self) -> None:
        _be_nice()
        quiet_s: float | None = REST_AFTER_S
        while True:
            try:
                _, _, ticket, tenant = self._jobs.get(timeout=quiet_s)
            except queue.Empty:
                quiet_s = BETWEEN_RESTS_S if self._rest() else None  # None: not before there is another load
                continue
            quiet_s = REST_AFTER_S
            if ticket is None:
                return
            with self._lock:
                is_wanted = ticket in self._waiting
            if is_wanted:
                reason = self._load(ticket, tenant)
                with self._lock:
                    waiting = self._waiting.pop(ticket)
                for done in waiting:
                    tell(done, reason)


def tell(listener: Callable[..., None], *arguments: object) -> None:
    """Call a listener; one that fails (its loop may be gone) must not end the loader thread."""
    try:
        listener(*arguments)
    except Exception:
        log.exception("listener_failed")


def _be_nice() -> None:
    """Loads give way to running tickets. On Linux niceness belongs to the thread; elsewhere leave it."""
    if os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
