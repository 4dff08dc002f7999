"""Records: what each run of the factory was asked, on what, when, and what it found. One folder each, `run.json` in it.

The id's last part is the hash of the description, so the same run again has the same record. A lock held while the run
goes on tells a running one from one that was killed; what an earlier run of the same description found stays in the
record until the new one ends. How records are shown, compared and drawn belongs to `runs_command` and `pages`.
"""

import fcntl
import hashlib
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from tickets.factory.host import describe_host
from tickets.files import write_whole

FOLDER = "records"
FILE = "run.json"
FORMAT = 1
_LOCK = ".lock"
Status = Literal["running", "done", "failed", "interrupted"]


class RecordError(ValueError):
    """A record that is not there, not readable, or not the only one meant."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What `run.json` holds. ``seconds``: of this run, stages that were there before not counted. ``status`` is the
    last run's; ``result`` and ``stages`` are of the last one that was done, if any.
    """

    format: Literal[1] = 1
    id: str
    kind: str
    status: Status
    error: str = ""
    command: str
    description: dict[str, Any]
    host: dict[str, Any]
    started_at: str
    seconds: float = 0.0
    stages: list[dict[str, Any]] = []
    result: dict[str, Any] = {}


class Record:
    """A run that is going on. Begin it with `begin`; end it with `finish` or `fail`, once."""

    def __init__(self, folder: Path, record: RunRecord, lock: IO[str]) -> None:
        self.folder = folder
        self._record, self._lock = record, lock
        self._start = time.monotonic()

    @property
    def id(self) -> str:
        """The record's name: kind, name, and the hash of the description."""
        return self._record.id

    @classmethod
    def begin(cls, root: Path, kind: str, name: str, description: dict[str, Any], command: str) -> "Record":
        """Write that the run goes on. ``name`` becomes part of the id, what is not a letter or digit as ``_``.

        Raises RecordError where the same run goes on already, OSError.
        """
        text = json.dumps(description, sort_keys=True, default=str)
        folder = root / FOLDER / f"{kind}-{_safe(name)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder)
        if lock is None:
            raise RecordError(f"the run {folder.name} goes on in another process; wait for it, or stop it")
        try:
            earlier = load_record(folder)
            kept: dict[str, Any] = {"result": earlier.result, "stages": earlier.stages}
        except RecordError:
            kept = {}
        record = RunRecord(
            id=folder.name, kind=kind, status="running", command=command, description=json.loads(text),
            host=describe_host(), started_at=datetime.now(UTC).isoformat(timespec="seconds"), **kept,
        )  # fmt: skip
        try:
            _write(folder, record)
        except BaseException:
            lock.close()
            raise
        return cls(folder, record, lock)

    def finish(self, result: dict[str, Any], stages: list[dict[str, Any]]) -> None:
        """The run is done; what it found. Raises OSError."""
        self._end(status="done", result=result, stages=stages)

    def fail(self, error: str, stages: list[dict[str, Any]] | None = None) -> None:
        """The run ended with an error. What an earlier run of the same description found stays. Raises OSError."""
        self._end(status="failed", error=error, **({} if stages is None else {"stages": stages}))

    def interrupt(self) -> None:
        """Somebody stopped the run. What an earlier run of the same description found stays. Raises OSError."""
        self._end(status="interrupted")

    def _end(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the record
        seconds = round(time.monotonic() - self._start, 1)
        try:
            _write(self.folder, msgspec.structs.replace(self._record, seconds=seconds, **changes))
        finally:
            self._lock.close()


@dataclass(frozen=True, slots=True)
class Listing:
    """All records below a folder of runs, the latest first, and for each that cannot be read a sentence why not."""

    records: tuple[RunRecord, ...]
    unreadable: tuple[str, ...]


def load_record(folder: Path) -> RunRecord:
    """Read a record; a running one whose process is gone is ``interrupted``. Raises RecordError."""
    record = _read(folder)
    if record.status == "running" and not _is_held(folder):
        record = _read(folder)  # it may have ended between the two looks
        if record.status == "running":
            return msgspec.structs.replace(record, status="interrupted")
    return record


def read_listing(root: Path) -> Listing:
    """Every record below a folder of runs, and which of them cannot be read."""
    records, unreadable = [], []
    for file in sorted((root / FOLDER).glob(f"*/{FILE}")):
        try:
            records.append(load_record(file.parent))
        except RecordError as error:
            unreadable.append(str(error))
    records.sort(key=lambda record: record.started_at, reverse=True)
    return Listing(tuple(records), tuple(unreadable))


def list_records(root: Path) -> list[RunRecord]:
    """All readable records below a folder of runs, the latest first."""
    return list(read_listing(root).records)


def find_record(root: Path, name: str) -> RunRecord:
    """The record with this id, or the only one whose id begins with or contains ``name``. Raises RecordError."""
    return load_record(find_folder(root, name))


def find_folder(root: Path, name: str) -> Path:
    """The folder of the record with this id, or of the only one whose id begins with or contains ``name``.

    Raises RecordError: there is none, or it is not the only one and which it could be.
    """
    ids = sorted(path.parent.name for path in (root / FOLDER).glob(f"*/{FILE}"))
    found = [id_ for id_ in ids if id_ == name] or [id_ for id_ in ids if id_.startswith(name)]
    found = found or [id_ for id_ in ids if name in id_]
    if len(found) == 1:
        return root / FOLDER / found[0]
    if found:
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        raise RecordError(f"{name!r} could be any of {len(found)} runs: {', '.join(found[:6])}{more}; write more of it")
    raise RecordError(f"no run {name!r} in {root}; `tombola runs --runs {root}` lists what there is")


def _write(folder: Path, record: RunRecord) -> None:
    data = msgspec.json.encode(record, enc_hook=_plain)
    write_whole(folder / FILE, msgspec.json.format(data, indent=1) + b"\n")


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a result holds
    """Numpy's scalars and arrays as JSON has them, all else as text: hours of work are not lost to one type."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _read(folder: Path) -> RunRecord:
    try:
        data = (folder / FILE).read_bytes()
        _check_format(data)
        return msgspec.json.decode(data, type=RunRecord)
    except FileNotFoundError as error:
        raise RecordError(f"no record in {folder}") from error
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise RecordError(f"cannot read the record {folder.name}: {error}") from error


def _check_format(data: bytes) -> None:
    found = msgspec.json.decode(data)
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        told = "no format" if version is None else f"format {version!r}"
        raise ValueError(f"it has {told}, this version of tombola reads format {FORMAT}")


def _locked(folder: Path) -> IO[str] | None:
    """The record's lock, held; None where another process holds it. It goes with the process, however that ends.
    Waits a moment: who only looks whether it is held holds it too while it looks.
    """
    lock = open(folder / _LOCK, "w", encoding="utf-8")  # noqa: SIM115 - held until the run ends
    for _ in range(20):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return lock
    lock.close()
    return None


def _is_held(folder: Path) -> bool:
    try:
        with open(folder / _LOCK, encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _safe(name: str) -> str:
    return re.sub(r"[^a-z0-9_.-]+", "_", name.lower())[:48].strip(".-") or "run"
