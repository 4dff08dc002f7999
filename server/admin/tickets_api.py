"""The ticket routes: register one by uploading its bundle, list them, look at one.

Owns what an upload's head may say, and the two forms in which a registration is answered: one document at its end, or a
line for every step as it happens. What is done with an upload belongs to `server.admin.registration`, moving a ticket
on to `server.admin.moves_api`, who may do it to `server.admin.rights`.
"""

import contextlib
import re
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response

from routing.lifecycle import LifecycleError, find_ticket
from server import edge, openapi
from server.admin import edits, holdings, queries, rights, spool
from server.admin.answers import answer_json
from server.admin.moves_api import Judge, add_move_routes, of_lifecycle
from server.admin.registration import GateRefused, Outcome, Registrations, Submission
from server.admin.ticket_views import (
    EXAMPLE,
    REPORT_EXAMPLE,
    Registered,
    TicketDetail,
    TicketList,
    ticket_detail,
    ticket_view,
)
from server.errors import ApiError, BadRequest, Internal, TooLarge
from server.gate.report import Step
from server.gateway import Gateway
from tickets.bundle import MAX_BUNDLE_BYTES, is_ticket_id

MAX_SIGNATURE_BYTES = 256
LINES = "application/x-ndjson"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

log = structlog.get_logger()

