"""Canaries: this gateway's part in the trials that the table names - who is tried, what became of it, who compares.

Owns how an ask is tried. A canary answers the asks drawn for it, and the current ticket stands by: it is asked where
the canary fails, and early enough where it is slow. A shadow is asked beside the current ticket, and nobody sees its
answer. What callers do not wait for goes last of all that the tenant asks, and is bounded. Counts and caution are kept
by `server.trial_state`; which ticket answers otherwise is `routing.decide`'s, what counts prove `routing.verdict`'s,
what is done about it `server.overseer`'s.
"""

import asyncio
import math
import time
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec
import structlog

from routing.canary import Counts, Trial, is_drawn
from routing.table import Ask, Canary, Refusal, Route, Table
from server.call import LAST_PRIORITY, Payload
from server.cascade import Choose
from server.comparison import agreement, confidence_shift
from server.errors import ApiError, DeadlineExceeded, WorkerLost
from server.fleet import WorkerFleet
from server.retry import Again, Courier
from server.trial_state import Running
from server.wire import Answer

BESIDE_S = 8.0
"""What an ask that nobody waits for may take: longer than `tombola up` needs to find a stuck worker."""
GRACE_S = 1.0
"""An answer that does not come so long after its deadline is taken to have hung its worker."""
LOST_PAUSE_S, STUCK_PAUSE_S = 2.0, 8.0
"""How long a canary is left alone that has cost a worker, doubled each time: the worker must be back before it is
tried on the next one."""
LOAD_EVERY_S = 1.0
SHOWN_DIGITS = 12

T = TypeVar("T")

Found = tuple[Route, Answer]

log = structlog.get_logger()


