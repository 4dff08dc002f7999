"""A ticket goes into the registry and the table together or not at all; what dead owners leave is settled.

A dead owner is made as a kill makes one: its journal stands, and nobody holds the lock on it.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from routing.store import Store
from routing.table import FamilyTicket, Table
from server.admin import journal
from server.admin.journal import Entry, Journal
from server.admin.keeping import GRACE_S, MARKS, UNSURE_S, Keeper
from server.errors import Conflict, ControlPlaneGone
from tests.tiny import tiny_bundle
from tickets.bundle import BundleError, ticket_id
from tickets.registry import Registry

DATA = tiny_bundle()
TICKET = ticket_id(DATA)
OTHER = "e" * 64
ENTRY = Entry(tenant="acme", ticket=TICKET, was_there=False)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest_asyncio.fixture
async def keeper(store: Store, registry: Registry) -> AsyncIterator[Keeper]:
    with ThreadPoolExecutor(2) as threads:
        yield Keeper(store, registry, threads)


def naming(*tickets: str) -> Table:
    """A table whose one family holds these tickets."""
    rows = [FamilyTicket(id=one, tier="fast", quality=0.9, service_ms=1.0) for one in tickets]
    return Table(families={"home": rows})


def begun(registry: Registry, data: bytes = DATA) -> Journal:
    """A registration whose upload has arrived."""
    started = Journal.begin(registry.root)
    started.part.write_bytes(data)
    return started


def died(registry: Registry, *, moved: bool, was_there: bool = False, ago_s: float = 2 * UNSURE_S) -> None:
    """What a process leaves that is killed after it has written its journal."""
    started = begun(registry)
    started.write(Entry(tenant="acme", ticket=TICKET, was_there=was_there))
    if moved:
        mark = registry.root / MARKS / TICKET
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
        registry.adopt(started.part, TICKET)
    started.let_go()
    os.utime(started.path, (time.time() - ago_s, time.time() - ago_s))


def incoming(registry: Registry) -> list[str]:
    return [path.name for path in (registry.root / journal.FOLDER).iterdir() if path.name != ".lock"]


def is_held(registry: Registry) -> bool:
    return TICKET in registry.ids()


async def test_it_stands_in_the_registry_when_the_commit_is_made(keeper: Keeper, registry: Registry) -> None:
    seen = []

    async def commit() -> str:
        seen.append(registry.get(TICKET).id)
        return "done"

    assert await keeper.keep(begun(registry), ENTRY, commit) == "done"
    assert seen == [TICKET]
    assert incoming(registry) == []


async def test_a_commit_that_fails_takes_the_file_away_again(keeper: Keeper, registry: Registry, store: Store) -> None:
    await store.publish(naming(OTHER))

    async def commit() -> None:
        raise Conflict("somebody was quicker")

    with pytest.raises(Conflict):
        await keeper.keep(begun(registry), ENTRY, commit)
    assert not is_held(registry)
    assert incoming(registry) == []
    assert list((registry.root / MARKS).iterdir()) == []


async def test_a_commit_that_fails_leaves_what_was_there_before(
    keeper: Keeper, registry: Registry, store: Store
) -> None:
    await store.publish(naming(OTHER))
    registry.put(DATA)

    async def commit() -> None:
        raise Conflict("somebody was quicker")

    with pytest.raises(Conflict):
        await keeper.keep(begun(registry), ENTRY, commit)
    assert is_held(registry)


async def test_a_commit_whose_answer_was_lost_is_left_to_a_later_sweep(
    keeper: Keeper, registry: Registry, store: Store
) -> None:
    """Whether it has been made is not known, so neither is the file's fate."""

    async def commit() -> None:
        raise ControlPlaneGone("no answer")

    await store.publish(naming(OTHER))
    with pytest.raises(ControlPlaneGone):
        await keeper.keep(begun(registry), ENTRY, commit)
    assert is_held(registry)
    assert await keeper.sweep(time.time()) is False
    assert is_held(registry)
    assert await keeper.sweep(time.time() + 2 * UNSURE_S) is True
    assert not is_held(registry)
    assert incoming(registry) == []


async def test_a_lost_answer_of_a_commit_that_was_made_keeps_the_ticket(
    keeper: Keeper, registry: Registry, store: Store
) -> None:
    async def commit() -> None:
        await store.publish(naming(TICKET))
        raise ControlPlaneGone("no answer")

    with pytest.raises(ControlPlaneGone):
        await keeper.keep(begun(registry), ENTRY, commit)
    assert await keeper.sweep(time.time() + 2 * UNSURE_S) is True
    assert is_held(registry)


