"""A file that remembers one thing for the next start: written whole, readable by this user only.

A gateway keeps its last table and the workers it last knew, so that it can start and serve while
Redis is away. Losing such a file costs nothing else; so nothing here raises, it logs.
"""

import contextlib
import os
import secrets
from pathlib import Path

import structlog

log = structlog.get_logger()


class LastKnown:
    """One such file; with no path, nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def read(self) -> bytes | None:
        """What was kept; None where there is nothing to read."""
        if self.path is None:
            return None
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cache_unreadable", path=str(self.path), error=str(error))
            return None

    def write(self, data: bytes) -> None:
        """Keep ``data`` in place of what was kept before."""
        if self.path is None:
            return
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(6)}.tmp")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            log.warning("cache_not_written", path=str(self.path), error=str(error))
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
