"""Following what stands in Redis: the table, and the accounts.

Owns how a change reaches a process: an announcement brings it at once, polling where the announcement was lost. Redis
going away is waited out. A store that was emptied, or one that is older than what was seen (a replica that was
promoted before it had everything), makes nobody forget; `routing.redis.stamp` decides which is which.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import structlog

from routing.account import Account
from routing.redis.accounts import Accounts, AccountsState
from routing.redis.connection import Connection
from routing.redis.errors import StoreCorrupt, StoreUnavailable
from routing.redis.schema import Schema
from routing.redis.stamp import Followed
from routing.redis.tables import Tables, decode
from routing.table import Table

_RECONNECT_PAUSE_S = 0.5

_T = TypeVar("_T")
_Read = Callable[[], Awaitable[tuple[bytes | None, _T | None]]]
"""Reads what stands: its stamp, and the thing; None in its place where it does not read."""

log = structlog.get_logger(__name__)


class Watch:
    """Follows one store."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._schema = Schema(connection)
        self._tables = Tables(connection)
        self._accounts = Accounts(connection)

    def table(self, poll_s: float) -> AsyncGenerator[Table, None]:
        """The table as soon as there is one, then every one that replaces it. One that does not read is passed over.

        Never ends: leave it with `aclosing`.
        """

        async def read() -> tuple[bytes | None, Table | None]:
            standing = await self._tables.publication()
            try:
                return standing.stamp, decode(standing.document)
            except StoreCorrupt as error:
                log.error("table_unreadable", error=str(error))
                return standing.stamp, None

        return self._follow("table", self._tables.stamp, read, poll_s)

    def accounts(self, poll_s: float) -> AsyncGenerator[dict[str, Account], None]:
        """All accounts, and again when one of them has changed. Never ends: leave it with `aclosing`."""
        known = AccountsState()

        async def read() -> tuple[bytes | None, dict[str, Account] | None]:
            nonlocal known
            found = await self._accounts.follow(known)
            if found.stamp is None:  # emptied since the stamp was read
                return None, None
            known = found
            return known.stamp, dict(known.accounts)

        return self._follow("accounts", self._accounts.stamp, read, poll_s)

    async def _follow(
        self, what: str, stamp: Callable[[], Awaitable[bytes | None]], read: _Read[_T], poll_s: float
    ) -> AsyncGenerator[_T, None]:
        followed, is_available = Followed(), True
        while True:
            try:
                async with self._connection.listening() as listen:
                    await self._schema.prepare()
                    while True:
                        standing = await stamp()
                        if not is_available:
                            is_available = True
                            log.info("store_available", what=what)
                        verdict = followed.look(standing)
                        thing = None
                        if verdict == "newer":
                            standing, thing = await read()
                            if standing is None:
                                await listen(min(poll_s, _RECONNECT_PAUSE_S))
                                continue  # it has vanished meanwhile: the next look says so
                        elif verdict != "same":
                            log.error(
                                "store_went_back", what=what, verdict=verdict, used=str(followed.used),
                                action="what is in use stays; bring it back with `tombola route recover`",
                            )  # fmt: skip
                        followed = followed.after(standing, verdict)
                        if thing is not None:
                            yield thing
                        await listen(poll_s)
            except (StoreUnavailable, StoreCorrupt) as error:
                if is_available:
                    is_available = False
                    log.warning("store_unavailable", what=what, error=str(error))
            await asyncio.sleep(min(poll_s, _RECONNECT_PAUSE_S))
