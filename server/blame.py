"""Blame: whether the death of a worker is held against a ticket, and which.

Owns the judgement, from what is left of the process: how it ended, its marker, and the record of
the thread that a fatal signal came to. Where the evidence fits no ticket or two of them nobody is
blamed, because a ticket in quarantine answers nobody any more. Keeping count is
`server.quarantine`'s.
"""

import signal
import time
from pathlib import Path

import structlog

from server.quarantine import Marked, Quarantine, crash_file, crashed_thread, marker_file, quarantine_file, read_marker
from server.supervisor import Death

CRASH_SIGNALS = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})
STUCK, STOPPED = "no answer to the probe", "no answer to the probe, and a signal has stopped it"
"""Why `server.watch` kills."""
THREAD_CRASHED = 70
"""The status a worker ends with when its run thread or loader has ended."""

log = structlog.get_logger()


def hold_against(death: Death, run_dir: Path, *, patience_s: float) -> None:
    """Count the death of a worker against the ticket it died of, if it was one."""
    marker = marker_file(run_dir, death.part)
    ticket = culprit(death, read_marker(marker), crashed_thread(marker), now=time.monotonic(), patience_s=patience_s)
    forget(run_dir, death.part)  # its successor may die before it has left anything of its own
    _count(ticket, run_dir, death.part, death.killed_for or death.how)


def hold_last_life(run_dir: Path, worker: str) -> None:
    """As a worker starts, count the crash that the last one of its name has left a record of.

    `tombola up` has counted it already, and removed the record; no other supervisor does. Of a death
    that left no record nothing can be known here.
    """
    marker = marker_file(run_dir, worker)
    try:
        record = crash_file(marker).read_text(errors="replace")
    except OSError:
        return
    if record:
        how = record.partition("\n")[0].rpartition(": ")[2].lower()
        _count(_by_thread(read_marker(marker), crashed_thread(marker)), run_dir, worker, how)
    forget(run_dir, worker)


def _count(ticket: str | None, run_dir: Path, worker: str, how: str) -> None:
    if ticket is None:
        return
    try:
        is_in = Quarantine(quarantine_file(run_dir)).count(ticket, how)
    except OSError as error:
        log.error("crash_not_counted", ticket=ticket, how=how, reason=str(error))
        return
    log.error("ticket_quarantined" if is_in else "ticket_crashed_worker", ticket=ticket, part=worker, how=how)


def forget(run_dir: Path, worker: str) -> None:
    """Remove what a worker that has ended has left of itself."""
    marker = marker_file(run_dir, worker)
    for evidence in (marker, crash_file(marker)):
        evidence.unlink(missing_ok=True)


def culprit(death: Death, marked: Marked, crashed_thread: int | None, *, now: float, patience_s: float) -> str | None:
    """The ticket that the worker died of; None where it was something else, or cannot be told.

    ``now`` is the monotonic clock's, as in ``marked``. A worker that was killed for silence died of
    what it has been running ever since; one that a signal had stopped, or that somebody killed from
    outside, of nothing it ran.
    """
    if death.killed_for:
        # Half: the batch may have begun a moment after the probe that it kept from being answered.
        has_run_long = bool(marked.running) and now - marked.running_since >= patience_s / 2
        return marked.running if death.killed_for == STUCK and has_run_long else None
    if death.returncode == THREAD_CRASHED:
        return _only(marked)
    if death.returncode is None or -death.returncode not in CRASH_SIGNALS:
        return None
    return _by_thread(marked, crashed_thread)


def _by_thread(marked: Marked, crashed_thread: int | None) -> str | None:
    if crashed_thread is None:  # a stack that has overflowed cannot be written about, a library's own threads neither
        return _only(marked)
    if crashed_thread == marked.running_thread:
        return marked.running or None
    if crashed_thread == marked.loading_thread:
        return marked.loading or None
    return None


def _only(marked: Marked) -> str | None:
    return (marked.running or marked.loading or None) if not (marked.running and marked.loading) else None