_REGISTERED = {"ticket": EXAMPLE["ticket"], "state": "registered", "domain": "banking", "tier": "fast"}
_REGISTERED |= {"report": REPORT_EXAMPLE}
_BUNDLE = {
    "requestBody": {
        "required": True,
        "description": f"The bundle as it is, at most {MAX_BUNDLE_BYTES} bytes, streamed or with Content-Length.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_TAKES = openapi.taking(
    openapi.query("domain", str, "Where it goes; absent: the domain that its manifest names."),
    openapi.query("tier", str, "Its tier; absent: the one that its manifest names."),
    openapi.header("X-Tombola-Ticket", "Its id: where it is registered already, the answer comes before the upload."),
    openapi.header(
        "X-Tombola-Signature", "`<signer>:<base64 of 64 bytes>`: Ed25519 over `tombola-ticket-v1\\0` and the id."
    ),
    openapi.header(
        "Accept", "`application/x-ndjson`: one line for each step as it happens, the answer as the last line."
    ),
    **_BUNDLE,
)
_UPLOAD_ERRORS = (
    "bad_request", "forbidden", "ticket_quota_exceeded", "unknown_tenant", "conflict", "too_large", "refused",
    "overloaded", "control_plane_unavailable", "storage_full",
)  # fmt: skip
_REGISTER = (
    openapi.answer(Registered, _REGISTERED, description="It was registered already")
    | openapi.answer(Registered, _REGISTERED, status=201, description="Registered")
    | openapi.errors(*_UPLOAD_ERRORS)
)
_LIST = openapi.answer(TicketList, {"version": 7, "tickets": [EXAMPLE]}) | openapi.errors(
    "forbidden", "unknown_tenant", "control_plane_unavailable"
)
_PROMISE = {"deadline_ms": 15.0, "quality_floor": 0.0}
_DETAIL = EXAMPLE | {"promise": _PROMISE, "canary": None, "report": REPORT_EXAMPLE}
_SHOW = openapi.answer(TicketDetail, _DETAIL) | openapi.errors(
    "bad_request", "forbidden", "unknown_tenant", "unknown_ticket", "conflict", "control_plane_unavailable"
)


def add_ticket_routes(app: FastAPI, gateway: Gateway, registrations: Registrations, judge: Judge | None = None) -> None:
    """Add every route about tickets. ``judge`` tells how canaries stand; without one, only what the table says."""
    _add_upload(app, gateway, registrations)
    _add_reading_routes(app, gateway, registrations)
    add_move_routes(app, gateway, registrations.store, judge)


def _add_upload(app: FastAPI, gateway: Gateway, registrations: Registrations) -> None:
    @app.post(
        "/v1/tenants/{tenant}/tickets", tags=["tickets"], status_code=201, responses=_REGISTER, openapi_extra=_TAKES
    )
    async def register_ticket(request: Request) -> Response:
        """Register a ticket: upload its bundle, which is examined in a process of its own, step by step.

        A refused one leaves nothing behind. Sending the same bundle again changes nothing and answers 200. A
        registered ticket is callable by who names it as `version`, until a canary or a promotion gives it traffic.
        """
        headers = dict(request.scope["headers"])
        tenant = request.path_params["tenant"]
        caller = rights.authorize(gateway, request, tenant, "register")
        wanted = Submission(
            caller=caller, tenant=tenant, domain=_name(request, "domain"), tier=_name(request, "tier"),
            ticket=_ticket_id(request), signature=_signature(request), declared_bytes=spool.declared_bytes(headers),
        )  # fmt: skip
        said = registrations.register(wanted, spool.chunks_of(request.receive, gateway.deadlines))
        request_id = gateway.request_ids.of(headers)
        try:
            first = await anext(said)
        except GateRefused as error:
            return _refused(error, request_id)
        except TooLarge:
            await spool.read_away(headers, request.receive)
            raise
        except edge.ClientGone as error:
            raise BadRequest("the connection ended before the upload did") from error  # nobody reads this answer
        if LINES in request.headers.get("accept", ""):
            return Lines(_lines(first, said, request_id))
        async with contextlib.aclosing(said):
            try:
                last = first
                async for item in said:
                    last = item
            except GateRefused as error:
                return _refused(error, request_id)
        assert isinstance(last, Outcome)
        return answer_json(_registered(last), status=201 if last.is_new else 200)


def _add_reading_routes(app: FastAPI, gateway: Gateway, registrations: Registrations) -> None:
    @app.get("/v1/tenants/{tenant}/tickets", tags=["tickets"], responses=_LIST)
    async def list_tickets(request: Request) -> Response:
        """Every ticket that may answer the tenant, by domain and from the dearest to the cheapest."""
        tenant = request.path_params["tenant"]
        rights.authorize(gateway, request, tenant, "register")
        now = await edits.standing(registrations.store)
        now.account(tenant)
        shown = [ticket_view(now.table, tenant, domain, row) for domain, row in holdings.held(now.table, tenant)]
        return answer_json(TicketList(version=now.table.version, tickets=shown), version=now.table.version)

    @app.get(
        "/v1/tenants/{tenant}/tickets/{ticket}", tags=["tickets"], responses=_SHOW,
        openapi_extra=openapi.taking(openapi.query("domain", str, "Which one, where it stands in several domains.")),
    )  # fmt: skip
    async def show_ticket(request: Request) -> Response:
        """One ticket, with the report of its registration; the table's version as `ETag`."""
        tenant, prefix = request.path_params["tenant"], request.path_params["ticket"]
        rights.authorize(gateway, request, tenant, "register")
        domain = _name(request, "domain")
        now = await edits.standing(registrations.store)
        now.account(tenant)
        try:
            domain, row = find_ticket(holdings.with_row(now.table, tenant), tenant, prefix, domain)
        except LifecycleError as error:
            raise of_lifecycle(error) from error
        report = msgspec.Raw(await edits.report(registrations.store, tenant, row.id))
        return answer_json(ticket_detail(now.table, tenant, domain, row, report), version=now.table.version)


class Lines(Response):
    """An answer of JSON lines, each sent as soon as there is one."""

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        super().__init__(media_type=LINES)
        self._lines = lines
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"  # a proxy that gathers lines would hide the progress

    async def __call__(self, scope: edge.Scope, receive: edge.Receive, send: edge.Send) -> None:
        """ASGI."""
        async with contextlib.aclosing(self._lines) as lines:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for line in lines:
                await send({"type": "http.response.body", "body": line + b"\n", "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _lines(
    first: Step | Outcome, rest: AsyncGenerator[Step | Outcome, None], request_id: str
) -> AsyncGenerator[bytes, None]:
    """One line for each step; the last one is the answer, or the error."""
    async with contextlib.aclosing(rest):
        try:
            yield _line(first)
            async for item in rest:
                yield _line(item)
        except GateRefused as error:
            yield msgspec.json.encode(_refusal(error, request_id))
        except ApiError as error:
            yield edge.error_parts(error, request_id)[0]
        except Exception:
            log.exception("internal_error", request_id=request_id)
            yield edge.error_parts(Internal("an internal error; its details are in the log"), request_id)[0]


def _line(item: Step | Outcome) -> bytes:
    return msgspec.json.encode(_registered(item) if isinstance(item, Outcome) else item)


def _registered(outcome: Outcome) -> Registered:
    return Registered(
        ticket=outcome.ticket, state=outcome.state, domain=outcome.domain, tier=outcome.tier, report=outcome.report
    )


def _refused(error: GateRefused, request_id: str) -> Response:
    _, headers = edge.error_parts(error, request_id)
    response = Response(msgspec.json.encode(_refusal(error, request_id)), error.status, media_type="application/json")
    for name, value in headers:
        response.headers[name.decode()] = value.decode()
    return response


def _refusal(error: GateRefused, request_id: str) -> dict[str, Any]:
    """The three members that every error has, and what the gate says."""
    return {
        "error": error.message, "code": error.code, "request_id": request_id, "step": error.report.refused_step,
        "refusal": error.report.refusal, "report": error.report,
    }  # fmt: skip


def _name(request: Request, parameter: str) -> str | None:
    value = queries.text(request, parameter)
    if value is not None and not _NAME.fullmatch(value):
        raise BadRequest(f"{parameter} must be 1 to 64 of a-z, 0-9, '_', '.', '-', and begin with a letter or digit")
    return value


def _ticket_id(request: Request) -> str | None:
    value = request.headers.get("x-tombola-ticket")
    if value is not None and not is_ticket_id(value):
        raise BadRequest("X-Tombola-Ticket must be a ticket id: 64 lower-case hex digits, the sha256 of the bundle")
    return value


def _signature(request: Request) -> str | None:
    value = request.headers.get("x-tombola-signature")
    if value is not None and (len(value) > MAX_SIGNATURE_BYTES or not value.isascii()):
        raise BadRequest(f"X-Tombola-Signature must be <signer>:<base64>, at most {MAX_SIGNATURE_BYTES} characters")
    return value
