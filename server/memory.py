"""Memory: what this process has allocated, what the system has given it, and giving back.

Owns the calls to the C library's allocator (glibc's; elsewhere they fall back to the resident set
size, which only shows what whole pages do). Nothing here knows of tickets.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import psutil

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as in malloc.h


class _MallInfo2(ctypes.Structure):
    """As in malloc.h; bytes."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def _library_function(name: str) -> Callable[..., Any] | None:
    try:
        function: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library, or none that can be asked
        return None
    return function


_mallinfo2 = _library_function("mallinfo2")
if _mallinfo2 is not None:
    _mallinfo2.restype = _MallInfo2  # type: ignore[attr-defined]
_mallopt = _library_function("mallopt")
_malloc_trim = _library_function("malloc_trim")
if _malloc_trim is not None:
    _malloc_trim.argtypes = (ctypes.c_size_t,)  # type: ignore[attr-defined]


def return_promptly() -> None:
    """Let the allocator give large pieces back as they are freed, and no more than 8 MB of each thread's wait.

    By itself glibc raises both thresholds to what it has seen freed (to 32 and 64 MB), and `trim` does
    not reach the free end of a thread's arena: 40 MB stayed after an unload. Scratch memory of batches
    is smaller than either, so that running tickets do not go back and forth to the system.
    """
    if _mallopt is not None:
        _mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        _mallopt(_M_TRIM_THRESHOLD, 8 << 20)


def is_exact() -> bool:
    """Whether `heap_bytes` counts bytes rather than pages."""
    return _mallinfo2 is not None


def heap_bytes() -> int:
    """Bytes that are allocated, by all threads: in arenas and in mappings of their own.

    Takes microseconds, or a few milliseconds where much has been freed in small pieces; other
    threads go on. Without mallinfo2 (before glibc 2.33): `resident_bytes`.
    """
    if _mallinfo2 is None:
        return resident_bytes()
    info = _mallinfo2()
    return int(info.uordblks + info.hblkhd)


def resident_bytes() -> int:
    """Physical memory that this process has."""
    return int(psutil.Process().memory_info().rss)


def trim() -> None:
    """Give freed pages back to the system (glibc keeps them otherwise). Takes some milliseconds."""
    if _malloc_trim is not None:
        _malloc_trim(0)
