"""How a gateway keeps the accounts: from Redis while it is there, from a file when it is not.

Owns the start (Redis first, the cache file if Redis does not answer), following changes, and keeping what came in the
cache file. Accounts hold hashes of keys, never keys.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

import msgspec
import structlog

from routing.account import Account
from routing.store import Store, StoreCorrupt, StoreUnavailable
from server.last_known import LastKnown

FIRST_ACCOUNTS_S = 2.0

log = structlog.get_logger()

Accounts = Mapping[str, Account]
_kept = msgspec.json.Decoder(dict[str, Account])


class AccountFollower:
    """Gives the accounts to ``use``, and again whenever one of them has changed."""

    def __init__(self, store: Store, use: Callable[[Accounts], None], cache: LastKnown) -> None:
        self._store = store
        self._use = use
        self._cache = cache

    async def start(self) -> None:
        """Use Redis's accounts; where Redis does not answer, or has lost them, those that were kept."""
        accounts: Accounts | None = None
        try:
            async with asyncio.timeout(FIRST_ACCOUNTS_S):
                accounts = await self._store.load_accounts()
        except (StoreUnavailable, StoreCorrupt, TimeoutError) as error:
            log.warning("accounts_not_loaded", error=str(error))
        if not accounts:
            kept = await asyncio.to_thread(self._read_cache)
            if kept:
                accounts = kept
                log.warning("accounts_from_cache", accounts=len(kept))
        if accounts is not None:
            self._use(accounts)

    async def run(self) -> None:
        """Follow Redis until cancelled."""
        changes = self._store.watch_accounts()
        assert isinstance(changes, AsyncGenerator)
        async with aclosing(changes):
            async for accounts in changes:
                self._use(accounts)
                await asyncio.to_thread(self._cache.write, msgspec.json.encode(accounts, order="deterministic"))

    def _read_cache(self) -> dict[str, Account] | None:
        kept = self._cache.read()
        if kept is None:
            return None
        try:
            return _kept.decode(kept)
        except msgspec.DecodeError as error:
            log.warning("accounts_cache_unreadable", path=str(self._cache.path), error=str(error))
            return None
