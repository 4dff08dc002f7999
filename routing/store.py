"""The store: the only file that knows Redis.

Owns every key name, the atomic publication of the table (one document, its bounded
history, one announcement), the way it reaches gateways, and the leases of live
processes. Redis is the control plane, never on a request's path: every operation is
bounded in time and fails as `StoreUnavailable`; only `Store.watch_table` waits for ever.
"""

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError, ResponseError

from routing.document import DocumentError, check, dump_json, load_json
from routing.lease import Lease, LeaseKind
from routing.scripts import LIVE_LEASES, PUBLISH, WITHDRAW
from routing.table import Table

HISTORY_VERSIONS = 20
"""How many versions stay readable, the current one included."""
SOCKET_TIMEOUT_S = 1.0
_RETRIES = 1  # a restarted Redis leaves dead connections in the pool: the second try opens a fresh one
_RETRY_PAUSE_S = 0.05
_RECONNECT_PAUSE_S = 0.5
_PUBLISH_ATTEMPTS = 20  # each lost attempt means that somebody else's publication won
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

log = structlog.get_logger(__name__)


class StoreUnavailable(Exception):
    """Redis cannot be reached, or refuses to work; trying again later may help."""


class StoreCorrupt(Exception):
    """What Redis holds under our names is not ours to understand; publishing again replaces it."""


class VersionConflict(Exception):
    """Somebody else has published meanwhile. ``current`` is the version that now stands."""

    def __init__(self, expected: int, current: int) -> None:
        super().__init__(f"the table is at version {current}, not {expected}: somebody has published meanwhile")
        self.expected, self.current = expected, current


class Keys:
    """Every name we use in Redis. A namespace holds no colon, so namespaces cannot overlap."""

    def __init__(self, namespace: str) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError(f"namespace {namespace!r}: use 1 to 64 letters, digits, '_', '.', '-'")
        self.table = f"{namespace}:table"  # hash: version, publication (an id of its own for each), document
        self.history = f"{namespace}:table:history"  # hash: version -> document
        self.channel = f"{namespace}:table:published"  # pub/sub: the publication of each new table
        self._leases = f"{namespace}:leases"

    def names(self, kind: LeaseKind) -> str:
        """Set of the names that have announced a lease."""
        return f"{self._leases}:{kind}"

    def lease(self, kind: LeaseKind, name: str) -> str:
        """String with a TTL: the lease itself."""
        return f"{self._leases}:{kind}:{name}"


class Store:
    """The control plane of one installation: its table, and the leases of its live processes."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    @classmethod
    def connect(cls, url: str, namespace: str = "tombola") -> "Store":
        """A store at ``redis://``, ``rediss://`` or ``unix:///path``; nothing is sent before it is used.

        Raises ValueError for a URL or namespace that cannot be.
        """
        redis = Redis.from_url(
            url,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            retry=Retry(ConstantBackoff(_RETRY_PAUSE_S), _RETRIES),
            protocol=2,
        )
        return cls(redis, Keys(namespace))

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    async def ping(self) -> bool:
        """Whether Redis answers now."""
        try:
            with _translated():
                return bool(await self._redis.ping())
        except StoreUnavailable:
            return False

    async def load_table(self, version: int | None = None) -> Table | None:
        """The current table, or an earlier ``version`` that is still kept; None where there is none.

        Raises StoreUnavailable, StoreCorrupt.
        """
        with _translated():
            if version is None:
                document = await self._redis.hget(self._keys.table, "document")
            else:
                document = await self._redis.hget(self._keys.history, str(version))
        return None if document is None else _decode(_raw(document))

    async def versions(self) -> list[int]:
        """The versions that `load_table` still knows, oldest first. Raises StoreUnavailable, StoreCorrupt."""
        with _translated():
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
                    with _translated():
                        await announcements.subscribe(self._keys.channel)
                    while True:
                        seen, table = await self._change(seen)
                        if not available:
                            available = True
                            log.info("store_available")
                        if table is not None:
                            yield table
                        with _translated():
                            await announcements.get_message(ignore_subscribe_messages=True, timeout=poll_s)
            except (StoreUnavailable, StoreCorrupt) as error:
                if available:
                    available = False
                    log.warning("store_unavailable", error=str(error))
            await asyncio.sleep(min(poll_s, _RECONNECT_PAUSE_S))

    async def announce(self, lease: Lease, ttl_s: float) -> None:
        """Say that this process lives for another ``ttl_s`` seconds. Raises StoreUnavailable."""
        with _translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(
                    self._keys.lease(lease.kind, lease.name), msgspec.json.encode(lease), px=max(1, round(ttl_s * 1000))
                )
                pipe.sadd(self._keys.names(lease.kind), lease.name)
                await pipe.execute()

    async def withdraw(self, lease: Lease) -> None:
        """Take back this very lease; a successor's of the same name stays. Raises StoreUnavailable."""
        key, names = self._keys.lease(lease.kind, lease.name), self._keys.names(lease.kind)
        with _translated():
            await self._redis.eval(WITHDRAW, 2, key, names, msgspec.json.encode(lease), lease.name)

    async def leases(self, kind: LeaseKind) -> list[Lease]:
        """The live leases, by name. Raises StoreUnavailable."""
        with _translated():
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
            with _translated():
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
        with _translated():
            done, standing = await self._redis.eval(PUBLISH, len(keys), *keys, *arguments)
        return None if done else int(standing)

    async def _change(self, seen: bytes | None) -> tuple[bytes | None, Table | None]:
        """The publication that stands, and its table where it is neither ``seen`` already nor unreadable."""
        with _translated():
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


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what redis-py raises into this file's errors."""
    try:
        yield
    except ResponseError as error:
        if "WRONGTYPE" in str(error):
            raise StoreCorrupt("something else stands in Redis under the table's name: publish it again") from error
        raise StoreUnavailable(f"Redis refuses: {error}") from error
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"Redis cannot be reached: {error}") from error
