"""Registration: an upload becomes a ticket of a tenant, or nothing of it is left. The steps, in their order.

Owns who may register how much and when: quotas, what is registered already, places at the gate, and that what is
committed is what was examined, under the policy that it was examined under. The upload's file belongs to
`server.admin.spool`, the examination to `server.gate`, the commit's safety to `server.admin.keeping`, where a ticket
goes in the table to `routing.lifecycle`, HTTP to `server.admin.tickets_api`.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import msgspec
import structlog

from routing import lifecycle
from routing.access import Caller
from routing.account import Account
from routing.change import Change
from routing.store import Store, StoreCorrupt, StoreUnavailable
from routing.table import FamilyTicket, TicketState
from server.admin import edits, holdings, keeping, spool
from server.admin.edits import Standing
from server.admin.journal import Entry
from server.admin.keeping import Keeper
from server.admin.places import Places
from server.admin.spool import Spool
from server.errors import ApiError, Conflict, Overloaded, Refused
from server.gate.report import Report, Shape, Step, Wanted
from server.gate.runner import Gate, GateFailed
from tickets.bundle import MAX_BUNDLE_BYTES, BundleError
from tickets.manifest import Manifest
from tickets.registry import Registry

SWEEP_EVERY_S = 30.0
COLLECT_EVERY_S = 600.0
_THREADS = 4
_MIN_SERVICE_MS = 0.001

log = structlog.get_logger()


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload's head says."""

    caller: Caller
    tenant: str
    domain: str | None = None
    tier: str | None = None
    ticket: str | None = None
    """Its id, where the caller says so."""
    signature: str | None = None
    declared_bytes: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The ticket as it is registered now."""

    ticket: str
    state: TicketState
    domain: str
    tier: str
    report: msgspec.Raw
    """As JSON; null for a ticket that never went through the gate (an operator put it into the table)."""
    is_new: bool = msgspec.field(default=False)


class GateRefused(Refused):
    """The gate has refused the upload; ``report`` says at which step, and why."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.message)
        self.report = report


class _AlreadyThere(Exception):
    """Somebody has registered the same ticket for the same tenant meanwhile."""


