"""What an installation begins with: its table, and an example that works.

Owns the first publication (the starter tickets, a demo tenant, its key), the first operator's key, what is done
about a Redis that has lost everything, and the finding of a request that the running installation answers. The
starter tickets are `server.starter`'s, the state directory `server.state`'s, the processes `server.up`'s.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from routing.access import key_of, make_key
from routing.account import OPERATOR, Account
from routing.actor import shell_actor
from routing.change import Change
from routing.event import Event
from routing.keys import key_hash, new_key, tenant_of
from routing.redis.recovery import PATTERN, Kept, RecoveryError, newest, recover
from routing.store import Store, StoreCorrupt, StoreUnavailable, VersionConflict
from routing.table import FamilyTicket, Table
from server.ready import POLL_S
from server.starter import Entry, StarterError, default_table, example_text, fill, packaged
from server.state import State, read_key, write_key
from tickets.bundle import BundleError
from tickets.registry import Registry, TicketMissing

log = structlog.get_logger()


class BeginningError(Exception):
    """There is no table to begin with; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Example:
    """A request that the running installation answers."""

    key: str
    domain: str
    text: str


async def first_table(redis_url: str, state: State, *, starter: Path | None, is_empty: bool, within_s: float) -> Table:
    """The table in Redis; when there is none, the default one, published. Sees to it that an operator has a key.

    ``starter`` None: the tickets in the package. Waits ``within_s`` for Redis. Raises BeginningError.
    """
    try:
        store = Store.connect(redis_url)
    except ValueError as error:
        raise BeginningError(f"--redis-url: {error}") from error
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
            await store.prepare()
            table, accounts = await store.load_table(), await store.load_accounts()
            if table is None and not accounts and (kept := _kept(state)) is not None:
                table = (await recover(store, kept)).table
                log.warning("table_recovered", version=table.version if table is not None else None)
                continue
            change = Change(
                event=Event(action="installation.begin", actor=shell_actor(), subject=state.root.name),
                table=_first(families, state, is_empty) if table is None else None,
                accounts=() if OPERATOR in accounts else (_operator(state),),
            )
            if change.table is None and not change.accounts:
                assert table is not None
                return table
            committed = await store.commit(change)
            return committed.table or table or Table()
        except VersionConflict:
            continue  # another `up` on the same Redis was faster: take what it has made
        except StoreCorrupt as error:
            raise BeginningError(f"{error}, or start afresh with another --state or --redis-url") from error
        except StoreUnavailable as error:
            if time.monotonic() > last_try:
                raise BeginningError(f"Redis does not answer: {error}") from error
        await asyncio.sleep(POLL_S)


def _kept(state: State) -> Kept | None:
    """What this installation's gateways kept, where they ever served anything: Redis has lost it then."""
    if not any(state.root.glob(PATTERN)):
        return None
    try:
        _, kept, _ = newest(state.root)
    except RecoveryError as error:
        raise BeginningError(
            f"Redis is empty, though this installation has served before, and {error}\n"
            f"Remove those files to begin anew, or choose another --state"
        ) from error
    return kept


def _first(families: Mapping[str, Sequence[tuple[Entry, FamilyTicket]]], state: State, is_empty: bool) -> Table:
    """The table of a fresh installation, whose demo tenant's key is on disk before it is published."""
    if is_empty:
        return Table()
    key = read_key(state.key_file) or new_key()
    write_key(state.key_file, key)
    return default_table(families, key_hash(key))


def _operator(state: State) -> Account:
    """The operators' account, with one key, which is on disk before it is known."""
    now = time.time()
    key = read_key(state.operator_key_file)
    if key is None:
        key, kept = make_key("admin", now, label="made by tombola up")
        write_key(state.operator_key_file, key)
    else:
        kept = key_of("admin", key, now, label="found by tombola up")
    return Account(name=OPERATOR, keys=[kept], created_at=now)


def example(table: Table, state: State) -> Example | None:
    """A request that works as printed, if the demo key is one of the table's."""
    registry, key = Registry(state.registry), read_key(state.key_file)
    tenant = tenant_of(table, key) if key else None
    if key is None or tenant is None:
        return None
    for name, domain in table.tenants[tenant].domains.items():
        with contextlib.suppress(TicketMissing, BundleError, OSError):
            return Example(key, name, example_text(registry.get(table.families[domain.family][-1].id)))
    return None
