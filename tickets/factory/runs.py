"""Runs: named stages in content-hashed folders, so that doing it again is resuming it.

A stage's folder is named by the hash of everything that determines its result. It counts
only when its `done.json` stands there and the files it lists have the digests it lists; until
then the stage may leave checkpoints in it and is continued. Nothing is ever half done, and two
processes that need the same stage at once take turns: the second one finds it done.
"""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from tickets.files import write_whole

FACTORY = "tombola-factory/2"
"""Changes when a stage computes something else from the same inputs: old results are then not reused."""

_DONE = "done.json"
_SPENT = "spent.json"


@dataclass(frozen=True, slots=True)
class Stage:
    """A finished stage: ``key`` identifies its result, ``path`` holds its files. ``seconds``: what it took to build,
    over all continuations; ``reused``: it was there before this run.
    """

    name: str
    key: str
    path: Path
    seconds: float = 0.0
    reused: bool = False

    def described(self) -> dict[str, Any]:
        """For a run's record."""
        return {
            "name": self.name, "key": self.key, "folder": self.path.name,
            "seconds": round(self.seconds, 1), "reused": self.reused,
        }  # fmt: skip


class Runs:
    """The folder that holds all stages of all runs. ``used``: the stages this run asked for, in order."""

    def __init__(self, root: Path, announce: Callable[[str], None]) -> None:
        self.root = root
        self.used: list[Stage] = []
        self._announce = announce
        root.mkdir(parents=True, exist_ok=True)

    def stage(self, name: str, inputs: dict[str, Any], build: Callable[[Path], None]) -> Stage:
        """Return the finished stage for these inputs, building (or continuing) it when need be.

        ``inputs`` is JSON; ``build`` writes its files into the folder it is given.
        """
        description = {"factory": FACTORY, "stage": name, "inputs": inputs}
        text = json.dumps(description, sort_keys=True, indent=1)
        key = hashlib.sha256(text.encode()).hexdigest()
        folder = self.root / f"{name}-{key[:16]}"
        with _alone(self.root / f".{folder.name}.lock"):
            seconds, reused = _seconds(folder), _is_done(folder)
            if reused:
                self._announce(f"{name}: done before, reused")
            else:
                seconds = self._build(folder, key, text, build)
        stage = Stage(name, key, folder, seconds, reused)
        if all(key != used.key for used in self.used):
            self.used.append(stage)
        return stage

    def _build(self, folder: Path, key: str, text: str, build: Callable[[Path], None]) -> float:
        folder.mkdir(parents=True, exist_ok=True)
        self._announce(f"{folder.name}: {'continuing' if any(folder.iterdir()) else 'starting'}")
        write_whole(folder / "description.json", text.encode())
        before, start = _seconds(folder), time.monotonic()
        try:
            build(folder)
        finally:
            spent = before + time.monotonic() - start
            with suppress(OSError):  # a full disk has been reported by what met it first
                write_whole(folder / _SPENT, json.dumps({"seconds": round(spent, 3)}).encode())
        for leftover in folder.glob("checkpoint*"):
            leftover.unlink()
        files = {
            str(p.relative_to(folder)): _digest(p)
            for p in sorted(folder.rglob("*"))
            if p.is_file() and p.name not in (_DONE, _SPENT)
        }
        write_whole(folder / _DONE, json.dumps({"key": key, "files": files}, indent=1).encode())
        return spent


def described(options: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass instance
    """The fields of a dataclass that differ from their defaults: a new option leaves old results findable
    (as open_lth names its runs).
    """
    return {
        f.name: getattr(options, f.name)
        for f in fields(options)
        if f.default is MISSING or getattr(options, f.name) != f.default
    }


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with open(lock, "w") as file:  # the lock goes with the process, however it ends
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_done(folder: Path) -> bool:
    try:
        done = json.loads((folder / _DONE).read_bytes())
        return all(_digest(folder / name) == digest for name, digest in done["files"].items())
    except (OSError, ValueError, KeyError):
        return False


def _seconds(folder: Path) -> float:
    try:
        return float(json.loads((folder / _SPENT).read_bytes())["seconds"])
    except (OSError, ValueError, KeyError):
        return 0.0


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
