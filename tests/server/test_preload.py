"""Preloading: everything where it fits, else what would rather live here; nobody who asks waits for it."""

import asyncio
from collections.abc import Sequence

import pytest

from routing.placement import ranked
from server.memory import heap_bytes
from server.opening import MIN_BYTES
from server.preload import RANKS, placed, preload
from server.sessions import Sessions
from server.worker_metrics import WorkerMetrics
from tests.server.conftest import CPU
from tests.tiny import tiny_bundle
from tickets.bundle import TicketId
from tickets.registry import Registry

TICKETS = {TicketId(f"{i:064x}"): 100 for i in range(300)}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_ticket_is_loaded_by_as_many_workers_as_there_are_ranks(count: int) -> None:
    workers = [f"worker-{i}" for i in range(count)]
    chosen = [ticket for worker in workers for ticket in placed(TICKETS, worker, workers)]
    assert {ticket: chosen.count(ticket) for ticket in TICKETS} == dict.fromkeys(TICKETS, min(RANKS, count))


def test_those_that_prefer_this_worker_come_first() -> None:
    workers = ["a", "b", "c"]
    own = placed(TICKETS, "a", workers)
    ranks = [ranked(ticket, workers).index("a") for ticket in own]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1}


async def nobody_else() -> Sequence[str]:
    raise AssertionError("where everything fits, nobody asks who else is there")


async def test_everything_is_loaded_where_everything_fits(registry: Registry, worker_metrics: WorkerMetrics) -> None:
    tickets = sorted(registry.put(tiny_bundle(scale=1.0 + i)) for i in range(3))
    sessions = Sessions(registry, worker_metrics, memory_bytes=1 << 30, providers=CPU, heap=heap_bytes)
    await preload(sessions, registry, "a", 1 << 30, nobody_else)
    assert sessions.holds() == tickets
    await asyncio.to_thread(sessions.close)


async def test_where_not_everything_fits_only_its_own_are_loaded_and_no_more_than_fit(
    registry: Registry, worker_metrics: WorkerMetrics
) -> None:
    tickets = [registry.put(tiny_bundle(scale=1.0 + i)) for i in range(12)]
    workers = [f"worker-{i}" for i in range(3)]
    own = placed(dict.fromkeys(tickets, 1), workers[0], workers)
    assert 1 < len(own) < len(tickets)

    async def fellows() -> Sequence[str]:
        return workers

    size = sum(registry.path(ticket).stat().st_size for ticket in tickets)
    for room, expected in ((len(own), own), (1, own[:1])):
        sessions = Sessions(registry, worker_metrics, memory_bytes=room * MIN_BYTES, providers=CPU, heap=lambda: 0)
        await preload(sessions, registry, workers[0], size, fellows)
        assert sessions.holds() == sorted(expected)
        await asyncio.to_thread(sessions.close)
