"""System calls as a filter: which of them the gate's process may make, as a program for the kernel.

Owns the numbers (x86_64, aarch64) and the encoding as classic BPF. Everything that is not listed fails with
EPERM: files that are opened to be written, sockets, other programs, other processes' memory and signals. It
leaves installing the filter, and when, to `server.gate.confine`.
"""

import errno
import os
import struct
from collections.abc import Iterable

ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""Machine -> the kernel's number of it, and its column in `_NUMBERS`."""

_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "ioctl": (16, 29), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "access": (21, None),
    "sched_yield": (24, 124),
    "mremap": (25, 216), "madvise": (28, 233), "nanosleep": (35, 101), "getpid": (39, 172), "clone": (56, 220),
    "exit": (60, 93), "uname": (63, 160), "fcntl": (72, 25), "getcwd": (79, 17), "readlink": (89, None),
    "gettimeofday": (96, 169), "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153),
    "getuid": (102, 174), "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177),
    "sigaltstack": (131, 132), "arch_prctl": (158, None), "gettid": (186, 178), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "set_tid_address": (218, 96),
    "restart_syscall": (219, 128), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "tgkill": (234, 131), "openat": (257, 56),
    "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48), "set_robust_list": (273, 99),
    "prlimit64": (302, 261), "getcpu": (309, 168), "seccomp": (317, 277), "getrandom": (318, 278),
    "membarrier": (324, 283), "statx": (332, 291), "rseq": (334, 293), "clone3": (435, 435), "faccessat2": (439, 439),
}  # fmt: skip

_LOADING = ("ioctl", "stat", "lstat", "access", "readlink", "getcwd", "getdents64", "newfstatat", "readlinkat",
            "faccessat", "faccessat2", "statx", "fcntl", "pread64", "seccomp", "arch_prctl")  # fmt: skip
"""Allowed only while libraries are loaded."""
_SPECIAL = ("ioctl", "openat", "clone", "clone3", "mmap", "mprotect", "tgkill", "prlimit64")
"""Allowed by their arguments, or refused in a way of their own."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PROT_EXEC, _CLONE_THREAD, _FIOCLEX = 4, 0x10000, 0x5451

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, |JSET|K, BPF_RET|K
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # of struct seccomp_data


def program(machine: str, *, may_load: bool) -> bytes:
    """The filter as an array of ``struct sock_filter``.

    ``may_load``: while libraries are loaded files may be opened for reading, threads begun and code mapped;
    without it nothing can be opened at all. Raises KeyError for a machine whose numbers are not known.
    """
    architecture, column = ARCHITECTURES[machine]
    out = [_op(_LOAD, _ARCHITECTURE_AT), _op(_EQUAL, architecture, 1, 0), _op(_RETURN, _KILL)]
    out.append(_op(_LOAD, _NUMBER_AT))
    for name, numbers in _NUMBERS.items():
        number = numbers[column]
        if number is None or (name in _LOADING and not may_load):
            continue
        body = list(_special(name, may_load=may_load)) if name in _SPECIAL else [_op(_RETURN, _ALLOW)]
        out += [_op(_EQUAL, number, 0, len(body)), *body]
    out.append(_op(_RETURN, _ERRNO | errno.EPERM))
    return b"".join(out)


def _special(name: str, *, may_load: bool) -> Iterable[bytes]:
    """What is done about a call whose number has matched; ends in a return on every path."""
    refuse = _op(_RETURN, _ERRNO | errno.EPERM)
    match name:
        case "ioctl":  # close on exec, as Python asks for
            return _if_equal(1, _FIOCLEX)
        case "openat":
            return _unless_bits(2, _WRITES) if may_load else [refuse]
        case "clone":
            return _if_bits(0, _CLONE_THREAD) if may_load else [refuse]
        case "clone3":  # its flags are in memory, which a filter cannot see: the C library then tries clone
            return [_op(_RETURN, _ERRNO | errno.ENOSYS)]
        case "mmap" | "mprotect":
            return [_op(_RETURN, _ALLOW)] if may_load else _unless_bits(2, _PROT_EXEC)
        case "tgkill":  # abort() signals its own process
            return _if_equal(0, os.getpid())
        case _:  # prlimit64: of this process; once nothing is loaded any more, only asked and not set
            return _if_equal(0, 0) if may_load else _if_null(2)


def _unless_bits(argument: int, bits: int) -> list[bytes]:
    return [_low(argument), _op(_ANY_BIT, bits, 0, 1), _op(_RETURN, _ERRNO | errno.EPERM), _op(_RETURN, _ALLOW)]


def _if_bits(argument: int, bits: int) -> list[bytes]:
    return [_low(argument), _op(_ANY_BIT, bits, 0, 1), _op(_RETURN, _ALLOW), _op(_RETURN, _ERRNO | errno.EPERM)]


def _if_equal(argument: int, value: int) -> list[bytes]:
    return [_low(argument), _op(_EQUAL, value, 0, 1), _op(_RETURN, _ALLOW), _op(_RETURN, _ERRNO | errno.EPERM)]


def _if_null(argument: int) -> list[bytes]:
    """Both halves: a pointer may be a multiple of 4 GiB."""
    high = _op(_LOAD, _ARGUMENTS_AT + 8 * argument + 4)
    refuse = _op(_RETURN, _ERRNO | errno.EPERM)
    return [_low(argument), _op(_EQUAL, 0, 1, 0), refuse, high, _op(_EQUAL, 0, 1, 0), refuse, _op(_RETURN, _ALLOW)]


def _low(argument: int) -> bytes:
    """Load the low half of an argument (both machines are little-endian)."""
    return _op(_LOAD, _ARGUMENTS_AT + 8 * argument)


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
