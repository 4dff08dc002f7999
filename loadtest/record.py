"""What is written down for each request, and the raw file it can be kept in.

A raw file is JSON lines: one `Run` (how the load was made), then one `Record` per request. Reduce it
again at any time with `tombola load report RAW`; the arithmetic lives in `loadtest.report`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from loadtest.schedule import Arrivals, Step

FORMAT_VERSION = 1
INTERRUPTED = "interrupted"


class RawFileError(ValueError):
    """Not a raw file of this tool."""


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="record"):
    """One request. Times are seconds since its step's start; ``code`` is empty exactly where a good answer came.

    ``fired_s`` is when the sender handed it to the client, ``sent_s`` when its bytes were written (None: never).
    """

    step: int
    tenant: str
    domain: str
    tier: str
    intended_s: float
    fired_s: float
    sent_s: float | None
    done_s: float
    status: int
    code: str = ""
    warmup: bool = False
    ticket: str = ""
    queue_ms: float | None = None
    run_ms: float | None = None
    total_ms: float | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """How a load was made: all that a report needs beside the records."""

    url: str
    arrivals: Arrivals
    seed: int
    steps: list[Step]
    timeout_s: float
    max_connections: int
    started: str
    """UTC, ISO 8601."""
    interrupted: bool = False
    version: int = FORMAT_VERSION


_decoder = msgspec.json.Decoder(Run | Record)


def write_raw(path: Path, run: Run, records: Iterable[Record]) -> None:
    """Write ``run`` and ``records`` as JSON lines. Raises OSError."""
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        file.write(encode(run) + b"\n")
        file.writelines(encode(record) + b"\n" for record in records)


def read_raw(path: Path) -> tuple[Run, Sequence[Record]]:
    """What `write_raw` wrote. Raises RawFileError, naming the line, and OSError."""
    run: Run | None = None
    records: list[Record] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                item = _decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise RawFileError(f"{path}, line {number}: not a line of a raw file: {error}") from error
            if isinstance(item, Run) == (number > 1):
                raise RawFileError(f"{path}, line {number}: the run stands on the first line, and only there")
            if isinstance(item, Run):
                run = item
            elif run is not None and not 0 <= item.step < len(run.steps):
                raise RawFileError(f"{path}, line {number}: step {item.step} is not one of the run's")
            else:
                records.append(item)
    if run is None:
        raise RawFileError(f"{path}: empty")
    if run.version != FORMAT_VERSION:
        raise RawFileError(f"{path}: raw format {run.version}; this tool reads {FORMAT_VERSION}")
    return run, records