class Canaries:
    """One gateway's. Nothing of it is on the way of asks that no trial is about."""

    def __init__(self, courier: Courier, fleet: WorkerFleet, choose: Choose) -> None:
        self._courier = courier
        self._fleet = fleet
        self._choose = choose
        self._running: dict[tuple[str, str], Running] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def use(self, table: Table) -> None:
        """Run the trials of ``table``; those that ran already keep their counts."""
        running = {}
        for where, canary in table.canaries.items():
            trial = Trial(tenant=where[0], domain=where[1], ticket=canary.ticket, started_at=canary.started_at)
            known = self._running.get(where)
            running[where] = known if known is not None and known.trial == trial else Running(trial, canary)
            running[where].canary = canary
        self._running = running

    def counts(self) -> Mapping[Trial, Counts]:
        """All that this gateway has counted of the trials that run."""
        return {running.trial: running.counts for running in self._running.values()}

    def find(self, ask: Ask, route: Route) -> Running | None:
        """The trial that an ask is part of, drawn or not: one that the current ticket would answer alone."""
        running = self._running.get((ask.tenant, ask.domain))
        if running is None or ask.version is not None or route.cascade is not None:
            return None
        return running if route.ticket == running.canary.current else None

    @property
    def waiting(self) -> int:
        """How many tasks go on now that outlive their request, or may."""
        return len(self._tasks)

    async def close(self) -> None:
        """End whatever nobody waits for."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def answer(
        self, running: Running, payload: Payload, ask: Ask, route: Route, ends: float, again: Again
    ) -> Found:
        """As `Courier.fetch` does by ``route``, or by way of the canary."""
        running.number += 1
        if not is_drawn(running.number, running.canary.share):
            return await self._current(running, self._courier.fetch(payload, route, ends, again), ends)
        payload = msgspec.structs.replace(payload, wants_confidence=True)
        current = partial(self._courier.fetch, payload, route, ends, again)
        if running.canary.mode == "shadow":
            found = await self._current(running, current(), ends)
            if running.may_ask_beside(time.perf_counter()):
                self._beside(running, self._shadow(running, running.number, payload, ask, found))
            else:
                running.skipped()
            return found
        chosen = self._chosen(running, payload, ask, (ends - time.perf_counter()) * 1000)
        if chosen is None:
            return await current()
        return await self._try(running, payload, ask, route, _as_canary(chosen, route, running.canary), ends, again)

    async def _current(self, running: Running, fetch: Coroutine[Any, Any, Found], ends: float) -> Found:
        """What the current ticket answers, counted."""
        try:
            found = await fetch
        except ApiError as error:
            is_late = isinstance(error, DeadlineExceeded)
            running.saw_current(is_error=not is_late, is_late=is_late)
            raise
        except asyncio.CancelledError:
            if time.perf_counter() >= ends:  # else the caller has gone
                running.saw_current(is_late=True)
            raise
        running.saw_current(is_late=time.perf_counter() > ends)
        return found

    def _chosen(self, running: Running, payload: Payload, ask: Ask, left_ms: float) -> Route | None:
        """How the canary would be asked; None where it should not be now."""
        now, ticket = time.perf_counter(), running.canary.ticket
        if not running.may_be_tried(now):
            running.skipped()
            return None
        chosen = self._choose(msgspec.structs.replace(ask, version=ticket, skip=0), left_ms)
        holders = {worker.name for worker in self._fleet.snapshot().workers if ticket in worker.costs}
        if isinstance(chosen, Route) and chosen.worker in holders:
            return chosen
        if isinstance(chosen, Refusal) and chosen.code == "overloaded" and holders:
            running.saw_canary(is_late=True)  # the current ticket is predicted to make it, the canary is not
            return None
        running.skipped()
        if isinstance(chosen, Route) and now - running.loaded_at >= LOAD_EVERY_S and running.may_ask_beside(now):
            running.loaded_at = now
            self._beside(running, self._ask_beside(running, payload, chosen))  # one that cannot be loaded fails
        return None

    async def _try(
        self, running: Running, payload: Payload, ask: Ask, route: Route, chosen: Route, ends: float, again: Again
    ) -> Found:
        """The canary's answer, or the current ticket's where there is none in time for that to stand by."""
        left_s = ends - time.perf_counter()
        running.pending[running.number] = ends  # at once: others may be tried before the task begins
        attempt = self._start(self._attempt(running, running.number, payload, chosen, ends))
        await asyncio.wait({attempt}, timeout=max(0.0, left_s - max(2 * route.predicted_ms / 1000, left_s / 4)))
        if attempt.done() and (found := attempt.result()) is not None:
            if running.may_ask_beside(time.perf_counter()):
                self._beside(running, self._compare(running, payload, ask, found[1]))
            return found
        standing_by = asyncio.ensure_future(self._stand_by(payload, ask, route, chosen.worker, ends, again))
        try:
            await asyncio.wait({attempt, standing_by}, return_when=asyncio.FIRST_COMPLETED)
            if not standing_by.done() and (found := attempt.result()) is not None:
                return found
            try:
                return await standing_by
            except ApiError:
                found = await asyncio.shield(attempt)
                if found is None:
                    raise
                return found
        finally:
            standing_by.cancel()
            await asyncio.gather(standing_by, return_exceptions=True)

    async def _stand_by(
        self, payload: Payload, ask: Ask, route: Route, worker: str, ends: float, again: Again
    ) -> Found:
        """Without the canary, and rather not on the worker that it was asked on."""
        payload = msgspec.structs.replace(payload, wants_confidence=False)
        left_ms = (ends - time.perf_counter()) * 1000
        for avoided in (frozenset((worker,)), frozenset[str]()):
            other = self._choose(ask, left_ms, not_workers=avoided)
            if isinstance(other, Route) and other.cascade is None:
                promised = msgspec.structs.replace(other, deadline_ms=route.deadline_ms)
                return await self._courier.fetch(payload, promised, ends, again)
        return await self._courier.fetch(payload, route, ends, again)

    async def _attempt(
        self, running: Running, number: int, payload: Payload, chosen: Route, ends: float
    ) -> Found | None:
        """The canary's answer, counted whatever it is; None where there is none."""
        try:
            async with asyncio.timeout(max(0.0, ends - time.perf_counter()) + GRACE_S):
                found = await self._courier.fetch(payload, chosen, ends, _nowhere_else)
        except TimeoutError:
            running.saw_canary(is_late=True)
            running.harmed(STUCK_PAUSE_S, time.perf_counter())
        except ApiError as error:
            is_late = isinstance(error, DeadlineExceeded)
            running.saw_canary(is_error=not is_late, is_late=is_late)
            self._look_after(running, error)
        else:
            is_late = time.perf_counter() > ends
            running.saw_canary(is_late=is_late)
            return None if is_late else found
        finally:
            del running.pending[number]
        return None

    async def _shadow(self, running: Running, number: int, payload: Payload, ask: Ask, found: Found) -> None:
        """Ask the canary the same, and compare. It counts as late where it would have been in the other's place."""
        deadline_ms, current = found[0].deadline_ms, found[1]
        chosen = self._chosen(running, payload, ask, deadline_ms)
        if chosen is None:
            return
        running.pending[number] = math.inf
        try:
            answer = await self._ask_beside(running, payload, chosen)
        finally:
            del running.pending[number]
        if answer is not None:
            running.saw_canary(is_late=current.queue_ms + answer.run_ms > deadline_ms)
            _note(running, answer, current)

    async def _compare(self, running: Running, payload: Payload, ask: Ask, answer: Answer) -> None:
        """Ask the current ticket what the canary has answered already."""
        pinned = msgspec.structs.replace(ask, version=running.canary.current, skip=0)
        route = self._choose(pinned, BESIDE_S * 1000)
        if isinstance(route, Refusal):
            return
        last = msgspec.structs.replace(payload, priority=LAST_PRIORITY)
        try:
            async with asyncio.timeout(BESIDE_S):
                _, other = await self._courier.fetch(last, route, time.perf_counter() + BESIDE_S, _nowhere_else)
        except (ApiError, TimeoutError) as error:
            log.debug("not_compared", ticket=running.canary.current, error=str(error))
            return
        _note(running, answer, other)

    async def _ask_beside(self, running: Running, payload: Payload, chosen: Route) -> Answer | None:
        """The canary's answer to an ask that nobody waits for; its errors count, what others cause does not."""
        last = msgspec.structs.replace(payload, priority=LAST_PRIORITY)
        try:
            async with asyncio.timeout(BESIDE_S):
                _, answer = await self._courier.fetch(last, chosen, time.perf_counter() + BESIDE_S, _nowhere_else)
        except TimeoutError:
            running.skipped()
            running.harmed(STUCK_PAUSE_S, time.perf_counter())
        except ApiError as error:
            if error.code in ("overloaded", "deadline_exceeded", "no_worker", "not_ready"):
                running.skipped()
            else:
                running.saw_canary(is_error=True)
                self._look_after(running, error)
        else:
            return answer
        return None

    def _look_after(self, running: Running, error: ApiError) -> None:
        log.debug("canary_failed", ticket=running.canary.ticket, code=error.code, error=error.message)
        if isinstance(error, WorkerLost):
            running.harmed(LOST_PAUSE_S, time.perf_counter())

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Something that goes on though its caller may leave; it ends by itself, or with `close`."""
        task = asyncio.create_task(work, name="canary")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _beside(self, running: Running, work: Coroutine[Any, Any, object]) -> None:
        """Something that nobody waits for, in the place that has been taken for it."""

        def ended(task: asyncio.Task[object]) -> None:
            running.beside -= 1
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("canary_task_failed", ticket=running.canary.ticket, exc_info=error)

        self._start(work).add_done_callback(ended)


def _note(running: Running, canary: Answer, current: Answer) -> None:
    """Count how far two answers to the same ask agree."""
    same = agreement(canary.outputs, current.outputs)
    running.counts = running.counts.compared(same, confidence_shift(canary, current))


def _as_canary(chosen: Route, route: Route, canary: Canary) -> Route:
    """The canary's route under what was promised with the other's, saying what it is."""
    tried = f"tried on {canary.share:.0%} of the asks that {canary.current[:SHOWN_DIGITS]} would answer"
    return msgspec.structs.replace(
        chosen, tier=route.tier, deadline_ms=route.deadline_ms, step=route.step,
        because=f"canary {canary.ticket[:SHOWN_DIGITS]}, {tried}", reason="canary",
    )  # fmt: skip


def _nowhere_else(
    deadline_ms: float, *, not_workers: frozenset[str] = frozenset(), not_tickets: frozenset[str] = frozenset()
) -> Refusal:
    """A canary is not asked once more elsewhere: what it has done to one worker it would do to the next."""
    return Refusal(code="no_worker", message="a canary is asked once")
