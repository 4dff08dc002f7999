"""Keeping: a ticket goes into the registry and into the table together, or neither, whatever dies in between.

Owns the order (journal, file, commit, journal gone), what becomes of a registration whose process died half-way, and
when the file of a ticket that nothing names any more is removed. Only tickets that came by registration are ever
removed, which a mark beside them says: what an operator has put into a registry stays. Whether a ticket may
be registered is decided before (`server.admin.registration`).
"""

import contextlib
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

import structlog

from routing.store import Store, StoreCorrupt, StoreUnavailable
from routing.table import Table
from server.admin import journal
from server.admin.journal import Entry, Journal
from server.admin.spool import on_disk
from server.errors import ControlPlaneGone
from tickets.bundle import TicketId
from tickets.files import sync_folder
from tickets.registry import Registry, TicketMissing

MARKS = ".registered"
UNSURE_S = 5.0
"""A commit whose answer was lost may still be on its way to Redis: what it was for is left alone for so long."""
GRACE_S = 24 * 3600.0
"""How long a ticket's file outlives the last table that names it: a gateway that is cut off from Redis uses its own."""

T = TypeVar("T")

log = structlog.get_logger()


class Keeper:
    """Of one registry. ``threads``: where everything that waits for the disk is done."""

    def __init__(self, store: Store, registry: Registry, threads: Executor) -> None:
        self._store = store
        self._registry = registry
        self._threads = threads

    async def keep(self, started: Journal, entry: Entry, commit: Callable[[], Awaitable[T]]) -> T:
        """Move the journal's upload into the registry and ``commit``; or, where that raises, do neither.

        After ControlPlaneGone it is not known whether the commit was made: the next sweep finds out. In every other
        case the journal is ended. Raises BundleError where the file is not ``entry.ticket`` (any more), StorageFull,
        Overloaded, and what ``commit`` raises.
        """
        try:
            async with journal.turn(self._registry.root):
                try:
                    await on_disk(self._threads, self._move, started, entry)
                    done = await commit()
                except ControlPlaneGone:
                    await on_disk(self._threads, started.postpone)
                    raise
                except BaseException:
                    with contextlib.suppress(StoreUnavailable, StoreCorrupt):
                        await self._settle(started)
                    raise
            return done
        finally:
            if started.is_ours:
                await on_disk(self._threads, started.end)

    async def sweep(self, now: float) -> bool:
        """Finish or undo what dead processes have left. ``now``: seconds since 1970.

        False where something cannot be decided yet (Redis is away, or it has only just happened): it is left to the
        next sweep. Raises OSError, Overloaded.
        """
        is_done = True
        for path in await on_disk(self._threads, journal.journals, self._registry.root):
            left = await on_disk(self._threads, Journal.claim, path)
            if left is None:
                continue  # its owner lives
            try:
                is_settled = await self._finish(left, now)
            except (StoreUnavailable, StoreCorrupt) as error:
                log.info("sweep_waits", error=str(error))
                is_settled = False
            finally:
                left.let_go()
            is_done = is_done and is_settled
            log.info("leftover", path=path.name, is_settled=is_settled)
        lost = await on_disk(self._threads, journal.sweep_parts, self._registry.root)
        if lost:
            log.info("leftover_uploads", removed=lost)
        return is_done

    async def collect(self, now: float) -> list[str]:
        """Remove the registered tickets that no kept version of the table has named for `GRACE_S`; which.

        Raises OSError, Overloaded, StoreUnavailable, StoreCorrupt.
        """
        marks = self._registry.root / MARKS
        async with journal.turn(self._registry.root):
            named = await self._named()
            if named is None:
                return []
            return await on_disk(self._threads, self._collect, marks, named, now)

    def _move(self, started: Journal, entry: Entry) -> None:
        """The upload becomes the registry's. The order is what makes a crash harmless."""
        target = self._registry.path(entry.ticket)
        entry = Entry(tenant=entry.tenant, ticket=entry.ticket, was_there=target.exists())
        started.write(entry)
        if not entry.was_there:
            mark = self._mark(entry.ticket)
            mark.parent.mkdir(mode=0o700, exist_ok=True)
            mark.touch()
            sync_folder(mark.parent)
        self._registry.adopt(started.part, TicketId(entry.ticket))

    async def _finish(self, left: Journal, now: float) -> bool:
        if await on_disk(self._threads, left.read) is None:
            await on_disk(self._threads, left.end)  # it had not touched the registry
            return True
        if now - await on_disk(self._threads, _changed_at, left.path) < UNSURE_S:
            return False
        async with journal.turn(self._registry.root):
            return await self._settle(left)

    async def _settle(self, left: Journal) -> bool:
        """Take back what a registration put into the registry, unless a table names it. To be called in turn.

        Whether that could be decided. Raises StoreUnavailable, StoreCorrupt.
        """
        entry = await on_disk(self._threads, left.read)
        if entry is not None and not entry.was_there:
            named = await self._named()
            if named is None:
                return False  # no table stands: it has been lost, perhaps, and will be brought back
            if entry.ticket not in named:
                await on_disk(self._threads, self._remove, entry.ticket)
        await on_disk(self._threads, left.end)
        return True

    async def _named(self) -> frozenset[str] | None:
        """The tickets that some kept version of the table names; None where no table stands.

        The ping makes sure that whatever had reached Redis before has been done when the table is read: a Redis that
        was stopped for a while works off what it was sent meanwhile in any order.
        """
        await self._store.ping()
        current = await self._store.load_table()
        if current is None:
            return None
        named = _tickets(current)
        for version in await self._store.versions():
            earlier = await self._store.load_table(version) if version != current.version else None
            named |= _tickets(earlier) if earlier is not None else set()
        return frozenset(named)

    def _collect(self, marks: Path, named: frozenset[str], now: float) -> list[str]:
        gone = []
        for mark in sorted(marks.glob("*")):
            if mark.name in named:
                os.utime(mark, (now, now))
            elif now - _changed_at(mark) >= GRACE_S:
                self._remove(mark.name)
                gone.append(mark.name)
        return gone

    def _remove(self, ticket: str) -> None:
        """The file, then its mark: one without the other is collected later."""
        with contextlib.suppress(TicketMissing):
            self._registry.remove(ticket)
        self._mark(ticket).unlink(missing_ok=True)

    def _mark(self, ticket: str) -> Path:
        return self._registry.root / MARKS / ticket


def _tickets(table: Table) -> set[str]:
    return {ticket.id for family in table.families.values() for ticket in family}


def _changed_at(path: Path) -> float:
    """When a file was last written, in seconds since 1970; now and for ever where it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
