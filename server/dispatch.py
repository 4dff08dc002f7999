"""What happens to a request between HTTP and a worker. Read this file first.

`Dispatcher.infer` admits it, starts its deadline, lets `routing.decide.choose` pick ticket and
worker from two frozen snapshots, sends it over that worker's `Link`, tries once elsewhere
when that worker fails, and accounts for it. Whatever happens, it ends in exactly one Reply
or ApiError within its deadline. It knows neither HTTP nor what a ticket computes.
"""

import asyncio
import time

import msgspec
import structlog

from routing.decide import choose
from routing.table import Ask, Refusal, Route, Table
from server import wire
from server.errors import BY_CODE, ApiError, DeadlineExceeded, NotReady, Overloaded, TicketUnavailable, WorkerLost
from server.fleet import WorkerFleet
from server.telemetry import GatewayMetrics
from server.tensor import Tensor

log = structlog.get_logger()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A valid request of an authenticated tenant. ``inputs`` have one row per thing asked about."""

    tenant: str
    domain: str
    inputs: list[Tensor]
    outputs: list[str] = []
    """Names of the outputs wanted; empty: all."""
    tier: str | None = None
    version: str | None = None
    deadline_ms: float | None = None
    """The caller's own deadline, counted from when its request had arrived."""
    arrived: float = 0.0
    """`time.perf_counter()` when the request had arrived."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, with the ticket and worker that gave it, and where the time went (milliseconds)."""

    outputs: list[Tensor]
    ticket: str
    tier: str
    because: str
    queue_ms: float
    run_ms: float
    total_ms: float
    deadline_ms: float


