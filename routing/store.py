"""The store: the control plane of one installation, as the rest of the house knows it.

Owns nothing but the whole: the table, the accounts, the reports, the audit log and the leases are one module each in
`routing.redis`, and this is where they are found together. Redis is the control plane, never on a request's path:
every operation ends within `OPERATION_S` seconds or fails as `StoreUnavailable`; only the watches wait for ever.
"""

import asyncio
from collections.abc import AsyncGenerator

import msgspec

from routing.account import Account
from routing.actor import shell_actor
from routing.change import Change, Committed
from routing.event import Event
from routing.lease import Lease, LeaseKind
from routing.redis.accounts import Accounts
from routing.redis.commit import HISTORY_VERSIONS, Commits
from routing.redis.connection import Connection
from routing.redis.errors import (
    OPERATION_S,
    StoreCorrupt,
    StoreTooNew,
    StoreUnavailable,
    VersionConflict,
    bounded,
)
from routing.redis.events import Events
from routing.redis.leases import Leases
from routing.redis.schema import Schema
from routing.redis.tables import Tables
from routing.redis.url import redacted
from routing.redis.watch import Watch
from routing.table import Table

_PUBLISH_ATTEMPTS = 20  # each lost attempt means that somebody else's publication won

__all__ = [
    "HISTORY_VERSIONS", "OPERATION_S", "Store", "StoreCorrupt", "StoreTooNew", "StoreUnavailable", "VersionConflict",
    "redacted",
]  # fmt: skip


class Store:
    """The control plane of one installation."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.turn = asyncio.Lock()
        """Of who has lost against another change of this process and reads again: the others let it go first."""
        self._schema = Schema(connection)
        self._tables = Tables(connection)
        self._accounts = Accounts(connection)
        self._commits = Commits(connection)
        self._events = Events(connection)
        self._leases = Leases(connection)
        self._watch = Watch(connection)

    @classmethod
    def connect(cls, url: str, namespace: str = "tombola") -> "Store":
        """A store at any of the URLs that `routing.redis.url` reads; nothing is sent before it is used.

        Raises ValueError for a URL or namespace that cannot be; its text never holds a password.
        """
        return cls(Connection.open(url, namespace))

    def __repr__(self) -> str:
        return f"Store({self.connection!r})"

    async def close(self) -> None:
        """Close all connections."""
        await self.connection.close()

    async def ping(self) -> bool:
        """Whether Redis answers now."""
        try:
            async with bounded():
                await self.connection.client.exists(self.connection.keys.schema)
        except StoreUnavailable:
            return False
        return True

    async def prepare(self) -> None:
        """Bring what stands in Redis to this release's layout; any number of processes may, at any time.

        Raises StoreTooNew where a later release has been here, StoreUnavailable.
        """
        await self._schema.prepare()

    async def load_table(self, version: int | None = None) -> Table | None:
        """The table that stands, or an earlier ``version`` that is still kept; None where there is none.

        Raises StoreUnavailable, StoreCorrupt.
        """
        return await self._tables.load(version)

    async def versions(self) -> list[int]:
        """The versions that `load_table` still knows, oldest first. Raises StoreUnavailable, StoreCorrupt."""
        return await self._tables.versions()

    async def publish(
        self, table: Table, *, expect_version: int | None = None, actor: str | None = None, reason: str = ""
    ) -> Table:
        """Replace the whole table at once and announce it; returns it with its new version (old + 1).

        ``expect_version`` is the version this edit was made from (0: there is none yet); ``actor`` is who did it for
        the audit log, absent: who runs this process. Raises VersionConflict when another one stands, DocumentError,
        StoreUnavailable.
        """
        base = expect_version if expect_version is not None else await self._tables.version()
        for _ in range(_PUBLISH_ATTEMPTS):
            event = Event(
                action="table.publish", actor=actor or shell_actor(), subject="table", reason=reason,
                before={"version": base}, after={"version": base + 1},
            )  # fmt: skip
            new = msgspec.structs.replace(table, version=base)
            try:
                committed = await self.commit(Change(event=event, table=new))
            except VersionConflict as conflict:
                if expect_version is not None:
                    raise
                base = conflict.current
                continue
            assert committed.table is not None
            return committed.table
        raise StoreUnavailable("others publish faster than this publication gets through")

    async def commit(self, change: Change, *, least_version: int = 0) -> Committed:
        """Carry out a change whole, with its event, or not at all.

        The table gets the version after the one it was made from, or ``least_version`` if that is more. Raises
        VersionConflict where the table or an account has been changed meanwhile, DocumentError for a table that does
        not hold together, StoreUnavailable. After StoreUnavailable the change may have been made: read before
        trying again.
        """
        return await self._commits.carry_out(change, least_version=least_version)

    def watch_table(self, poll_s: float = 0.5) -> AsyncGenerator[Table, None]:
        """The table as soon as there is one, then every table that replaces it. Never ends: leave it with `aclosing`.

        An announcement brings a new table at once; polling, every ``poll_s`` seconds, where the announcement was lost.
        Redis going away, being emptied, or coming back with an older table is waited out: the caller keeps its last
        good table. A document that does not read is logged and passed over.
        """
        return self._watch.table(poll_s)

    async def load_accounts(self) -> dict[str, Account]:
        """All accounts by name. Raises StoreUnavailable, StoreCorrupt."""
        return dict((await self._accounts.load()).accounts)

    def watch_accounts(self, poll_s: float = 0.5) -> AsyncGenerator[dict[str, Account], None]:
        """All accounts, and again whenever one of them has changed. Never ends: leave it with `aclosing`.

        What is said of `watch_table` holds here too: accounts that vanish with Redis's data are not forgotten.
        """
        return self._watch.accounts(poll_s)

    async def load_report(self, tenant: str, ticket: str) -> bytes | None:
        """The report of a ticket's registration, as JSON; None where there is none. Raises StoreUnavailable."""
        async with bounded():
            report = await self.connection.client.hget(self.connection.keys.reports(tenant), ticket)
        return report.encode() if isinstance(report, str) else report

    async def events(self, tenant: str | None = None, *, count: int = 100, before: str | None = None) -> list[Event]:
        """The newest ``count`` events, newest first: all, or one ``tenant``'s; those older than the id ``before``.

        Raises ValueError for a ``before`` that is no event's id, StoreUnavailable.
        """
        return await self._events.read(tenant, count=count, before=before)

    async def announce(self, lease: Lease, ttl_s: float) -> None:
        """Say that this process lives for another ``ttl_s`` seconds. Raises StoreUnavailable."""
        await self._leases.announce(lease, ttl_s)

    async def withdraw(self, lease: Lease) -> None:
        """Take back this very lease; a successor's of the same name stays. Raises StoreUnavailable."""
        await self._leases.withdraw(lease)

    async def leases(self, kind: LeaseKind) -> list[Lease]:
        """The live leases, by name. Raises StoreUnavailable."""
        return await self._leases.live(kind)
