"""Confinement: what the gate's process takes from itself before it looks at a stranger's bytes.

Owns the limits (memory, time, files, core dumps), the promise of no new privileges, and when the filters of
`server.gate.syscalls` are put in place. Nothing here needs a privilege, a name space or a container. What the
system refuses is said in words, for the report; that decision is not taken here.
"""

import contextlib
import ctypes
import os
import platform
import resource
import signal
from typing import Any

from server.gate import syscalls

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 4, 38, 22
_SET_MODE_FILTER, _THREAD_SYNC, _MODE_FILTER = 1, 1, 2
_OPEN_FILES = 64
OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate memory", "memory allocation of", "Cannot allocate memory")
"""What libraries say, each in its own way, when the limit is reached."""
_NICENESS = 10


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def limit(*, memory_bytes: int, cpu_s: float) -> list[str]:
    """Limit this process and whatever it runs. What it now has of memory does not count; returns what holds, in words.

    The first thing a gate's process does. Raises nothing: what the system refuses is among the words.
    """
    words = []
    _first(os.nice, _NICENESS)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody would read what is found out
    _prctl(_PR_SET_DUMPABLE, 0)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # where memory runs out all the same, this process goes first
    seconds = int(cpu_s) + 1
    limits = {
        "core dumps": (resource.RLIMIT_CORE, 0),
        "files written": (resource.RLIMIT_FSIZE, 0),
        "open files": (resource.RLIMIT_NOFILE, _OPEN_FILES),
        "processor time": (resource.RLIMIT_CPU, seconds),
        "memory": (resource.RLIMIT_DATA, _private_bytes() + memory_bytes),
    }
    for name, (kind, most) in limits.items():
        try:
            resource.setrlimit(kind, (most, most))
        except (OSError, ValueError) as error:
            words.append(f"NOT limited: {name} ({error})")
    words.append(
        f"memory at most {memory_bytes >> 20} MiB, processor time {seconds} s, no files written, no core dumps"
    )
    words.append("no new privileges" if _prctl(_PR_SET_NO_NEW_PRIVS, 1) else "NOT kept from new privileges")
    return words


def filter_calls(*, may_load: bool) -> str:
    """Filter this process's system calls, for all its threads; a second filter only tightens the first.

    Returns what holds, in words: where the system has no such filters, that it has none. Raises nothing.
    """
    machine = platform.machine()
    if machine not in syscalls.ARCHITECTURES or not hasattr(os, "sched_getaffinity"):
        return f"system calls are NOT filtered: unknown on {platform.system()} {machine}"
    code = syscalls.program(machine, may_load=may_load)
    buffer = ctypes.create_string_buffer(code, len(code))
    description = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    number = {"x86_64": 317, "aarch64": 277}[machine]
    libc: Any = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(
        ctypes.c_long(number), ctypes.c_ulong(_SET_MODE_FILTER), ctypes.c_ulong(_THREAD_SYNC), ctypes.byref(description)
    )
    if result != 0:
        return f"system calls are NOT filtered: {os.strerror(ctypes.get_errno()) if result < 0 else 'other threads'}"
    if may_load:
        return "no sockets, other programs, other processes, or files opened to be written"
    return "and once the libraries are loaded: no files opened at all, no threads, no new code"


def _private_bytes() -> int:
    """What RLIMIT_DATA counts, as it is now."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return 256 << 20


def _first(call: Any, *args: Any) -> None:  # noqa: ANN401
    with contextlib.suppress(OSError):
        call(*args)


def _prctl(option: int, value: int) -> bool:
    try:
        libc: Any = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)
    except (AttributeError, OSError):
        return False
