"""The table in Redis: the one that stands, and the versions before it.

Owns reading them. Writing is `routing.redis.commit`'s, following what changes `routing.redis.watch`'s.
"""

import msgspec

from routing.document import DocumentError, load_json
from routing.redis.connection import Connection
from routing.redis.errors import StoreCorrupt, bounded
from routing.table import Table


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """A table as it was published: the stamp of that change, and the document."""

    stamp: bytes
    document: bytes


class Tables:
    """Reads the table of one store."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection.client
        self._keys = connection.keys

    async def load(self, version: int | None = None) -> Table | None:
        """The table that stands, or an earlier ``version`` that is still kept; None where there is none.

        Raises StoreUnavailable, StoreCorrupt.
        """
        async with bounded():
            if version is None:
                document = await self._redis.hget(self._keys.table, "document")
            else:
                document = await self._redis.hget(self._keys.history, str(version))
        return None if document is None else decode(_raw(document))

    async def versions(self) -> list[int]:
        """The versions that `load` still knows, oldest first. Raises StoreUnavailable, StoreCorrupt."""
        async with bounded():
            fields = await self._redis.hkeys(self._keys.history)
        return sorted(int(field) for field in fields if field.isdigit())

    async def version(self) -> int:
        """The version that stands; 0 for none, and for something that is not ours (a commit replaces it)."""
        try:
            async with bounded():
                value = await self._redis.hget(self._keys.table, "version")
        except StoreCorrupt:
            return 0
        return int(value) if value is not None and value.isdigit() else 0

    async def stamp(self) -> bytes | None:
        """Of the publication that stands; None where there is none. Raises StoreUnavailable, StoreCorrupt."""
        async with bounded():
            value = await self._redis.hget(self._keys.table, "publication")
        return None if value is None else _raw(value)

    async def publication(self) -> Publication:
        """What stands. Raises StoreUnavailable, StoreCorrupt."""
        async with bounded():
            stamp, document = await self._redis.hmget(self._keys.table, ["publication", "document"])
        return Publication(stamp=_raw(stamp), document=_raw(document))


def decode(document: bytes) -> Table:
    """The table that Redis holds as ``document``. Raises StoreCorrupt."""
    try:
        return load_json(document)
    except DocumentError as error:
        raise StoreCorrupt(f"the table in Redis does not read ({error}): publish it again") from error


def _raw(value: bytes | str | None) -> bytes:
    """redis-py's replies are typed for clients that decode; ours does not."""
    return value.encode() if isinstance(value, str) else value or b""