class Dispatcher:
    """Owns the table in use and the number of requests in flight."""

    def __init__(self, fleet: WorkerFleet, metrics: GatewayMetrics, *, max_in_flight: int = 1024) -> None:
        self.table: Table | None = None
        self.in_flight = 0
        self._fleet = fleet
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._service_ms: dict[str, float] = {}
        metrics.in_flight.set_function(lambda: self.in_flight)
        metrics.workers.set_function(lambda: fleet.linked)

    def replace(self, table: Table) -> None:
        """Use ``table`` for every request from now on; those in flight end under the one they began with."""
        self._service_ms = {ticket.id: ticket.service_ms for family in table.families.values() for ticket in family}
        self.table = table
        self._metrics.table_version.set(table.version)

    async def infer(self, call: Call) -> Reply:
        """Answer ``call`` within its deadline, or raise the ApiError that says why not."""
        reply: Reply | None = None
        error: ApiError | None = None
        self.in_flight += 1
        try:
            if self.in_flight > self._max_in_flight:
                raise Overloaded(f"{self._max_in_flight} requests are in flight already", retry_after_s=1.0)
            reply = await self._answer(call)
            return reply
        except ApiError as raised:
            error = raised
            raise
        finally:
            self.in_flight -= 1
            self._account(call.tenant, call.domain, call.tier or "", call.arrived, reply, error)

    def reject(self, error: ApiError, *, tenant: str, arrived: float) -> None:
        """Account for a request that was refused before it became a call."""
        self._account(tenant, "", "", arrived, None, error)

    async def _answer(self, call: Call) -> Reply:
        if call.deadline_ms is not None and call.deadline_ms <= 0:
            raise DeadlineExceeded("the deadline had passed when the request arrived; nothing was run")
        route = self._choose(call, call.deadline_ms)
        if isinstance(route, Refusal):
            raise BY_CODE[route.code](route.message, retry_after_s=route.retry_after_s)
        remaining_ms = route.deadline_ms - _since_ms(call.arrived)
        try:
            async with asyncio.timeout(remaining_ms / 1000):
                try:
                    answer = await self._send(call, route, remaining_ms)
                except ApiError as error:
                    if not error.retryable:
                        raise
                    route, answer = await self._send_elsewhere(call, route, error)
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer within {route.deadline_ms:g} ms (tier {route.tier})") from error
        return Reply(
            outputs=answer.outputs, ticket=route.ticket, tier=route.tier, because=route.because,
            queue_ms=answer.queue_ms, run_ms=answer.run_ms, total_ms=_since_ms(call.arrived),
            deadline_ms=route.deadline_ms,
        )  # fmt: skip

    async def _send(self, call: Call, route: Route, remaining_ms: float) -> wire.Answer:
        link = self._fleet.link(route.worker)
        if link is None:
            raise WorkerLost(f"worker {route.worker} was lost", retry_after_s=1.0)
        return await link.call(
            ticket=route.ticket, tenant=call.tenant, remaining_ms=remaining_ms, inputs=call.inputs,
            outputs=call.outputs, row_ms=self._service_ms.get(route.ticket, 0.0),
        )  # fmt: skip

    async def _send_elsewhere(self, call: Call, failed: Route, error: ApiError) -> tuple[Route, wire.Answer]:
        """The one retry: inference is idempotent. Raises ``error`` where nothing else can make the deadline.

        It goes to another worker; for a ticket that cannot be loaded and that no other worker has, down the family.
        """
        remaining_ms = failed.deadline_ms - _since_ms(call.arrived)
        if remaining_ms <= 0:
            raise error
        others = [worker for worker in self._fleet.snapshot().workers if worker.name != failed.worker]
        if isinstance(error, TicketUnavailable) and not any(failed.ticket in worker.holds for worker in others):
            route = self._choose(call, remaining_ms, not_tickets=frozenset((failed.ticket,)))
        else:
            route = self._choose(call, remaining_ms, not_workers=frozenset((failed.worker,)))
        if isinstance(route, Refusal):
            raise error
        self._metrics.retries.inc()
        log.debug("retry", failed=failed.worker, code=error.code, worker=route.worker)
        route = msgspec.structs.replace(route, deadline_ms=failed.deadline_ms)
        return route, await self._send(call, route, remaining_ms)

    def _choose(
        self, call: Call, deadline_ms: float | None, *, not_workers: frozenset[str] = frozenset(),
        not_tickets: frozenset[str] = frozenset(),
    ) -> Route | Refusal:  # fmt: skip
        if self.table is None:
            raise NotReady("no routing table has been published yet", retry_after_s=1.0)
        ask = Ask(
            tenant=call.tenant, domain=call.domain, tier=call.tier, version=call.version, deadline_ms=deadline_ms,
            not_workers=not_workers, not_tickets=not_tickets,
        )  # fmt: skip
        return choose(ask, self.table, self._fleet.snapshot())

    def _account(
        self, tenant: str, domain: str, tier: str, arrived: float, reply: Reply | None, error: ApiError | None
    ) -> None:
        """The one place that counts requests: an answer, an error, or neither (cancelled, a fault of ours)."""
        total_s = time.perf_counter() - arrived
        if reply is not None:
            self._metrics.record(
                tenant=tenant, domain=domain, tier=reply.tier, outcome="ok", total_s=total_s,
                queue_s=reply.queue_ms / 1000, run_s=reply.run_ms / 1000,
                met_sla=reply.total_ms <= reply.deadline_ms, ticket=reply.ticket,
            )  # fmt: skip
            return
        code = "internal" if error is None else error.code
        met_sla = None if error is not None and error.status < 500 else False
        self._metrics.record(
            tenant=tenant, domain=domain, tier=tier or self._default_tier(tenant, domain), outcome=code,
            total_s=total_s, met_sla=met_sla,
        )  # fmt: skip
        if code in ("internal", "inference_failed"):
            log.warning("request_failed", tenant=tenant, domain=domain, code=code, reason=str(error))

    def _default_tier(self, tenant: str, domain: str) -> str:
        row = self.table.tenants.get(tenant) if self.table is not None else None
        found = row.domains.get(domain) if row is not None else None
        return found.default_tier if found is not None else ""


def _since_ms(arrived: float) -> float:
    return (time.perf_counter() - arrived) * 1000
