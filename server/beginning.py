"""What an installation begins with: its table, and an example that works.

Owns the first publication (the starter tickets, a demo tenant, its key) and the finding of a
request that the running installation answers. The starter tickets are `server.starter`'s, the
state directory `server.state`'s, the processes `server.up`'s.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from routing.keys import key_hash, new_key, tenant_of
from routing.store import Store, StoreCorrupt, StoreUnavailable, VersionConflict
from routing.table import Table
from server.ready import POLL_S
from server.starter import StarterError, default_table, example_text, fill, packaged
from server.state import State
from tickets.bundle import BundleError
from tickets.registry import Registry, TicketMissing


class BeginningError(Exception):
    """There is no table to begin with; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Example:
    """A request that the running installation answers."""

    key: str
    domain: str
    text: str


async def first_table(redis_url: str, state: State, *, starter: Path | None, is_empty: bool, within_s: float) -> Table:
    """The table in Redis; when there is none, the default one, published.

    ``starter`` None: the tickets in the package. Waits ``within_s`` for Redis. Raises BeginningError.
    """
    try:
        store = Store.connect(redis_url)
    except ValueError as error:
        raise BeginningError(f"--redis-url {redis_url}: {error}") from error
    try:
        return await _table(store, state, starter=starter, is_empty=is_empty, within_s=within_s)
    except StarterError as error:
        raise BeginningError(str(error)) from error
    finally:
        await store.close()


async def _table(store: Store, state: State, *, starter: Path | None, is_empty: bool, within_s: float) -> Table:
    families = {} if is_empty else fill(Registry(state.registry), starter or packaged())
    last_try = time.monotonic() + within_s
    while True:
        try:
            table = await store.load_table()
            if table is not None:
                return table
            if is_empty:
                return await store.publish(Table(), expect_version=0)
            key = state.read_key() or new_key()
            state.write_key(key)
            return await store.publish(default_table(families, key_hash(key)), expect_version=0)
        except VersionConflict:
            continue  # another `up` on the same Redis was faster: take its table
        except StoreCorrupt as error:
            raise BeginningError(f"{error}, or start afresh with another --state or --redis-url") from error
        except StoreUnavailable as error:
            if time.monotonic() > last_try:
                raise BeginningError(f"Redis does not answer: {error}") from error
        await asyncio.sleep(POLL_S)


def example(table: Table, state: State) -> Example | None:
    """A request that works as printed, if the demo key is one of the table's."""
    registry, key = Registry(state.registry), state.read_key()
    tenant = tenant_of(table, key) if key else None
    if key is None or tenant is None:
        return None
    for name, domain in table.tenants[tenant].domains.items():
        with contextlib.suppress(TicketMissing, BundleError, OSError):
            return Example(key, name, example_text(registry.get(table.families[domain.family][-1].id)))
    return None
