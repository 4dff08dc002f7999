"""The host: what a run's time, and the last bits of its numbers, depend on beside what it was asked."""

import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("tombola", "torch", "onnxruntime", "numpy")


def describe_host() -> dict[str, Any]:
    """For a run's record; not part of its identity."""
    return {
        "machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(),
        "code": _code(), **{name: _version(name) for name in LIBRARIES},
    }  # fmt: skip


def _code() -> str:
    """A digest of the factory's sources: two runs with the same one ran the same code."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
