"""One answer out of the fleet: an attempt, and at most one more elsewhere where that one fails or hangs.

Inference is idempotent, so that a second attempt is always allowed; it is made only inside the
deadline and only where another worker or ticket is predicted to make it. Where the first
worker has merely fallen silent both stay asked and the first answer wins (a hedged request:
Dean & Barroso, The Tail at Scale, CACM 2013). Choosing is the caller's, connections are
`server.link`'s.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

import msgspec
import structlog

from routing.table import Refusal, Route, Warm
from server.call import LAST_PRIORITY, Payload, part_of
from server.errors import ApiError, TicketUnavailable, WorkerLost
from server.fleet import WorkerFleet
from server.link import Suspected
from server.telemetry import GatewayMetrics
from server.tensor import TensorError
from server.tracing import watched, watched_late
from server.wire import Answer

WARM_S = 30.0
"""What a ticket gets to be loaded for nobody in particular."""

log = structlog.get_logger()


class Again(Protocol):
    """How to choose once more, for what is left of the deadline."""

    def __call__(
        self, deadline_ms: float, *, not_workers: frozenset[str] = frozenset(),
        not_tickets: frozenset[str] = frozenset(),
    ) -> Route | Refusal:  # fmt: skip
        """A route that goes to none of these, or why there is none."""


class Courier:
    """Carries payloads to workers and their answers back."""

    def __init__(self, fleet: WorkerFleet, metrics: GatewayMetrics) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._warming: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def fetch(self, payload: Payload, route: Route, ends: float, again: Again) -> tuple[Route, Answer]:
        """The answer, and the route that brought it. ``ends``: the deadline, in `time.perf_counter` seconds.

        Waits as long as it takes: the caller bounds it. Raises the ApiError of the first attempt where
        nothing else can make the deadline.
        """
        asked = time.perf_counter()
        try:
            answer = await self._ask(payload, route, (ends - asked) * 1000)
        except Suspected as suspected:
            return await self._hedge(payload, route, suspected, ends, again)
        except ApiError as error:
            if not error.retryable:
                raise
            return await self._ask_elsewhere(payload, route, error, ends, again)
        self._metrics.predicted(route.ticket, route.predicted_ms, (time.perf_counter() - asked) * 1000)
        return route, answer

    def warm(self, payload: Payload, wanted: Warm) -> None:
        """Have a ticket loaded by asking it the same, last of all that its tenant asks; nobody waits for the answer."""
        key = (wanted.ticket, wanted.worker)
        if key not in self._warming:
            try:
                payload = part_of(payload, [0])
            except TensorError:
                log.debug("not_in_rows", ticket=wanted.ticket)  # then with all of it
            last = msgspec.structs.replace(payload, priority=LAST_PRIORITY, wants_confidence=False)
            task = asyncio.create_task(self._warm(last, wanted), name=f"warm-{wanted.ticket[:12]}")
            self._warming[key] = task
            task.add_done_callback(lambda _: self._warming.pop(key))

    async def _warm(self, payload: Payload, wanted: Warm) -> None:
        link = self._fleet.link(wanted.worker)
        if link is None:
            return
        try:
            async with asyncio.timeout(WARM_S):
                await link.call(payload, wanted.ticket, WARM_S * 1000)
        except Suspected as suspected:
            suspected.give_up()
        except (ApiError, TimeoutError) as error:
            log.debug("not_warmed", ticket=wanted.ticket, worker=wanted.worker, error=str(error))

    async def _ask(self, payload: Payload, route: Route, remaining_ms: float) -> Answer:
        link = self._fleet.link(route.worker)
        if link is None:
            raise WorkerLost(f"worker {route.worker} was lost", retry_after_s=1.0)
        return await watched(route, link.call(payload, route.ticket, remaining_ms))

    async def _ask_elsewhere(
        self, payload: Payload, failed: Route, error: ApiError, ends: float, again: Again
    ) -> tuple[Route, Answer]:
        """The one retry, on another worker; a ticket that the others do not have either is stepped down from."""
        others = [worker for worker in self._fleet.snapshot().workers if worker.name != failed.worker]
        is_lost = isinstance(error, TicketUnavailable)
        if not is_lost or any(failed.ticket in worker.costs for worker in others):
            try:
                return await self._retry(
                    payload, failed, error, ends, partial(again, not_workers=frozenset((failed.worker,)))
                )
            except TicketUnavailable:
                if not is_lost:
                    raise
        return await self._retry(payload, failed, error, ends, partial(again, not_tickets=frozenset((failed.ticket,))))

    async def _retry(
        self, payload: Payload, failed: Route, error: ApiError, ends: float, again: Callable[[float], Route | Refusal]
    ) -> tuple[Route, Answer]:
        """Once more, within what is left of the deadline; ``error`` where there is no way to make it."""
        remaining_ms = (ends - time.perf_counter()) * 1000
        route = again(remaining_ms) if remaining_ms > 0 else None
        if route is None or isinstance(route, Refusal):
            raise error
        self._metrics.retries.inc()
        log.debug("retry", failed=failed.worker, code=error.code, worker=route.worker)
        return _as_promised(route, failed), await self._ask_patiently(payload, route, remaining_ms)

    async def _ask_patiently(self, payload: Payload, route: Route, remaining_ms: float) -> Answer:
        """Ask, and wait even for a worker that falls silent: there is no third attempt."""
        try:
            return await self._ask(payload, route, remaining_ms)
        except Suspected as suspected:
            return await watched_late(suspected)

    async def _hedge(
        self, payload: Payload, route: Route, suspected: Suspected, ends: float, again: Again
    ) -> tuple[Route, Answer]:
        """Ask another worker too, where one can make it; the first answer wins, the other is called off."""
        remaining_ms = (ends - time.perf_counter()) * 1000
        other = again(remaining_ms, not_workers=frozenset((route.worker,)))
        if isinstance(other, Refusal):
            return route, await watched_late(suspected)
        self._metrics.retries.inc()
        log.debug("hedge", silent=route.worker, worker=other.worker)
        return await _first(
            _routed(route, watched_late(suspected)),
            _routed(_as_promised(other, route), self._ask_patiently(payload, other, remaining_ms)),
        )


def _as_promised(route: Route, first: Route) -> Route:
    """A later route, under the deadline that was promised with the first."""
    return msgspec.structs.replace(route, deadline_ms=first.deadline_ms)


async def _routed(route: Route, answer: Coroutine[Any, Any, Answer]) -> tuple[Route, Answer]:
    return route, await answer


async def _first(*attempts: Coroutine[Any, Any, tuple[Route, Answer]]) -> tuple[Route, Answer]:
    """The first result; the error of the last where all fail. Whatever happens, none is left running."""
    tasks = {asyncio.ensure_future(attempt) for attempt in attempts}
    try:
        pending = tasks
        while True:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            answered = [task for task in done if task.exception() is None]
            if answered or not pending:
                return (answered or list(done))[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
