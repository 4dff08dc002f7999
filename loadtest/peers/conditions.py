"""Under which conditions a result was made, so that only what can be compared stands in one table.

Owns the description of the machine, and a digest for each system of all that makes it what it is: its command,
settings and pins, the program that starts it, and for Tombola the source it is run from. A result whose
conditions differ is measured again.
"""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from loadtest.peers.catalogue import PROGRAM, System
from loadtest.peers.closed_loop import client_name
from loadtest.peers.ticket import Unpacked
from loadtest.peers.turns import Scale

PACKAGES = ("server", "routing", "tickets")
HERE = Path(__file__).parent


def conditions(unpacked: Unpacked, scale: Scale) -> str:
    """What the results of all systems must have in common. Turns may be added later, so they do not count."""
    machine = f"{cpu_model()}, cores {cores()}"
    return f"ticket {unpacked.id[:12]}; {machine}; {runtime()}; {client_name()}; {scale._replace(turns=0)}"


def digests(systems: Iterable[System], tombola: Path) -> dict[str, str]:
    """For each system by name, a digest of what it is."""
    return {system.name: digest(system, tombola) for system in systems}


def digest(system: System, tombola: Path) -> str:
    """Twelve hex digits that change when the system would run otherwise."""
    facts = [system.command, system.settings, system.requirements, system.environment, system.limit]
    found = hashlib.sha256(repr(facts).encode())
    for path in sorted(_sources(system, tombola)):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _sources(system: System, tombola: Path) -> Iterable[Path]:
    if system.is_ours:
        return [path for name in PACKAGES for path in (tombola / name).rglob("*.py") if "factory" not in path.parts]
    programs = [part.partition(":")[0].removeprefix(f"{PROGRAM}.") for part in system.command if PROGRAM in part]
    return [HERE / "model.py", *(HERE / "programs" / f"{name}.py" for name in programs)]


def commit(tombola: Path) -> str:
    """The commit that Tombola is run from, as far as git knows."""
    command = ["git", "-C", str(tombola), "describe", "--always", "--dirty"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return result.stdout.strip() or "unknown"


def runtime() -> str:
    """The versions that all systems share."""
    libraries = f"ONNX Runtime {version('onnxruntime')}, tokenizers {version('tokenizers')}"
    return f"Python {platform.python_version()}, {libraries}"


def cores() -> list[int]:
    """The cores that server and client may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


def cpu_model() -> str:
    """The processor's name, where the system tells."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
