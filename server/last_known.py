"""A file that remembers one thing for the next start: written whole, readable by this user only.

A gateway keeps its last table and the workers it last knew, so that it can start and serve while
Redis is away. Losing such a file costs nothing else; so nothing here raises, it logs.
"""

from pathlib import Path

import structlog

from tickets.files import write_whole

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
        try:
            write_whole(self.path, data, mode=0o600)
        except OSError as error:
            log.warning("cache_not_written", path=str(self.path), error=str(error))
