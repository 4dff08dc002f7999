"""The audit log in Redis: a stream of events, the newest about ten thousand.

Owns reading it. Events are written by `routing.redis.commit`, each in the same step as the change it tells of.
"""

from typing import Any

import msgspec
import structlog

from routing.event import Event
from routing.redis.connection import Connection
from routing.redis.errors import bounded
from routing.redis.stamp import read_stamp

_PAGE = 500

log = structlog.get_logger(__name__)


class Events:
    """Reads the audit log of one store."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._xrevrange: Any = connection.client.xrevrange  # typed for clients that decode, which ours does not

    async def read(self, tenant: str | None = None, *, count: int = 100, before: str | None = None) -> list[Event]:
        """The newest ``count`` events, newest first; those of one ``tenant``, those older than the id ``before``.

        Raises ValueError for a ``before`` that is no event's id, StoreUnavailable, StoreCorrupt.
        """
        if before is not None and read_stamp(before.encode()) is None:
            raise ValueError(f"{before!r} is not the id of an event")
        found: list[Event] = []
        newest = f"({before}" if before is not None else "+"
        while len(found) < count:
            async with bounded():
                page: list[tuple[bytes, dict[bytes, bytes]]] = await self._xrevrange(
                    self._connection.keys.events, max=newest, min="-", count=_PAGE if tenant else count - len(found)
                )
            if not page:
                break
            for stamp, fields in page:
                if tenant is None or fields.get(b"tenant") == tenant.encode():
                    found += _event(stamp, fields)
            newest = f"({page[-1][0].decode()}"
        return found[:count]


def _event(stamp: bytes, fields: dict[bytes, bytes]) -> list[Event]:
    """The event of one entry; nothing for an entry that is not ours."""
    try:
        event = msgspec.json.decode(fields[b"event"], type=Event)
        return [msgspec.structs.replace(event, id=stamp.decode(), at=float(fields[b"at"]))]
    except (KeyError, ValueError, RecursionError) as error:
        log.warning("event_unreadable", id=stamp.decode(), error=str(error))
        return []
