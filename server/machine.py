"""What this machine offers: cores, instruction sets, and how to share the cores out.

Owns the reading of scheduler affinity, cgroup quotas and CPU flags, and the rule of thumb that
turns cores into gateways and workers. Pure parsers and thin readers of /proc and /sys; where a file is
absent (another system, a hardened container) the next best answer is given. It starts nothing.
"""

import contextlib
import math
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

USEFUL_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Instruction sets that int8 kernels use: x86-64 first, then Arm."""

GATEWAY_MS = 0.1
"""What one request takes of a gateway's core, measured under load on a Xeon of 2023 (README.md)."""


def quota_of_cpu_max(text: str) -> float | None:
    """Cores that a cgroup v2 ``cpu.max`` grants; None where it sets no limit or cannot be read."""
    parts = text.split()
    if not parts or not parts[0].isdigit():
        return None
    period = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 100_000
    return int(parts[0]) / period if period > 0 else None


def cores(affinity: int, quotas: list[float]) -> int:
    """Whole cores that may be used: the affinity, bounded by the tightest quota, at least one.

    A fractional quota is rounded up, because a process for half a core still needs to exist.
    """
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def available_cores() -> int:
    """Cores that this process may use: scheduler affinity and cgroup quota, not what the host has."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores(affinity, list(_cgroup_quotas()))


def default_gateways(core_count: int) -> int:
    """One gateway for every four cores, at least one: what `share_out` says for tickets of 3,300 texts/s."""
    return max(1, core_count // 4)


def default_workers(core_count: int, gateways: int) -> int:
    """One worker for each core that no gateway needs, at least one.

    A worker runs one single-threaded session at a time, so more workers than cores only take
    turns; a gateway keeps about one core busy at full load.
    """
    return max(1, core_count - gateways)


@dataclass(frozen=True, slots=True)
class SharedOut:
    """How to use the cores, and the requests/s (of one text) that this comes to."""

    gateways: int
    workers: int
    requests_per_s: float


def share_out(core_count: int, texts_per_s: float, gateway_ms: float = GATEWAY_MS) -> SharedOut:
    """How many gateways and workers get the most out of ``core_count`` cores.

    ``texts_per_s`` is what a worker runs on a core of its own, ``gateway_ms`` what a request takes of a
    gateway's core. All that counts is that neither side waits for the other: of all ways to give each
    process a core the one with the highest rate, and of equals the one with the fewest gateways. On a single core
    one of each takes turns.
    """
    per_gateway = 1000 / gateway_ms
    if core_count < 2:
        return SharedOut(1, 1, 1 / (1 / texts_per_s + 1 / per_gateway))
    ways = [
        SharedOut(n, core_count - n, min(n * per_gateway, (core_count - n) * texts_per_s)) for n in range(1, core_count)
    ]
    return max(ways, key=lambda way: (way.requests_per_s, -way.gateways))


def useful_flags(cpuinfo: str) -> list[str]:
    """Which of USEFUL_FLAGS the text of /proc/cpuinfo names, in that order."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            present = set(value.split())
            return [flag for flag in USEFUL_FLAGS if flag in present]
    return []


def cpu_flags() -> list[str]:
    """The useful instruction sets of this machine; empty where the system does not say."""
    return useful_flags(_text(Path("/proc/cpuinfo")) or "")


def raise_file_limit(at_most: int = 1 << 16) -> int:
    """Let this process open as many files and sockets as the system grants it; returns how many.

    The usual first limit of 1024 is the number of connections that an idle pool of clients takes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = at_most if hard == resource.RLIM_INFINITY else min(hard, at_most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS grants less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return at_most if soft == resource.RLIM_INFINITY else soft


def _cgroup_quotas() -> Iterator[float]:
    """The quota of every cgroup above this process: a parent's limit binds its children too."""
    root = Path("/sys/fs/cgroup")
    for line in (_text(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        here = Path(path.lstrip("/"))
        for folder in (here, *here.parents):
            if controllers == "":
                quota = quota_of_cpu_max(_text(root / folder / "cpu.max") or "")
            elif "cpu" in controllers.split(","):
                limit = _text(root / "cpu" / folder / "cpu.cfs_quota_us") or ""
                period = _text(root / "cpu" / folder / "cpu.cfs_period_us") or ""
                quota = quota_of_cpu_max(f"{limit.strip()} {period.strip()}")
            else:
                quota = None
            if quota is not None:
                yield quota


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
