"""Preloading: which tickets a worker loads before anybody asks for them.

Owns the choice: everything where everything fits; else those that prefer this worker by
`routing.placement`, by which gateways send, too. What is asked for meanwhile goes first. Loading is
`server.sessions`'.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog

from routing.placement import ranked
from server.sessions import Sessions
from tickets.bundle import TicketId
from tickets.registry import Registry

RANKS = 2
"""Where not everything fits, so many workers load a ticket: the one that it prefers, and its stand-in."""
MEMORY_PER_BYTE = 1.5
"""What a bundle takes in memory, roughly; what it really takes is known once it is loaded."""

log = structlog.get_logger()


async def preload(
    sessions: Sessions,
    registry: Registry,
    name: str,
    memory_bytes: int,
    fellows: Callable[[], Coroutine[Any, Any, Sequence[str]]],
) -> None:
    """Load tickets one after another while they fit. ``fellows`` finds the live workers, this one among them."""
    sizes = await asyncio.to_thread(_sizes, registry)
    tickets = list(sizes)
    if sum(sizes.values()) * MEMORY_PER_BYTE > memory_bytes:
        tickets = placed(sizes, name, await fellows())
        log.info("preloading_some", tickets=len(tickets), of=len(sizes))
    loop = asyncio.get_running_loop()
    loaded = asyncio.Event()

    def done(_: str | None) -> None:  # on the loader thread, which has logged what went wrong
        loop.call_soon_threadsafe(loaded.set)

    for ticket in tickets:
        with contextlib.suppress(OSError):  # removed meanwhile
            if sessions.fits(ticket):
                loaded.clear()
                sessions.load(ticket, done, urgent=False)
                await loaded.wait()


def placed(sizes: Mapping[TicketId, int], name: str, workers: Sequence[str]) -> list[TicketId]:
    """Of the tickets, those that rank this worker among their first, with the most wanted first."""
    ranks = {ticket: ranked(ticket, workers).index(name) for ticket in sizes}
    return sorted((ticket for ticket in sizes if ranks[ticket] < RANKS), key=lambda ticket: (ranks[ticket], ticket))


def _sizes(registry: Registry) -> dict[TicketId, int]:
    found: dict[TicketId, int] = {}
    for ticket in registry.ids():
        with contextlib.suppress(OSError):
            found[ticket] = registry.path(ticket).stat().st_size
    return found
