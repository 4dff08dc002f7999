"""The store: the only file that knows Redis.

Owns every key name, the atomic publication of the table (one document, its bounded
history, one announcement), the way it reaches gateways, and the leases of live
processes. Redis is the control plane, never on a request's path: every operation is
bounded in time and fails as `StoreUnavailable`; only `Store.watch_table` waits for ever.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator

import msgspec
import structlog

from routing.account import Account
from routing.change import Change, Committed
from routing.document import DocumentError, check, dump_json, load_json
from routing.lease import Lease, LeaseKind
from routing.redis.connection import Connection
from routing.redis.errors import StoreCorrupt, StoreUnavailable, VersionConflict, translated
from routing.scripts import LIVE_LEASES, PUBLISH, WITHDRAW
from routing.table import Table

HISTORY_VERSIONS = 20
"""How many versions stay readable, the current one included."""
_RECONNECT_PAUSE_S = 0.5
_PUBLISH_ATTEMPTS = 20  # each lost attempt means that somebody else's publication won

__all__ = ["HISTORY_VERSIONS", "Store", "StoreCorrupt", "StoreUnavailable", "VersionConflict"]

log = structlog.get_logger(__name__)


class Store:
    """The control plane of one installation: its table, and the leases of its live processes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._redis = connection.client
        self._keys = connection.keys

    @classmethod
    def connect(cls, url: str, namespace: str = "tombola") -> "Store":
        """A store at ``redis://``, ``rediss://`` or ``unix:///path``; nothing is sent before it is used.

        Raises ValueError for a URL or namespace that cannot be.
        """
        return cls(Connection.open(url, namespace))

    async def close(self) -> None:
        """Close all connections."""
        await self.connection.close()

    async def ping(self) -> bool:
        """Whether Redis answers now."""
        try:
            with translated():
                return bool(await self._redis.ping())
        except StoreUnavailable:
            return False

    async def load_table(self, version: int | None = None) -> Table | None:
        """The current table, or an earlier ``version`` that is still kept; None where there is none.

        Raises StoreUnavailable, StoreCorrupt.
        """
        with translated():
            if version is None:
                document = await self._redis.hget(self._keys.table, "document")
            else:
                document = await self._redis.hget(self._keys.history, str(version))
        return None if document is None else _decode(_raw(document))

    async def versions(self) -> list[int]:
        """The versions that `load_table` still knows, oldest first. Raises StoreUnavailable, StoreCorrupt."""
        with translated():
            fields = await self._redis.hkeys(self._keys.history)
        return sorted(int(field) for field in fields if field.isdigit())

    async def publish(self, table: Table, *, expect_version: int | None = None) -> Table:
        """Replace the whole table at once and announce it; returns it with its new version (old + 1).

        ``expect_version`` is the version this edit was made from (0: there is none yet).
        Raises VersionConflict when another one stands, DocumentError, StoreUnavailable.
        """
        table = check(table)
        publication = uuid.uuid4().hex  # lets a call that is sent again know its own work
        base = expect_version if expect_version is not None else await self._version()
        for _ in range(_PUBLISH_ATTEMPTS):
            new = msgspec.structs.replace(table, version=base + 1)
            standing = await self._publish_over(base, new, publication)
            if standing is None:
                return new
            if expect_version is not None:
                raise VersionConflict(expect_version, standing)
            base = standing
        raise StoreUnavailable("others publish faster than this publication gets through")

    async def watch_table(self, poll_s: float = 0.5) -> AsyncGenerator[Table, None]:
        """The current table as soon as there is one, then every table that replaces it.

        An announcement brings a new table at once; polling brings it where the announcement
        was lost. Redis going away is waited out, and a document that does not read is logged
        and passed over: the caller keeps its last good table. Never ends: leave it with `aclosing`.
        """
        seen: bytes | None = None
        available = True
        while True:
            try:
                async with self._redis.pubsub() as announcements:
                    with translated():
                        await announcements.subscribe(self._keys.channel)
                    while True:
                        seen, table = await self._change(seen)
                        if not available:
                            available = True
                            log.info("store_available")
                        if table is not None:
                            yield table
                        with translated():
                            await announcements.get_message(ignore_subscribe_messages=True, timeout=poll_s)
            except (StoreUnavailable, StoreCorrupt) as error:
                if available:
                    available = False
                    log.warning("store_unavailable", error=str(error))
            await asyncio.sleep(min(poll_s, _RECONNECT_PAUSE_S))

    async def load_accounts(self) -> dict[str, Account]:
        """All accounts by name. Raises StoreUnavailable, StoreCorrupt."""
        with translated():
            found = await self._redis.hgetall(self._keys.accounts)
        return {_raw(name).decode(): msgspec.json.decode(document, type=Account) for name, document in found.items()}

    async def watch_accounts(self, poll_s: float = 0.5) -> AsyncGenerator[dict[str, Account], None]:
        """All accounts, and again whenever one of them has changed. Never ends: leave it with `aclosing`."""
        seen: dict[str, Account] | None = None
        while True:
            try:
                accounts = await self.load_accounts()
                if accounts != seen:
                    seen = accounts
                    yield accounts
            except (StoreUnavailable, StoreCorrupt) as error:
                log.debug("accounts_unavailable", error=str(error))
            await asyncio.sleep(poll_s)

    async def commit(self, change: Change) -> Committed:
        """Carry out a change whole, with its event, or not at all. Raises VersionConflict, StoreUnavailable."""
        raise NotImplementedError

    async def announce(self, lease: Lease, ttl_s: float) -> None:
        """Say that this process lives for another ``ttl_s`` seconds. Raises StoreUnavailable."""
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(
                    self._keys.lease(lease.kind, lease.name), msgspec.json.encode(lease), px=max(1, round(ttl_s * 1000))
                )
                pipe.sadd(self._keys.names(lease.kind), lease.name)
                await pipe.execute()

    async def withdraw(self, lease: Lease) -> None:
        """Take back this very lease; a successor's of the same name stays. Raises StoreUnavailable."""
        key, names = self._keys.lease(lease.kind, lease.name), self._keys.names(lease.kind)
        with translated():
            await self._redis.eval(WITHDRAW, 2, key, names, msgspec.json.encode(lease), lease.name)

    async def leases(self, kind: LeaseKind) -> list[Lease]:
        """The live leases, by name. Raises StoreUnavailable."""
        with translated():
            found = await self._redis.eval(LIVE_LEASES, 1, self._keys.names(kind), self._keys.lease(kind, ""))
        leases = []
        for document in found:
            try:
                leases.append(msgspec.json.decode(document, type=Lease))
            except msgspec.DecodeError as error:
                log.warning("lease_unreadable", kind=kind, error=str(error))
        return sorted(leases, key=lambda lease: lease.name)

    async def _version(self) -> int:
        """The version that stands; 0 for none, and for something that is not ours (PUBLISH replaces it)."""
        try:
            with translated():
                value = await self._redis.hget(self._keys.table, "version")
        except StoreCorrupt:
            return 0
        return int(value) if value is not None and value.isdigit() else 0

    async def _publish_over(self, base: int, new: Table, publication: str) -> int | None:
        """Put ``new`` where version ``base`` stands: None when that is done, else the version that stands."""
        keys = [self._keys.table, self._keys.history, self._keys.channel]
        arguments: list[int | str | bytes] = [
            base,
            new.version,
            publication,
            dump_json(new),
            new.version - HISTORY_VERSIONS,
        ]
        with translated():
            done, standing = await self._redis.eval(PUBLISH, len(keys), *keys, *arguments)
        return None if done else int(standing)

    async def _change(self, seen: bytes | None) -> tuple[bytes | None, Table | None]:
        """The publication that stands, and its table where it is neither ``seen`` already nor unreadable."""
        with translated():
            standing = await self._redis.hget(self._keys.table, "publication")
            if standing is None or _raw(standing) == seen:
                return seen, None
            publication, document = await self._redis.hmget(self._keys.table, ["publication", "document"])
        try:
            return _raw(publication), _decode(_raw(document))
        except StoreCorrupt as error:
            log.error("table_unreadable", error=str(error))
            return _raw(publication), None


def _raw(value: bytes | str | None) -> bytes:
    """redis-py's replies are typed for clients that decode; ours does not."""
    return value.encode() if isinstance(value, str) else value or b""


def _decode(document: bytes) -> Table:
    try:
        return load_json(document)
    except DocumentError as error:
        raise StoreCorrupt(f"the table in Redis does not read ({error}): publish it again") from error