async def test_a_file_that_is_not_what_was_examined_is_not_taken(
    keeper: Keeper, registry: Registry, store: Store
) -> None:
    await store.publish(naming(OTHER))
    commits = []

    async def commit() -> None:
        commits.append(1)

    with pytest.raises(BundleError, match="is ticket"):
        await keeper.keep(begun(registry, DATA + b"x"), ENTRY, commit)
    assert commits == []
    assert registry.ids() == []
    assert incoming(registry) == []


@pytest.mark.parametrize(
    ("table", "moved", "was_there", "is_kept"),
    [
        ((TICKET,), True, False, True),  # killed after the commit
        ((OTHER,), True, False, False),  # killed before it
        ((OTHER,), True, True, True),  # killed before it, and the file was another's already
        ((OTHER,), False, False, False),  # killed before the move
    ],
)
async def test_what_a_killed_process_left_is_finished_or_undone(
    keeper: Keeper, registry: Registry, store: Store, table: tuple[str, ...], moved: bool, was_there: bool,
    is_kept: bool,
) -> None:  # fmt: skip
    await store.publish(naming(*table))
    died(registry, moved=moved, was_there=was_there)
    assert await keeper.sweep(time.time()) is True
    assert is_held(registry) is is_kept
    assert incoming(registry) == []


async def test_an_earlier_version_of_the_table_keeps_a_ticket_too(
    keeper: Keeper, registry: Registry, store: Store
) -> None:
    """It may be restored."""
    await store.publish(naming(TICKET))
    await store.publish(naming(OTHER))
    died(registry, moved=True)
    assert await keeper.sweep(time.time()) is True
    assert is_held(registry)


async def test_nothing_is_decided_where_no_table_stands(keeper: Keeper, registry: Registry) -> None:
    """Redis may have lost it, and somebody may bring it back."""
    died(registry, moved=True)
    assert await keeper.sweep(time.time()) is False
    assert is_held(registry)
    assert len(incoming(registry)) == 1


async def test_nothing_is_decided_while_redis_is_away(registry: Registry) -> None:
    store = Store.connect("unix:///nonexistent/redis")
    with ThreadPoolExecutor(1) as threads:
        died(registry, moved=True)
        assert await Keeper(store, registry, threads).sweep(time.time()) is False
    await store.close()
    assert is_held(registry)


async def test_an_upload_that_never_ended_goes_at_once(keeper: Keeper, registry: Registry) -> None:
    begun(registry).let_go()
    assert await keeper.sweep(time.time()) is True
    assert incoming(registry) == []


async def test_a_living_owner_is_left_alone(keeper: Keeper, registry: Registry, store: Store) -> None:
    await store.publish(naming(OTHER))
    living = begun(registry)
    living.write(ENTRY)
    assert await keeper.sweep(time.time() + GRACE_S) is True
    assert living.part.read_bytes() == DATA
    living.end()


async def test_a_journal_that_was_torn_had_moved_nothing(keeper: Keeper, registry: Registry) -> None:
    started = begun(registry)
    started.write(ENTRY)
    started.let_go()
    started.path.write_bytes(started.path.read_bytes()[:-5])
    assert await keeper.sweep(time.time()) is True
    assert incoming(registry) == []


async def test_a_retired_ticket_is_removed_once_nothing_has_named_it_for_a_day(
    keeper: Keeper, registry: Registry, store: Store
) -> None:
    async def commit() -> None:
        await store.publish(naming(TICKET))

    await keeper.keep(begun(registry), ENTRY, commit)
    placed_by_hand = registry.put(tiny_bundle("accurate"))
    now = time.time()
    assert await keeper.collect(now + 2 * GRACE_S) == []  # it is named
    for _ in range(25):  # so many versions that none of those that are kept names it
        await store.publish(naming(OTHER))
    assert await keeper.collect(now + 2.5 * GRACE_S) == []  # named half a day before
    assert await keeper.collect(now + 3.5 * GRACE_S) == [TICKET]
    assert registry.ids() == [placed_by_hand]


async def test_a_lost_table_collects_nothing(keeper: Keeper, registry: Registry, store: Store) -> None:
    async def commit() -> None:
        return None

    await keeper.keep(begun(registry), ENTRY, commit)
    assert await keeper.collect(time.time() + 10 * GRACE_S) == []
    assert is_held(registry)


async def test_one_after_the_other_changes_what_a_registry_holds(registry: Registry) -> None:
    inside = 0

    async def one() -> None:
        nonlocal inside
        async with journal.turn(registry.root):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(one() for _ in range(8)))


async def test_a_damaged_file_in_the_registry_is_replaced_by_the_sound_one(keeper: Keeper, registry: Registry) -> None:
    registry.path(TICKET).write_bytes(b"damaged")

    async def commit() -> None:
        return None

    await keeper.keep(begun(registry), ENTRY, commit)
    assert registry.get(TICKET).id == TICKET
