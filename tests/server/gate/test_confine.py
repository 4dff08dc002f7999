"""What a confined process can still do: tried out in real processes, which end with their verdicts."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from server.gate import syscalls

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() not in syscalls.ARCHITECTURES, reason="filters are Linux's"
)

PRELUDE = """
import os, socket, subprocess, sys, threading, ctypes, mmap, resource, signal
from server.gate import confine
words = confine.limit(memory_bytes=64 << 20, cpu_s=5)
words.append(confine.filter_calls(may_load=True))
"""
FINAL = "words.append(confine.filter_calls(may_load=False))\n"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )


def outcome(attempt: str, *, final: bool) -> str:
    """What an attempt ends in: the name of its exception, or "done"."""
    code = f"try:\n    {attempt}\n    print('done')\nexcept BaseException as error:\n    print(type(error).__name__)\n"
    result = run((FINAL if final else "") + code)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "open('/tmp/x', 'w')",
        "open('/tmp/x', 'a')",
        "os.open('/tmp/x', os.O_CREAT)",
        "os.fork()",
        "subprocess.run(['true'])",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), signal.SIGTERM)",
        "os.unlink('/tmp/x')",
        "os.mkdir('/tmp/x')",
        "os.chmod('/tmp', 0)",
        "os.setuid(0)",
        "os.memfd_create('x')",
        "os.chroot('/')",
    ],
)
def test_from_the_beginning_it_reaches_nothing(attempt: str) -> None:
    assert outcome(attempt, final=False) == "PermissionError"


@pytest.mark.parametrize(
    ("attempt", "ends"),
    [
        ("open('/etc/passwd')", "PermissionError"),
        ("os.listdir('/')", "PermissionError"),
        ("os.stat('/etc/passwd')", "PermissionError"),
        ("threading.Thread(target=print).start()", "RuntimeError"),
        ("mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)", "PermissionError"),
        ("bytearray(256 << 20)", "MemoryError"),
    ],
)
def test_before_the_graph_is_opened_it_closes_the_rest(attempt: str, ends: str) -> None:
    assert outcome(attempt, final=False) in ("done", "MemoryError")
    assert outcome(attempt, final=True) == ends


def test_limits_cannot_be_lifted_again() -> None:
    attempt = "resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2)"
    assert outcome(attempt, final=True) != "done"


def test_another_machines_call_numbers_end_the_process() -> None:
    """The 32-bit entry of an x86_64 kernel would pass a filter that looked at numbers alone."""
    for machine, (architecture, _) in syscalls.ARCHITECTURES.items():
        code = syscalls.program(machine, may_load=False)
        assert code[8:16] == bytes([0x15, 0, 1, 0]) + architecture.to_bytes(4, "little")
        assert code[16:24] == bytes([0x06, 0, 0, 0]) + (0x80000000).to_bytes(4, "little")


def test_what_holds_is_said() -> None:
    result = run(FINAL + "print(words)")
    assert "no sockets" in result.stdout
    assert "no files opened at all" in result.stdout
    assert "NOT" not in result.stdout