class Registrations:
    """One gateway's. `run` looks after what dead processes left; `close` waits for what is being committed."""

    def __init__(
        self, store: Store, registry: Registry, gate: Gate, *, places: Places | None = None,
        limits: Wanted | None = None, manifest: Callable[[str], Manifest | None] = lambda _: None,
    ) -> None:  # fmt: skip
        """``limits``: of an examination (time, memory, loops), taken over into every `Wanted`; absent: its defaults.
        ``manifest`` gives that of a ticket of the table, where it is known here."""
        self.store = store
        self._registry = registry
        self._gate = gate
        self._manifest = manifest
        self._places = places or Places()
        self._limits = limits or Wanted(tenant="")
        self._threads = ThreadPoolExecutor(_THREADS, "spool")
        self._keeper = Keeper(store, registry, self._threads)
        self._committing: set[asyncio.Task[Outcome]] = set()

    async def register(self, wanted: Submission, chunks: AsyncIterator[bytes]) -> AsyncGenerator[Step | Outcome, None]:
        """Each step as it ends, the outcome last; the outcome alone where the ticket is registered already.

        Nothing comes before the upload has arrived and has its place at the gate. Raises GateRefused, TooLarge,
        TicketQuota, Overloaded, StorageFull, Conflict, ControlPlaneGone, UnknownTenant, and what ``chunks`` raises;
        nothing of the upload is left then. Close it to give up.
        """
        began = time.perf_counter()
        with self._places.seat(wanted.tenant):
            known = await self.known(wanted)
            if known is not None:
                yield known
                return
            room = holdings.room(await edits.standing(self.store), wanted.tenant)
            room.check(wanted.declared_bytes, MAX_BUNDLE_BYTES)
            upload = await spool.begin(self._registry.root, self._threads)
            try:
                await upload.fill(chunks, room.limit(MAX_BUNDLE_BYTES), room.too_much(MAX_BUNDLE_BYTES))
                wanted = _named(wanted, upload)
                async with self._places.gate(wanted.tenant):
                    known = await self.known(wanted)
                    if known is not None:
                        yield known
                        return
                    size = _passed("size", began, f"{upload.size} bytes", bytes=upload.size)
                    yield size
                    async with contextlib.aclosing(self._examined(wanted, upload, size)) as steps:
                        async for step in steps:
                            yield step
            finally:
                await upload.end()

    async def known(self, wanted: Submission) -> Outcome | None:
        """The ticket as it is registered for this tenant already; None where it is not, or no id was given.

        Raises ControlPlaneGone, UnknownTenant.
        """
        if wanted.ticket is None:
            return None
        return await self._known(await edits.standing(self.store), wanted, wanted.ticket)

    async def sweep(self) -> bool:
        """Finish or undo what dead processes have left. Whether all of it could be decided: not while Redis is away,
        nor just after it happened."""
        try:
            return await self._keeper.sweep(time.time())
        except (OSError, ApiError, StoreUnavailable, StoreCorrupt) as error:
            log.warning("sweep_failed", error=str(error))
            return False

    async def run(self) -> None:
        """Look after leftovers, and after retired tickets' files, until cancelled."""
        collected_at = time.monotonic()
        while True:
            is_done = await self.sweep()
            await asyncio.sleep(SWEEP_EVERY_S if is_done else keeping.UNSURE_S)
            if time.monotonic() - collected_at >= COLLECT_EVERY_S:
                collected_at = time.monotonic()
                try:
                    gone = await self._keeper.collect(time.time())
                except (OSError, ApiError, StoreUnavailable, StoreCorrupt) as error:
                    log.warning("collect_failed", error=str(error))
                else:
                    if gone:
                        log.info("tickets_collected", tickets=gone)

    async def close(self) -> None:
        """Wait for the commits that have begun; each is bounded in time."""
        while self._committing:
            await asyncio.wait(self._committing)
        await asyncio.to_thread(self._threads.shutdown)

    async def _examined(self, wanted: Submission, upload: Spool, size: Step) -> AsyncGenerator[Step | Outcome, None]:
        """The gate's steps, the commit's, the outcome."""
        standing = await edits.standing(self.store)
        account = standing.account(wanted.tenant)
        asked = msgspec.structs.replace(
            self._limits, tenant=wanted.tenant, domain=wanted.domain, tier=wanted.tier, policy=account.policy,
            signature=wanted.signature, max_bytes=max(1, upload.size), domains=self._shapes(standing, wanted.tenant),
        )  # fmt: skip
        report: Report | None = None
        try:
            async with contextlib.aclosing(self._gate.examine(upload.path, asked)) as said:
                async for step in said:
                    if isinstance(step, Report):
                        found = step.ticket or upload.sha256
                        report = msgspec.structs.replace(
                            step, steps=[size, *step.steps], ticket=found, bytes=upload.size
                        )
                    else:
                        yield step
        except GateFailed as error:
            log.error("gate_failed", error=str(error))
            raise Overloaded("the gate could not work just now; try again", retry_after_s=10.0) from error
        assert report is not None
        if not report.accepted:
            log.info("ticket_refused", tenant=wanted.tenant, ticket=report.ticket, refusal=report.refusal)
            raise GateRefused(report)
        if report.ticket != wanted.ticket:
            raise _changed()
        committing = time.perf_counter()
        task = asyncio.create_task(self._commit(wanted, upload, account, report), name="register-commit")
        self._committing.add(task)
        task.add_done_callback(self._committing.discard)
        outcome = await asyncio.shield(task)  # who has gone away by now has registered it all the same
        if outcome.is_new:
            yield _passed("commit", committing, "in the registry and in the table")
        yield outcome

    def _shapes(self, standing: Standing, tenant: str) -> dict[str, Shape]:
        """What the tickets of a tenant's domains take and give, as far as their manifests are known here."""
        shapes: dict[str, Shape] = {}
        for domain, ticket in holdings.held(standing.table, tenant):
            manifest = self._manifest(ticket.id)
            if manifest is not None and (domain not in shapes or ticket.state == "promoted"):
                shapes[domain] = Shape.of(manifest)
        return shapes

    async def _commit(self, wanted: Submission, upload: Spool, account: Account, report: Report) -> Outcome:
        """Into the registry and into the table, or neither."""
        assert wanted.ticket is not None
        ticket = FamilyTicket(
            id=wanted.ticket, tier=report.tier, quality=report.quality, bytes=upload.size, state="registered",
            service_ms=max(_MIN_SERVICE_MS, report.service_ms),
        )  # fmt: skip
        kept = msgspec.json.encode(report)

        def make(standing: Standing) -> Change:
            stands = standing.account(wanted.tenant)
            if stands.created_at != account.created_at:
                raise Conflict("the tenant has been deleted, and another made under its name: register it there")
            if stands.policy != account.policy:
                raise Conflict("the policy has been changed while the ticket was examined: register it again")
            if holdings.find(standing.table, wanted.tenant, ticket.id, wanted.domain) is not None:
                raise _AlreadyThere
            holdings.room(standing, wanted.tenant).check(upload.size, MAX_BUNDLE_BYTES)
            before = holdings.with_row(standing.table, wanted.tenant)
            try:
                table, event = lifecycle.register(
                    before, tenant=wanted.tenant, domain=report.domain, tier=report.tier, ticket=ticket,
                    actor=wanted.caller.actor,
                )  # fmt: skip
            except lifecycle.LifecycleError as error:
                raise Conflict(str(error)) from error
            return Change(event=event, table=table, reports={(wanted.tenant, ticket.id): kept})

        entry = Entry(tenant=wanted.tenant, ticket=ticket.id, was_there=False)
        try:
            await self._keeper.keep(upload.hand_over(), entry, lambda: edits.commit(self.store, wanted.caller, make))
        except _AlreadyThere:
            known = await self.known(wanted)
            if known is None:  # and retired again
                raise Conflict("others are registering and retiring the same ticket; try again") from None
            return known
        except BundleError as error:
            log.error("upload_changed", path=str(upload.path), error=str(error))
            raise _changed() from error
        log.info("ticket_registered", tenant=wanted.tenant, ticket=ticket.id, domain=report.domain, tier=report.tier)
        return Outcome(
            ticket=ticket.id, state="registered", domain=report.domain, tier=report.tier, report=msgspec.Raw(kept),
            is_new=True,
        )  # fmt: skip

    async def _known(self, standing: Standing, wanted: Submission, ticket: str) -> Outcome | None:
        standing.account(wanted.tenant)
        found = holdings.find(standing.table, wanted.tenant, ticket, wanted.domain)
        if found is None:
            return None
        domain, row = found
        report = await edits.report(self.store, wanted.tenant, ticket)
        return Outcome(ticket=ticket, state=row.state, domain=domain, tier=row.tier, report=msgspec.Raw(report))


def _named(wanted: Submission, upload: Spool) -> Submission:
    """The submission with the id that the upload turned out to have. Raises GateRefused where another was announced."""
    if wanted.ticket in (None, upload.sha256):
        return msgspec.structs.replace(wanted, ticket=upload.sha256)
    message = (
        f"the upload is ticket {upload.sha256}, not {wanted.ticket}: it was damaged on its way, or is another file"
    )
    step = Step(name="integrity", status="refused", detail=message)
    raise GateRefused(
        Report(
            ticket=upload.sha256, tenant=wanted.tenant, domain=wanted.domain or "", tier=wanted.tier or "",
            bytes=upload.size, steps=[step], accepted=False, refusal="bad_bundle", message=message, at=time.time(),
        )
    )  # fmt: skip


def _changed() -> Conflict:
    return Conflict("the upload was changed on the server's disk while it was examined: try again")


def _passed(name: Literal["size", "commit"], began: float, detail: str, **facts: object) -> Step:
    return Step(name=name, status="passed", ms=(time.perf_counter() - began) * 1000, detail=detail, facts=facts)
