"""The tenant routes: make, list, show, change, suspend and delete tenants.

A tenant's own keys may look; everything else is for operators. Owns paths and answers: what a change consists of is
`server.admin.tenants`', whose key a request carries `server.admin.rights`', the commit `server.admin.edits`', and keys
are `server.admin.keys_api`'s.
"""

import time
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response

from routing.access import make_key
from routing.account import OPERATOR
from routing.change import Change
from routing.store import Store
from routing.table import Table
from server import openapi
from server.admin import bodies, edits, queries, rights
from server.admin.answers import answer_json
from server.admin.edits import Standing
from server.admin.tenants import NewTenant, TenantChange, alteration, by, creation, deletion
from server.admin.views import Deleted, TenantList, TenantMade, TenantView, tenant_fields, tenant_view
from server.errors import BadRequest
from server.gateway import Gateway

_EXAMPLE: dict[str, Any] = {
    "tenant": "acme", "version": 3, "is_suspended": False,
    "limits": {"rate_per_s": 200.0, "concurrency": 64, "ticket_bytes": 4 << 30, "tickets": 200},
    "policy": {"requires_signature": False, "min_quality": 0.9}, "weight": 1.0, "reserved_bytes": 0,
    "domains": ["banking"], "keys": 2, "tickets": 1, "ticket_bytes": 2_101_352, "created_at": 1_790_000_000.0,
}  # fmt: skip
_MADE = _EXAMPLE | {"version": 1, "domains": [], "keys": 1, "key": "tk_...", "key_id": "5f3c0a9be412"}
_WRITING = ("bad_request", "forbidden", "conflict", "control_plane_unavailable")
_CREATE = openapi.answer(
    TenantMade, _MADE, status=201, description="Made; its key is shown this once"
) | openapi.errors(*_WRITING, "too_large")
_LIST = openapi.answer(TenantList, {"tenants": [_EXAMPLE]}) | openapi.errors("control_plane_unavailable")
_SHOW = openapi.answer(TenantView, _EXAMPLE) | openapi.errors("unknown_tenant", "control_plane_unavailable")
_CHANGE = openapi.answer(TenantView, _EXAMPLE) | openapi.errors(
    *_WRITING, "unknown_tenant", "precondition_failed", "too_large"
)
_DELETE = openapi.answer(Deleted, {"deleted": "acme"}) | openapi.errors(
    *_WRITING, "unknown_tenant", "precondition_failed"
)
_IF_MATCH = openapi.header("If-Match", 'The version that this is about, as its `ETag` said: `"3"`. Absent: any.')
_FORCE = openapi.query("force", bool, "Delete it although it answers requests.")


def add_tenant_routes(app: FastAPI, gateway: Gateway, store: Store) -> None:
    """Add every route about tenants."""
    _add_reading_routes(app, gateway, store)
    _add_creation(app, gateway, store)
    _add_changing_routes(app, gateway, store)


def _add_reading_routes(app: FastAPI, gateway: Gateway, store: Store) -> None:
    @app.get("/v1/tenants", tags=["tenants"], responses=_LIST)
    async def list_tenants(request: Request) -> Response:
        """The tenants that your key may see: all of them, or its own."""
        caller = rights.anyone(gateway, request)
        now = await edits.standing(store)
        names = {*now.table.tenants, *now.accounts} - {OPERATOR} if caller.tenant is None else {caller.tenant}
        seen = time.time()
        return answer_json(TenantList(tenants=[tenant_view(now, name, seen) for name in sorted(names)]))

    @app.get("/v1/tenants/{tenant}", tags=["tenants"], responses=_SHOW)
    async def show_tenant(request: Request) -> Response:
        """One tenant, with its version as `ETag`."""
        name = request.path_params["tenant"]
        rights.authorize(gateway, request, name, "call")
        view = tenant_view(await edits.standing(store), name, time.time())
        return answer_json(view, version=view.version)


def _add_creation(app: FastAPI, gateway: Gateway, store: Store) -> None:
    body = openapi.body(NewTenant, {"name": "acme", "limits": {"rate_per_s": 200.0, "concurrency": 64}})

    @app.post("/v1/tenants", tags=["tenants"], status_code=201, responses=_CREATE, openapi_extra=body)
    async def create_tenant(request: Request) -> Response:
        """Make a tenant, and its first key, an admin key. Operators only."""
        caller = rights.operator(gateway, request)
        wanted = await bodies.read(gateway, request, NewTenant)
        now = time.time()
        key, kept = make_key("admin", now, label="first key")
        done = await edits.commit(store, caller, lambda standing: creation(standing, wanted, kept, caller, now))
        assert done.table is not None
        standing = Standing(table=done.table, accounts={wanted.name: done.accounts[0]})
        view = TenantMade(**tenant_fields(standing, wanted.name, now), key=key, key_id=kept.id)
        return answer_json(view, status=201, version=view.version)


def _add_changing_routes(app: FastAPI, gateway: Gateway, store: Store) -> None:
    body = openapi.body(TenantChange, {"limits": {"rate_per_s": 50.0}, "reason": "the contract of March"})

    @app.patch(
        "/v1/tenants/{tenant}", tags=["tenants"], responses=_CHANGE, openapi_extra=openapi.taking(_IF_MATCH, **body)
    )
    async def change_tenant(request: Request) -> Response:
        """Change limits, policy, weight or reserved memory; suspend it or let it go on. Operators only."""
        name = request.path_params["tenant"]
        rights.authorize(gateway, request, name, "call")  # another tenant's key learns nothing of this one
        caller = rights.operator(gateway, request)
        given = await bodies.read(gateway, request, dict[str, Any])
        wanted, allowed, now = _as_change(given), edits.if_match(request), time.time()
        tables: list[Table] = []

        def make(standing: Standing) -> Change:
            edits.check_match(allowed, standing.account(name).version)
            tables.append(standing.table)
            return by(caller, alteration(standing, name, wanted, given, now))

        done = await edits.commit(store, caller, make)
        stands = Standing(table=done.table or tables[-1], accounts={name: done.accounts[0]})
        view = tenant_view(stands, name, now)
        return answer_json(view, version=view.version)

    @app.delete(
        "/v1/tenants/{tenant}", tags=["tenants"], responses=_DELETE, openapi_extra=openapi.taking(_FORCE, _IF_MATCH)
    )
    async def delete_tenant(request: Request) -> Response:
        """Delete a tenant with its keys, routes and tickets. Operators only."""
        name = request.path_params["tenant"]
        rights.authorize(gateway, request, name, "call")  # another tenant's key learns nothing of this one
        caller = rights.operator(gateway, request)
        force, allowed = queries.flag(request, "force"), edits.if_match(request)

        def make(standing: Standing) -> Change:
            edits.check_match(allowed, standing.account(name).version)
            return by(caller, deletion(standing, name, force=force))

        await edits.commit(store, caller, make)
        return answer_json(Deleted(deleted=name))


def _as_change(given: dict[str, Any]) -> TenantChange:
    """The body of a PATCH, checked. Raises BadRequest."""
    if not given.keys() - {"reason"}:
        raise BadRequest("say what is to be otherwise: is_suspended, limits, policy, weight or reserved_bytes")
    try:
        return msgspec.convert(given, TenantChange)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is not as it should be: {error}") from error
