"""Logs: structlog's events and every library's records, one line each, on stderr.

Owns the format (JSON unless a person is watching) and the level. What is logged, and
with which fields, is decided where it happens; context is bound with structlog.contextvars.
The request log's many lines come by `write_lines`, past structlog (a sixth of the time).
"""

import json as standard_json
import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import structlog

PIPE_BYTES = 4096
"""What processes that share a pipe may write at once without mixing their lines (PIPE_BUF)."""

_style = {"json": True}


def configure_logging(json: bool | None = None) -> None:
    """Send structlog's events and every library's log to stderr, one line each.

    ``json``: one JSON object a line; absent: JSON unless stderr is a terminal. Context bound with
    structlog.contextvars is part of each line. Call it once, before the first line is logged.
    """
    as_json = _style["json"] = not sys.stderr.isatty() if json is None else json
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Plain tracebacks: rich ones, the default where rich is installed, show variables, and so texts and keys.
    last: list[Any] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    if as_json:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = structlog.stdlib.ProcessorFormatter
    handler.setFormatter(formatter(processors=[formatter.remove_processors_meta, *last], foreign_pre_chain=shared))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def write_lines(lines: Iterable[msgspec.Struct]) -> None:
    """Write many complete lines at little cost, in the form of all others. Their members are a line's members."""
    if not _style["json"]:
        log = structlog.get_logger()
        for line in lines:
            members = msgspec.to_builtins(line)
            log.info(
                members.pop("event"), **{key: members[key] for key in members if key not in ("level", "timestamp")}
            )
        return
    for part in _parts(lines):
        sys.stderr.write(part)
    sys.stderr.flush()


def _parts(lines: Iterable[msgspec.Struct]) -> Iterator[str]:
    """Whole lines in pieces that are written at once."""
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        shown = msgspec.json.encode(line)
        if gathered and size + len(shown) >= PIPE_BYTES:
            yield b"\n".join(gathered).decode() + "\n"
            gathered, size = [], 0
        gathered.append(shown)
        size += len(shown) + 1
    if gathered:
        yield b"\n".join(gathered).decode() + "\n"


def _to_json(event: object, **_: object) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=repr).decode()
    except (TypeError, ValueError):  # a lone surrogate, say: a log line must never fail a request
        return standard_json.dumps(event, default=repr, skipkeys=True)
