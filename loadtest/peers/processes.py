"""One running system: start, readiness, what its processes cost, and an end that leaves none of them behind.

The tree is everything that descends from the started process. On Linux this process becomes the one that orphans
are handed to (PR_SET_CHILD_SUBREAPER), so that a daemon of a daemon still counts and is still ended.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from loadtest.peers.environments import PeerFailed

PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 8.0
LOG_LINES = 6


class Usage(NamedTuple):
    """Of all processes of a system together. ``pss_bytes`` counts pages that several share once."""

    cpu_s: float
    rss_bytes: int
    pss_bytes: int
    processes: int


class Launch(NamedTuple):
    """What to start."""

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent dies. Does nothing where the system has no such thing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class ProcessTree:
    """A context manager: started on entry, ended with all its descendants on exit."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._process: subprocess.Popen[bytes] | None = None
        self._others: set[int] = set()

    def __enter__(self) -> "ProcessTree":
        self._others = {child.pid for child in psutil.Process().children()}
        with self._launch.log.open("wb") as log:
            self._process = subprocess.Popen(
                list(self._launch.command), cwd=self._launch.folder, env=dict(self._launch.environment),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        tree = self._members()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        # Whoever is left, and whoever they start while they are being ended.
        while tree := [process for process in {*tree, *self._members()} if process.is_running()]:
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(tree, timeout=5)
        self._process.wait()
        self._bury_orphans()

    @property
    def log(self) -> str:
        """All it has said."""
        return self._launch.log.read_text(errors="replace")

    def check(self) -> None:
        """Raises PeerFailed, with its last words, when the started process has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            words = [line for line in self.log.splitlines() if line.strip()][-LOG_LINES:]
            raise PeerFailed(f"ended with status {self._process.returncode}: " + " | ".join(words)[-800:])

    def usage(self) -> Usage:
        """CPU time since the start, and memory now."""
        cpu_s, rss, pss, count = 0.0, 0, 0, 0
        for process in self._members():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                times, memory = process.cpu_times(), process.memory_full_info()
                cpu_s += times.user + times.system + times.children_user + times.children_system
                rss += memory.rss
                pss += getattr(memory, "pss", memory.rss)
                count += 1
        return Usage(cpu_s, rss, pss, count)

    def _bury_orphans(self) -> None:
        """Read the status of adopted processes that ended by themselves, so that no zombie stays."""
        for child in psutil.Process().children():
            if child.pid not in self._others:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, os.WNOHANG)

    def _members(self) -> list[psutil.Process]:
        """The started process, its descendants, and the orphans among them that this process has adopted."""
        found: dict[int, psutil.Process] = {}
        for child in psutil.Process().children():
            if child.pid not in self._others:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found |= {process.pid: process for process in (child, *child.children(recursive=True))}
        return [process for process in found.values() if _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def end_on_sigterm() -> None:
    """Let SIGTERM unwind the stack, so that context managers end what they started."""

    def leave(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)


def environment_for(scratch: Path, python: Path, root: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """A small environment: nothing of the caller's but the PATH, the language, and where packages lie."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {
        "PATH": f"{python.parent}:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    } | dict(extra)  # fmt: skip
