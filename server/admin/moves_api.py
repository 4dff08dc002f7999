"""The routes that move a ticket on: canary, promote, withdraw, retire; roll a domain back; how its canary stands.

Owns their bodies. Which moves are legal, and what each of them changes, is `routing.lifecycle`'s; how a canary is
judged, its judge's (`server.overseer`). Every move is made from the table that has just been read, and may be
made conditional on its version by `If-Match`.
"""

import time
from collections.abc import Callable
from typing import Annotated, Literal, Protocol

import msgspec
from fastapi import FastAPI, Request, Response
from msgspec import Meta

from routing import lifecycle
from routing.access import Caller
from routing.change import Change, Committed
from routing.event import Event
from routing.lifecycle import LifecycleError
from routing.store import Store, StoreCorrupt, StoreUnavailable
from routing.table import Canary, Fraction, Milliseconds, Name, Table
from server import openapi
from server.admin import bodies, edits, holdings, rights
from server.admin.answers import answer_json
from server.admin.edits import Standing
from server.admin.ticket_views import EXAMPLE, Retired, RolledBack, TicketView, ticket_view
from server.errors import ApiError, Conflict, UnknownDomain, UnknownTicket
from server.gateway import Gateway
from server.overseer import CanaryStanding

Reason = Annotated[str, Meta(max_length=2000)]
Moved = tuple[Table, Event]

_ERRORS = (
    "bad_request", "forbidden", "unknown_tenant", "unknown_ticket", "conflict", "precondition_failed", "too_large",
    "control_plane_unavailable",
)  # fmt: skip
_IF_MATCH = openapi.header("If-Match", 'The version of the table that this is about: `"7"`. Absent: any.')


class Judge(Protocol):
    """Tells how a canary stands."""

    async def standing(self, tenant: str, domain: str) -> CanaryStanding | None:
        """What has been counted and found of a domain's canary; None where it has none. Raises StoreUnavailable,
        StoreCorrupt."""


class CanaryShown(msgspec.Struct, frozen=True, kw_only=True):
    """A domain's canary, and how it stands; nulls where it has none."""

    canary: Canary | None
    standing: CanaryStanding | None


class CanaryStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Try a registered ticket beside the promoted one of its tier."""

    share: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.1
    """The part of that one's requests that it is tried on."""
    mode: Literal["canary", "shadow"] = "canary"
    """``canary``: it answers them. ``shadow``: it is asked too, and nobody sees its answer."""
    is_automatic: bool = False
    """Whether it is promoted as soon as it has shown itself to be good."""
    domain: Name | None = None
    """Which one, where the ticket stands in several domains."""


class Promotion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Give a ticket the requests of its tier."""

    deadline_ms: Milliseconds | None = None
    """What the tier promises from now on; absent: as before."""
    quality_floor: Fraction | None = None
    reason: Reason = ""
    domain: Name | None = None


class Withdrawal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """End a canary."""

    reason: Reason = ""
    domain: Name | None = None


class Retirement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Take a ticket away, for good."""

    reason: Reason = ""
    domain: Name | None = None
    is_last: bool = False
    """To be said where the domain goes with its only ticket."""


class Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bring back what stood before the latest promotion."""

    tier: Name | None = None
    """Of this tier; absent: of any."""
    reason: Reason = ""


class Mover:
    """Makes one move: reads what stands, asks the lifecycle, commits."""

    def __init__(self, gateway: Gateway, store: Store) -> None:
        self._gateway = gateway
        self._store = store

    async def move(
        self, request: Request, caller: Caller, tenant: str, make: Callable[[Table], Moved]
    ) -> tuple[Event, Table]:
        """The event and the table of the move that ``make`` makes. Raises ApiError."""
        allowed = edits.if_match(request)

        def change(standing: Standing) -> Change:
            standing.account(tenant)
            edits.check_match(allowed, standing.table.version)
            try:
                table, event = make(holdings.with_row(standing.table, tenant))
            except LifecycleError as error:
                raise of_lifecycle(error) from error
            gone = event.action == "ticket.retire" and holdings.find(table, tenant, event.subject) is None
            return Change(event=event, table=table, reports={(tenant, event.subject): None} if gone else {})

        done: Committed = await edits.commit(self._store, caller, change)
        assert done.table is not None
        return done.event, done.table


def add_move_routes(app: FastAPI, gateway: Gateway, store: Store, judge: Judge | None) -> None:
    """Add the routes that move tickets on."""
    mover = Mover(gateway, store)
    _add_canary_routes(app, gateway, mover)
    _add_promotion_routes(app, gateway, mover)
    _add_domain_routes(app, gateway, store, mover, judge)


def _add_canary_routes(app: FastAPI, gateway: Gateway, mover: Mover) -> None:
    @app.post(
        "/v1/tenants/{tenant}/tickets/{ticket}/canary", tags=["tickets"], responses=_answer("canary"),
        openapi_extra=openapi.taking(_IF_MATCH, **openapi.body(CanaryStart, {"share": 0.1}, is_required=False)),
    )  # fmt: skip
    async def start_canary(request: Request) -> Response:
        """Try a registered ticket on a share of the requests of its tier, or on copies of them (shadow)."""
        tenant, ticket, caller = _subject(gateway, request)
        wanted = await bodies.read(gateway, request, CanaryStart)
        event, table = await mover.move(
            request, caller, tenant,
            lambda table: lifecycle.start_canary(
                table, tenant=tenant, ticket=ticket, share=wanted.share, mode=wanted.mode, domain=wanted.domain,
                is_automatic=wanted.is_automatic, now=time.time(), actor=caller.actor,
            ),
        )  # fmt: skip
        return _shown(event, table, tenant)

    @app.post(
        "/v1/tenants/{tenant}/tickets/{ticket}/withdraw", tags=["tickets"], responses=_answer("registered"),
        openapi_extra=openapi.taking(_IF_MATCH, **openapi.body(Withdrawal, {}, is_required=False)),
    )  # fmt: skip
    async def withdraw_canary(request: Request) -> Response:
        """End a canary: the ticket is registered again."""
        tenant, ticket, caller = _subject(gateway, request)
        wanted = await bodies.read(gateway, request, Withdrawal)
        event, table = await mover.move(
            request, caller, tenant,
            lambda table: lifecycle.withdraw(
                table, tenant=tenant, ticket=ticket, actor=caller.actor, reason=wanted.reason, domain=wanted.domain
            ),
        )  # fmt: skip
        return _shown(event, table, tenant)


def _add_promotion_routes(app: FastAPI, gateway: Gateway, mover: Mover) -> None:
    @app.post(
        "/v1/tenants/{tenant}/tickets/{ticket}/promote", tags=["tickets"], responses=_answer("promoted"),
        openapi_extra=openapi.taking(_IF_MATCH, **openapi.body(Promotion, {"deadline_ms": 20.0}, is_required=False)),
    )  # fmt: skip
    async def promote_ticket(request: Request) -> Response:
        """Give the ticket the requests of its tier; those that had them are registered again, for a rollback."""
        tenant, ticket, caller = _subject(gateway, request)
        wanted = await bodies.read(gateway, request, Promotion)
        event, table = await mover.move(
            request, caller, tenant,
            lambda table: lifecycle.promote(
                table, tenant=tenant, ticket=ticket, actor=caller.actor, deadline_ms=wanted.deadline_ms,
                quality_floor=wanted.quality_floor, reason=wanted.reason, domain=wanted.domain,
            ),
        )  # fmt: skip
        return _shown(event, table, tenant)

    @app.post(
        "/v1/tenants/{tenant}/tickets/{ticket}/retire", tags=["tickets"],
        responses=openapi.answer(Retired, Retired(ticket=EXAMPLE["ticket"], domain="banking"))
        | openapi.errors(*_ERRORS),
        openapi_extra=openapi.taking(_IF_MATCH, **openapi.body(Retirement, {}, is_required=False)),
    )  # fmt: skip
    async def retire_ticket(request: Request) -> Response:
        """Take the ticket away: from then on nobody can call it. It may be registered again."""
        tenant, ticket, caller = _subject(gateway, request)
        wanted = await bodies.read(gateway, request, Retirement)
        event, table = await mover.move(
            request, caller, tenant,
            lambda table: lifecycle.retire(
                table, tenant=tenant, ticket=ticket, actor=caller.actor, reason=wanted.reason, domain=wanted.domain,
                is_last=wanted.is_last,
            ),
        )  # fmt: skip
        gone = Retired(ticket=event.subject, domain=event.before["domain"])
        return answer_json(gone, version=table.version)


def _add_domain_routes(app: FastAPI, gateway: Gateway, store: Store, mover: Mover, judge: Judge | None) -> None:
    @app.post(
        "/v1/tenants/{tenant}/domains/{domain}/rollback", tags=["tickets"],
        responses=openapi.answer(RolledBack, {"domain": "banking", "promoted": [EXAMPLE | {"state": "promoted"}]})
        | openapi.errors("unknown_domain", *_ERRORS),
        openapi_extra=openapi.taking(_IF_MATCH, **openapi.body(Rollback, {"tier": "fast"}, is_required=False)),
    )  # fmt: skip
    async def roll_back_domain(request: Request) -> Response:
        """Bring back what stood before the latest promotion; again and again: further and further back."""
        tenant, domain = request.path_params["tenant"], request.path_params["domain"]
        caller = rights.authorize(gateway, request, tenant, "admin")
        wanted = await bodies.read(gateway, request, Rollback)

        def make(table: Table) -> Moved:
            _check_domain(table, tenant, domain)
            return lifecycle.rollback(
                table, tenant=tenant, domain=domain, actor=caller.actor, tier=wanted.tier, reason=wanted.reason
            )

        _, table = await mover.move(request, caller, tenant, make)
        held = holdings.held(table, tenant)
        promoted = [row for name, row in held if name == domain and row.state == "promoted"]
        shown = RolledBack(domain=domain, promoted=[ticket_view(table, tenant, domain, row) for row in promoted])
        return answer_json(shown, version=table.version)

    @app.get(
        "/v1/tenants/{tenant}/domains/{domain}/canary", tags=["tickets"],
        responses=openapi.answer(CanaryShown, {"canary": None, "standing": None})
        | openapi.errors("forbidden", "unknown_tenant", "unknown_domain", "control_plane_unavailable"),
    )  # fmt: skip
    async def show_canary(request: Request) -> Response:
        """The domain's canary, what has been counted of it, and how it stands; nulls where it has none."""
        tenant, domain = request.path_params["tenant"], request.path_params["domain"]
        rights.authorize(gateway, request, tenant, "register")
        now = await edits.standing(store)
        now.account(tenant)
        _check_domain(now.table, tenant, domain)
        canary = now.table.tenants[tenant].domains[domain].canary
        try:
            standing = await judge.standing(tenant, domain) if judge is not None and canary is not None else None
        except (StoreUnavailable, StoreCorrupt) as error:
            raise edits.gone() from error
        return answer_json(CanaryShown(canary=canary, standing=standing), version=now.table.version)


def of_lifecycle(error: LifecycleError) -> ApiError:
    """An illegal move as a caller hears of it."""
    return UnknownTicket(str(error)) if error.code == "unknown" else Conflict(str(error))


def _check_domain(table: Table, tenant: str, domain: str) -> None:
    if tenant not in table.tenants or domain not in table.tenants[tenant].domains:
        raise UnknownDomain(f"the tenant has no domain '{domain[: rights.MAX_ECHO]}'")


def _subject(gateway: Gateway, request: Request) -> tuple[str, str, Caller]:
    """The tenant and the ticket that a path names, and who asks. Raises ApiError."""
    tenant, ticket = request.path_params["tenant"], request.path_params["ticket"]
    return tenant, ticket, rights.authorize(gateway, request, tenant, "admin")


def _shown(event: Event, table: Table, tenant: str) -> Response:
    """The ticket that a move was about, as it stands now."""
    found = holdings.find(table, tenant, event.subject, event.after["domain"])
    assert found is not None
    return answer_json(ticket_view(table, tenant, *found), version=table.version)


def _answer(state: str) -> openapi.Responses:
    return openapi.answer(TicketView, EXAMPLE | {"state": state}) | openapi.errors(*_ERRORS)
