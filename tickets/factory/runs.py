"""Runs: named stages in content-hashed folders, so that doing it again is resuming it.

A stage's folder is named by the hash of everything that determines its result. It counts
only when its `done.json` stands there and the files it lists have the digests it lists; until
then the stage may leave checkpoints in it and is continued. Nothing is ever half done.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from tickets.files import write_whole

FACTORY = "tombola-factory/2"
"""Changes when a stage computes something else from the same inputs: old results are then not reused."""

_DONE = "done.json"


@dataclass(frozen=True, slots=True)
class Stage:
    """A finished stage: ``key`` identifies its result, ``path`` holds its files."""

    name: str
    key: str
    path: Path


class Runs:
    """The folder that holds all stages of all runs."""

    def __init__(self, root: Path, announce: Callable[[str], None]) -> None:
        self._root = root
        self._announce = announce
        root.mkdir(parents=True, exist_ok=True)

    def stage(self, name: str, inputs: dict[str, Any], build: Callable[[Path], None]) -> Stage:
        """Return the finished stage for these inputs, building (or continuing) it when need be.

        ``inputs`` is JSON; ``build`` writes its files into the folder it is given.
        """
        description = {"factory": FACTORY, "stage": name, "inputs": inputs}
        text = json.dumps(description, sort_keys=True, indent=1)
        key = hashlib.sha256(text.encode()).hexdigest()
        folder = self._root / f"{name}-{key[:16]}"
        if _is_done(folder):
            self._announce(f"{name}: done before, reused")
            return Stage(name, key, folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._announce(f"{name}: {'continuing' if any(folder.iterdir()) else 'starting'}")
        write_whole(folder / "description.json", text.encode())
        build(folder)
        for leftover in folder.glob("checkpoint*"):
            leftover.unlink()
        files = {
            str(p.relative_to(folder)): _digest(p) for p in sorted(folder.rglob("*")) if p.is_file() and p.name != _DONE
        }
        write_whole(folder / _DONE, json.dumps({"key": key, "files": files}, indent=1).encode())
        return Stage(name, key, folder)


def described(options: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass instance
    """The fields of a dataclass that differ from their defaults: a new option leaves old results findable
    (as open_lth names its runs).
    """
    return {
        f.name: getattr(options, f.name)
        for f in fields(options)
        if f.default is MISSING or getattr(options, f.name) != f.default
    }


def _is_done(folder: Path) -> bool:
    try:
        done = json.loads((folder / _DONE).read_bytes())
        return all(_digest(folder / name) == digest for name, digest in done["files"].items())
    except (OSError, ValueError, KeyError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
