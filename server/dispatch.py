"""What happens to a request between HTTP and a worker. Read this file first.

`Dispatcher.infer` admits it, starts its deadline, lets the `routing.ladder` pick ticket and worker
from two frozen snapshots, sends it by its `Courier` (which tries once elsewhere), asks a second
ticket where the domain has a cascade and the first was not sure, and accounts for it. Asks that a
trial is about go by way of `server.trial`. Whatever happens, it ends in exactly one Reply or
ApiError within its deadline. It knows neither HTTP nor what a ticket computes.
"""

import asyncio
import time
from functools import partial

import msgspec
import structlog

from routing.ladder import Ladder
from routing.table import Ask, Refusal, Route, Table
from server.call import Call, Reply, payload_of
from server.cascade import SecondAsk
from server.deadlines import Deadlines
from server.errors import BY_CODE, ApiError, DeadlineExceeded, NotReady, Overloaded, RateLimited
from server.fleet import WorkerFleet
from server.retry import Courier
from server.standin import StandIns
from server.telemetry import CANCELLED, GatewayMetrics
from server.trial import Canaries
from server.wire import Share, Shares

LONG_MS = 1000.0
_LEARNING_RATE = 0.02

log = structlog.get_logger()


class Dispatcher:
    """Owns the table in use and the number of requests in flight."""

    def __init__(self, fleet: WorkerFleet, metrics: GatewayMetrics, *, max_in_flight: int = 1024) -> None:
        self.table: Table | None = None
        self.in_flight = 0
        self.usual_deadline_ms = LONG_MS
        """What callers lately allowed, on average; above LONG_MS nobody is in a hurry."""
        self._fleet = fleet
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._deadlines = Deadlines()
        self._ladder = Ladder()
        self._courier = Courier(fleet, metrics)
        self._second = SecondAsk(self._courier, metrics, self._choose_again)
        self.canaries = Canaries(self._courier, fleet, self._choose_again)
        """The trials that the table names, and what this gateway has counted of them."""
        self._stand_ins = StandIns()
        self._service_ms: dict[str, float] = {}
        metrics.in_flight.set_function(lambda: self.in_flight)
        metrics.in_flight_limit.set(max_in_flight)
        metrics.ladder = lambda: (self._ladder.ups, self._ladder.downs, len(self._ladder))
        metrics.control.canaries = self.canaries.counts
        metrics.workers.set_function(lambda: fleet.linked)

    def replace(self, table: Table) -> None:
        """Use ``table`` for every request from now on; those in flight end under the one they began with."""
        self._service_ms = {ticket.id: ticket.service_ms for family in table.families.values() for ticket in family}
        self._stand_ins.use(self.table, table, time.perf_counter())
        self.table = table
        self.canaries.use(table)
        self._fleet.share(_shares(table))
        self._metrics.use_table(table)

    async def close(self) -> None:
        """End what goes on beside requests. Call it when none is in flight any more."""
        await self.canaries.close()

    async def infer(self, call: Call) -> Reply:
        """Answer ``call`` within its deadline, or raise the ApiError that says why not."""
        reply: Reply | None = None
        outcome = "internal"
        error: ApiError | None = None
        self.in_flight += 1
        try:
            if self.in_flight > self._max_in_flight:
                raise Overloaded(f"{self._max_in_flight} requests are in flight already", retry_after_s=1.0)
            reply = await self._answer(call)
            return reply
        except ApiError as raised:
            error, outcome = raised, raised.code
            raise
        except asyncio.CancelledError:
            outcome = CANCELLED
            raise
        finally:
            self.in_flight -= 1
            if reply is not None:
                self._account(call, reply)
            else:
                self._account_for_none(call.tenant, call.domain, call.tier or "", call.arrived, outcome, error)

    def reject(self, error: ApiError, *, tenant: str, arrived: float) -> None:
        """Account for a request that was refused before it became a call."""
        if isinstance(error, RateLimited):
            self._metrics.control.limited(tenant, error.limit)
        self._account_for_none(tenant, "", "", arrived, error.code, error)

    async def _answer(self, call: Call) -> Reply:
        if call.deadline_ms is not None and call.deadline_ms <= 0:
            raise DeadlineExceeded("the deadline had passed when the request arrived; nothing was run")
        if self.table is None:
            raise NotReady("no routing table has been published yet", retry_after_s=1.0)
        payload = payload_of(call, self._service_ms)
        ask = Ask(
            tenant=call.tenant, domain=call.domain, tier=call.tier, version=call.version, deadline_ms=call.deadline_ms,
            rows=payload.rows, row_bytes=payload.row_bytes,
        )  # fmt: skip
        began = time.perf_counter()
        route = self._ladder.choose(ask, self.table, self._fleet.snapshot(), began)
        if isinstance(route, Refusal):
            raise BY_CODE[route.code](route.message, retry_after_s=route.retry_after_s)
        route = self._stand_ins.find(ask, route, self._choose, began) or route
        self.usual_deadline_ms += _LEARNING_RATE * (min(route.deadline_ms, LONG_MS) - self.usual_deadline_ms)
        if route.warm is not None:
            self._courier.warm(payload, route.warm)
        if route.cascade is not None:
            payload = msgspec.structs.replace(payload, wants_confidence=True)
        ends = call.arrived + route.deadline_ms / 1000
        predicted_ms = (began - call.arrived) * 1000 + route.predicted_ms
        admission_ms = call.elapsed_ms()
        try:
            with self._deadlines.within(ends - began):
                again, trial = partial(self._choose_again, ask), self.canaries.find(ask, route)
                if trial is None:
                    route, answer = await self._courier.fetch(payload, route, ends, again)
                else:
                    route, answer = await self.canaries.answer(trial, payload, ask, route, ends, again)
                reply = Reply(
                    outputs=answer.outputs, ticket=route.ticket, tier=route.tier, because=route.because,
                    queue_ms=answer.queue_ms, run_ms=answer.run_ms, total_ms=call.elapsed_ms(),
                    deadline_ms=route.deadline_ms, predicted_ms=predicted_ms, step=route.step,
                    admission_ms=admission_ms, tokenize_ms=answer.tokenize_ms, reason=route.reason,
                )  # fmt: skip
                if route.cascade is not None:
                    reply = await self._second.improve(call, payload, ask, route.cascade, reply, answer.confidence)
                return reply
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer within {route.deadline_ms:g} ms (tier {route.tier})") from error

    def _choose_again(
        self, ask: Ask, deadline_ms: float, *, not_workers: frozenset[str] = frozenset(),
        not_tickets: frozenset[str] = frozenset(),
    ) -> Route | Refusal:  # fmt: skip
        """One more decision for the same request: a retry, or a cascade's larger ticket."""
        ask = msgspec.structs.replace(ask, deadline_ms=deadline_ms, not_workers=not_workers, not_tickets=not_tickets)
        return self._choose(ask)

    def _choose(self, ask: Ask) -> Route | Refusal:
        """What the ladder says to an ask now."""
        assert self.table is not None
        return self._ladder.choose(ask, self.table, self._fleet.snapshot(), time.perf_counter())

    def _account(self, call: Call, reply: Reply) -> None:
        self._metrics.record(
            tenant=call.tenant, domain=call.domain, tier=reply.tier, outcome="ok",
            total_s=time.perf_counter() - call.arrived, queue_s=reply.queue_ms / 1000, run_s=reply.run_ms / 1000,
            met_sla=reply.total_ms <= reply.deadline_ms, ticket=reply.ticket, step=reply.step, reason=reply.reason,
            admission_s=reply.admission_ms / 1000, tokenize_s=reply.tokenize_ms / 1000,
            trace_id=call.trace_id,
        )  # fmt: skip

    def _account_for_none(
        self, tenant: str, domain: str, tier: str, arrived: float, outcome: str, error: ApiError | None
    ) -> None:
        """A request that ended without an answer: by an error, because its client has gone, by a fault of ours."""
        is_ours = outcome != CANCELLED and (error is None or error.status >= 500)
        self._metrics.record(
            tenant=tenant, domain=domain, tier=tier or self._default_tier(tenant, domain), outcome=outcome,
            total_s=time.perf_counter() - arrived, met_sla=False if is_ours else None,
        )  # fmt: skip
        if outcome in ("internal", "inference_failed"):
            log.warning("request_failed", tenant=tenant, domain=domain, code=outcome, reason=str(error))

    def _default_tier(self, tenant: str, domain: str) -> str:
        row = self.table.tenants.get(tenant) if self.table is not None else None
        found = row.domains.get(domain) if row is not None else None
        return found.default_tier if found is not None else ""


def _shares(table: Table) -> Shares:
    """What the tenants are due, those who are due the default left out."""
    due = {name: Share(tenant.weight, tenant.reserved_bytes) for name, tenant in table.tenants.items()}
    return Shares(table.version, {name: share for name, share in due.items() if share != Share()})
