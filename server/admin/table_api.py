"""The table routes: show, publish, validate, explain, compare and restore the routing table. For operators only.

Owns their paths, bodies and answers. A publication names the version that it was made from (`If-Match`), so that no
two operators overwrite each other unknowingly. What a document means is `routing.document`'s, what is restored
`routing.restore`'s; long documents are read in a thread, because the gateway answers requests meanwhile.
"""

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Request, Response
from msgspec import Meta

from routing.change import Change
from routing.document import MAX_DOCUMENT_BYTES, DocumentError, check
from routing.explain import explain
from routing.restore import ended_since, restored
from routing.store import Store, StoreCorrupt, StoreUnavailable
from routing.table import Table
from server import edge, openapi
from server.admin import bodies, edits, queries, rights, tables
from server.admin.answers import answer_json
from server.admin.edits import Standing
from server.admin.tenants import Reason
from server.admin.views import Differences, Published, Validation
from server.errors import BadRequest, Conflict, ControlPlaneGone, NotFound, NotReady
from server.gateway import Gateway

MAX_VERSION = 1 << 53
_EVENTS_PAGE = 500


class Restoration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which version is to be brought back."""

    version: Annotated[int, Meta(ge=1, le=MAX_VERSION)]
    reason: Reason = ""
    """For the audit log."""


_TABLE: dict[str, Any] = {
    "format": 1, "version": 7,
    "families": {"banking": [{"id": openapi.TICKET, "tier": "fast", "quality": 0.93, "service_ms": 0.8}]},
    "tenants": {"acme": {
        "key_hashes": ["5f3c0a9be412..."],
        "domains": {"banking": {"family": "banking", "default_tier": "fast", "tiers": {"fast": {"deadline_ms": 15}}}},
    }},
}  # fmt: skip
_SENT = _TABLE | {"version": 0}
_DIFFERENCE: dict[str, Any] = {
    "path": "tenants.acme.domains.banking.tiers.fast.deadline_ms", "kind": "changed", "words": "15 -> 10",
    "before": 15.0, "after": 10.0,
}  # fmt: skip
_GONE = ("forbidden", "control_plane_unavailable")
_SHOW = openapi.answer(tables.TableDocument, _TABLE) | openapi.errors("bad_request", "not_found", *_GONE)
_DIFF = openapi.answer(Differences, {"before": 6, "after": 7, "differences": [_DIFFERENCE]}) | openapi.errors(
    "bad_request", "not_found", *_GONE
)
_PUBLISH = openapi.answer(Published, {"version": 8, "differences": [_DIFFERENCE]}) | openapi.errors(
    "bad_request", "conflict", "precondition_failed", "too_large", *_GONE
)
_RESTORE = _PUBLISH | openapi.errors("not_found")
_VALIDATE = (
    openapi.errors("bad_request")
    | openapi.answer(
        Validation, {"valid": False, "problems": ["tenants.acme.domains.banking.family: no family 'bank'"]}
    )
    | openapi.errors("too_large", *_GONE)
)
_EXPLAIN = openapi.answer(tables.Answer, {
    "table_version": 7, "because": "best ticket within 15 ms", "ticket": openapi.TICKET, "worker": "worker-0",
    "predicted_ms": 1.2, "tier": "fast", "deadline_ms": 15.0, "quality_floor": 0.0, "policy": "best",
}) | openapi.errors("bad_request", "too_large", "not_ready", "forbidden")  # fmt: skip
_VERSION = Annotated[int, Meta(ge=1, le=MAX_VERSION)]
_MATCH = openapi.header("If-Match", "The version that this was made from, as the `ETag` of GET said.", is_required=True)


def add_table_routes(app: FastAPI, gateway: Gateway, store: Store) -> None:
    """Add every route about the table."""
    _add_reading_routes(app, gateway, store)
    _add_advice_routes(app, gateway, store)
    _add_writing_routes(app, gateway, store)


def _add_reading_routes(app: FastAPI, gateway: Gateway, store: Store) -> None:
    which = openapi.query("version", _VERSION, "An earlier version that is still kept; absent: the standing one.")

    @app.get("/v1/table", tags=["table"], responses=_SHOW, openapi_extra=openapi.taking(which))
    async def show_table(request: Request) -> Response:
        """The routing table, with its version as `ETag`. Hashes of keys are shortened; send them back as they are."""
        rights.operator(gateway, request)
        table = await _load(store, queries.integer(request, "version", 1, MAX_VERSION))
        return answer_json(tables.shown(table), version=table.version)

    first = openapi.query("from", _VERSION, "The earlier version; absent: the one before `to`.")
    last = openapi.query("to", _VERSION, "The later version; absent: the standing one.")

    @app.get("/v1/table/diff", tags=["table"], responses=_DIFF, openapi_extra=openapi.taking(first, last))
    async def diff_tables(request: Request) -> Response:
        """What leads from one version of the table to another, place by place."""
        rights.operator(gateway, request)
        earlier = queries.integer(request, "from", 1, MAX_VERSION)
        after = await _load(store, queries.integer(request, "to", 1, MAX_VERSION))
        is_first = earlier is None and after.version <= 1
        before = Table() if is_first else await _load(store, earlier or after.version - 1)
        found = await asyncio.to_thread(tables.told, before, after)
        return answer_json(Differences(before=before.version, after=after.version, differences=found))


def _add_advice_routes(app: FastAPI, gateway: Gateway, store: Store) -> None:
    @app.post(
        "/v1/table/validate",
        tags=["table"],
        responses=_VALIDATE,
        openapi_extra=openapi.body(tables.TableDocument, _SENT),
    )
    async def validate_table(request: Request) -> Response:
        """Whether a document could be published, all that is wrong with it, and what it would change."""
        rights.operator(gateway, request)
        body = await _document(gateway, request)
        now = await edits.standing(store)
        try:
            table = await asyncio.to_thread(tables.parse, body, now.table)
        except DocumentError as error:
            return answer_json(Validation(valid=False, problems=list(error.problems)))
        differences = await asyncio.to_thread(tables.told, now.table, table)
        return answer_json(Validation(valid=True, problems=[], differences=differences))

    example = {"tenant": "acme", "domain": "banking", "deadline_ms": 15}
    question = openapi.body(tables.Question, example)

    @app.post("/v1/table/explain", tags=["table"], responses=_EXPLAIN, openapi_extra=question)
    async def explain_request(request: Request) -> Response:
        """Which ticket would answer a request on this gateway now, and why each other ticket would not."""
        rights.operator(gateway, request)
        asked = await bodies.read(gateway, request, tables.Question)
        table = gateway.dispatcher.table
        if table is None:
            raise NotReady("no routing table has been published yet", retry_after_s=1.0)
        return answer_json(tables.answer(explain(asked.ask(), table, gateway.fleet.snapshot()), table.version))


def _add_writing_routes(app: FastAPI, gateway: Gateway, store: Store) -> None:
    drop = openapi.query("drop_tenants", bool, "Publish it although tenants that have accounts are not in it.")
    sent = openapi.taking(drop, _MATCH, **openapi.body(tables.TableDocument, _SENT))

    @app.put("/v1/table", tags=["table"], responses=_PUBLISH, openapi_extra=sent)
    async def publish_table(request: Request) -> Response:
        """Replace the whole table by a document, for all gateways at once."""
        caller = rights.operator(gateway, request)
        allowed, drops = _required_match(request), queries.flag(request, "drop_tenants")
        body = await _document(gateway, request)
        base = (await edits.standing(store)).table
        edits.check_match(allowed, base.version)
        try:
            new = await asyncio.to_thread(tables.parse, body, base)
        except DocumentError as error:
            raise tables.refusal(error.problems) from error

        def make(standing: Standing) -> Change:
            _check_stands(allowed, base, standing.table)
            if not drops:
                tables.check_drops(standing, new)
            table = msgspec.structs.replace(new, version=base.version)
            return Change(event=tables.event(caller, "table.publish", base, table), table=table)

        done = await edits.commit(store, caller, make)
        assert done.table is not None
        return _published(base, done.table)

    chosen = openapi.taking(_MATCH, **openapi.body(Restoration, {"version": 6, "reason": "the floors refuse too much"}))

    @app.post("/v1/table/restore", tags=["table"], responses=_RESTORE, openapi_extra=chosen)
    async def restore_table(request: Request) -> Response:
        """Bring back the families and domains of an earlier version. Keys and accounts stay; so do deletions."""
        caller = rights.operator(gateway, request)
        allowed = _required_match(request)
        wanted = await bodies.read(gateway, request, Restoration)
        base, new = await _restored(store, wanted.version, allowed)

        def make(standing: Standing) -> Change:
            _check_stands(allowed, base, standing.table)
            told = tables.event(caller, "table.restore", base, new, wanted.reason, restored=wanted.version)
            return Change(event=told, table=new)

        done = await edits.commit(store, caller, make)
        assert done.table is not None
        return _published(base, done.table)


async def _document(gateway: Gateway, request: Request) -> bytes:
    """The body of a request that carries a table; an empty one is none. Raises BadRequest, TooLarge."""
    try:
        body = await edge.read_body(
            dict(request.scope["headers"]), request.receive, MAX_DOCUMENT_BYTES, gateway.deadlines
        )
    except edge.ClientGone as error:
        raise BadRequest("the connection ended before the body did") from error  # nobody reads this answer
    if not body.strip():
        raise BadRequest("send the table as JSON, whole: GET /v1/table shows the one that stands")
    return body


async def _restored(store: Store, version: int, allowed: frozenset[str] | None) -> tuple[Table, Table]:
    """The standing table, and what restoring ``version`` makes of it. Raises ApiError."""
    base = (await edits.standing(store)).table
    edits.check_match(allowed, base.version)
    earlier = await _load(store, version)
    try:
        ended = await ended_since(version, lambda before: store.events(count=_EVENTS_PAGE, before=before))
    except (StoreUnavailable, StoreCorrupt) as error:
        raise ControlPlaneGone("the audit log cannot be read now", retry_after_s=1.0) from error
    if ended is None:
        raise Conflict(
            f"the audit log no longer tells which tenants were deleted since version {version}: look at it with GET, "
            "then publish what is still right of it"
        )
    try:
        return base, check(restored(base, earlier, ended))
    except DocumentError as error:
        raise Conflict(f"version {version} does not fit what stands now: {error}") from error


async def _load(store: Store, version: int | None) -> Table:
    """A version of the table, or the standing one: an empty one where none has been published. Raises ApiError."""
    try:
        table = await store.load_table(version)
        if table is not None or version is None:
            return table if table is not None else Table()
        kept = ", ".join(map(str, await store.versions())) or "none"
    except (StoreUnavailable, StoreCorrupt) as error:
        raise ControlPlaneGone("Redis cannot be reached; inference goes on", retry_after_s=1.0) from error
    raise NotFound(f"version {version} of the table is not kept; those that are: {kept}")


def _required_match(request: Request) -> frozenset[str] | None:
    if "if-match" not in request.headers:
        raise BadRequest('send If-Match with the version that this was made from (the ETag of GET /v1/table), or "*"')
    return edits.if_match(request)


def _check_stands(allowed: frozenset[str] | None, base: Table, standing: Table) -> None:
    """Raise where the table is not the one any more that the new one was made from."""
    edits.check_match(allowed, standing.version)
    if standing.version != base.version:  # If-Match: *, and somebody was quicker
        raise Conflict(f"the table is at version {standing.version} now; try again")


def _published(base: Table, table: Table) -> Response:
    return answer_json(
        Published(version=table.version, differences=tables.told(base, table)), version=table.version
    )  # fmt: skip
