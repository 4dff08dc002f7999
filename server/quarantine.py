"""Quarantine: which ticket a worker was busy with when it died, and which tickets may not run any more.

Owns the marker (a small mapped file that outlives its worker), the crash record that tells which
thread crashed, and the file of crashes counted against tickets. A worker marks what it loads and
runs and asks whether a ticket may; the supervisor (`server.blame`) reads the marker of a worker
that died and counts. What happens to a quarantined ticket's asks is left to `server.sessions`.
"""

import contextlib
import faulthandler
import fcntl
import mmap
import re
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tickets.files import write_whole

CRASHES = 2
"""So many crashes within WINDOW_S put a ticket into quarantine; one may be the machine's doing."""
WINDOW_S = 600.0
LOOK_EVERY_S = 0.5

_SLOT = struct.Struct("<dQB64s")  # since when (CLOCK_MONOTONIC), which thread, how many bytes of what
_RUNNING, _LOADING, _SIZE = 0, 128, 256
_CRASHED_THREAD = re.compile(rb"^Current thread 0x([0-9a-f]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Marked:
    """What a worker's marker says. Tickets are empty where there is none, times are of the monotonic clock."""

    running: str = ""
    loading: str = ""
    running_since: float = 0.0
    running_thread: int = 0
    loading_thread: int = 0


class Marker:
    """What this worker is loading and running, in a file that survives a crash. ``None``: nowhere.

    Each call writes one slot of a shared mapping, without a system call: the kernel keeps the
    pages when the process dies. One thread runs, one loads, and each has its own slot.
    """

    def __init__(self, path: Path | None) -> None:
        self._map: mmap.mmap | bytearray = bytearray(_SIZE)
        if path is not None:
            with open(path, "w+b") as file:
                file.truncate(_SIZE)
                self._map = mmap.mmap(file.fileno(), _SIZE)

    def running(self, ticket: str) -> None:
        """A batch of ``ticket`` runs from now on, in this thread."""
        self._mark(_RUNNING, ticket)

    def loading(self, ticket: str) -> None:
        """``ticket`` is being loaded from now on, in this thread."""
        self._mark(_LOADING, ticket)

    def clear_running(self) -> None:
        """Nothing runs."""
        self._map[_RUNNING + 16] = 0

    def clear_loading(self) -> None:
        """Nothing is being loaded."""
        self._map[_LOADING + 16] = 0

    def _mark(self, slot: int, ticket: str) -> None:
        name = ticket.encode()[:64]
        _SLOT.pack_into(self._map, slot, time.monotonic(), threading.get_ident(), len(name), name)


def read_marker(path: Path) -> Marked:
    """What the marker at ``path`` says; nothing where there is no such file."""
    try:
        data = path.read_bytes().ljust(_SIZE, b"\0")
    except OSError:
        return Marked()
    since, running_thread, length, name = _SLOT.unpack_from(data, _RUNNING)
    running = name[:length].decode(errors="replace")
    _, loading_thread, length, name = _SLOT.unpack_from(data, _LOADING)
    loading = name[:length].decode(errors="replace")
    return Marked(running, loading, since, running_thread, loading_thread)


def marker_file(run_dir: Path, worker: str) -> Path:
    """Where a worker keeps its marker."""
    return run_dir / f"{worker}.marker"


def quarantine_file(run_dir: Path) -> Path:
    """Where an installation keeps its crashes."""
    return run_dir / "quarantine.json"


def crash_file(marker: Path) -> Path:
    """Where the crash record of the worker with this marker is."""
    return marker.with_suffix(".crash")


def record_crashes(marker: Path) -> None:
    """On a fatal signal, let this process write which thread it came to, and every thread's stack.

    The signal then does what it does without this. Call it once, early in the process.
    """
    file = open(crash_file(marker), "wb", buffering=0)  # noqa: SIM115 - stays open as long as the process
    faulthandler.enable(file, all_threads=True)


def crashed_thread(marker: Path) -> int | None:
    """The thread that a fatal signal came to, from the crash record; None where none was written."""
    try:
        found = _CRASHED_THREAD.search(crash_file(marker).read_bytes())
    except OSError:
        return None
    return int(found[1], 16) if found else None


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """One death of a worker that is held against a ticket."""

    at: float
    """Seconds since 1970."""
    how: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is held against one ticket: its crashes of late and, once in quarantine, since when."""

    crashes: list[Crash]
    since: float | None = None


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    format: int = 1
    tickets: dict[str, Entry] = {}


class Quarantine:
    """The crashes counted against tickets, in one file that every process of an installation reads.

    A ticket stays in quarantine until `clear`: it is immutable, so it would do again what it did.
    Any thread may call any method. ``None``: nothing is ever held against a ticket.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` spaces the looks at the file, ``now`` dates the crashes."""
        self._path = path
        self._clock = clock
        self._now = now
        self._next_look = -1e300
        self._seen: tuple[int, int] | None = None
        self._entries: dict[str, Entry] = {}
        self._reasons: dict[str, str] = {}

    def reason(self, ticket: str) -> str | None:
        """Why ``ticket`` may not run; None when it may. Looks at the file's date every half second."""
        self._look_if_due()
        return self._reasons.get(ticket)

    def count(self, ticket: str, how: str) -> bool:
        """Hold the death of a worker against ``ticket``; whether this puts it into quarantine. Raises OSError."""
        now = self._now()
        with self._changing() as entries:
            entry = entries.get(ticket, Entry(crashes=[]))
            recent = [crash for crash in entry.crashes if now - WINDOW_S < crash.at <= now]
            recent = [*recent, Crash(at=now, how=how)][-10:]
            since = entry.since if entry.since is not None or len(recent) < CRASHES else now
            entries[ticket] = Entry(crashes=recent, since=since)
        return entry.since is None and since is not None

    def clear(self, ticket: str) -> bool:
        """Forget what is held against ``ticket``; whether there was anything. Raises OSError."""
        with self._changing() as entries:
            return entries.pop(ticket, None) is not None

    def entries(self) -> dict[str, Entry]:
        """What is held against which ticket, read anew."""
        self._look()
        return self._entries

    def tickets(self) -> list[str]:
        """The tickets in quarantine, sorted."""
        self._look_if_due()
        return sorted(self._reasons)

    def _look_if_due(self) -> None:
        if self._path is not None and self._clock() >= self._next_look:
            self._look()

    def _look(self) -> None:
        """Read the file where it has changed."""
        self._next_look = self._clock() + LOOK_EVERY_S
        if self._path is None:
            return
        try:
            status = self._path.stat()
        except OSError:
            self._entries, self._reasons, self._seen = {}, {}, None
            return
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._entries = _read(self._path)
            self._reasons = {name: _said(entry) for name, entry in self._entries.items() if entry.since is not None}
            self._seen = seen

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Entry]]:
        """The entries, to be changed: one process at a time, and readers see the old or the new file whole."""
        if self._path is None:
            yield {}
            return
        with open(self._path.with_suffix(".lock"), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = dict(_read(self._path))
            yield entries
            write_whole(self._path, msgspec.json.format(msgspec.json.encode(_Document(tickets=entries)), indent=1))
        self._look()


def _read(path: Path) -> dict[str, Entry]:
    """The entries of a file; none where it is missing or was damaged by hand: serving goes on."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Document).tickets
    except (OSError, msgspec.DecodeError):
        return {}


def _said(entry: Entry) -> str:
    return f"it is in quarantine: its workers have crashed {len(entry.crashes)} times ({entry.crashes[-1].how})"
