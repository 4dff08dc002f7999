"""The audit log's routes: all events for operators, a tenant's own for the tenant.

Owns the pages and the rule that a tenant sees nothing of another one that had its name before. Events are written by
whoever changes something, in the same step; how they are kept belongs to `routing.redis.events`.
"""

from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from msgspec import Meta

from routing.account import Account
from routing.event import Event
from routing.restore import TENANT_CREATED, TENANT_DELETED
from routing.store import Store, StoreCorrupt, StoreUnavailable
from server import openapi
from server.admin import edits, queries, rights
from server.admin.answers import answer_json
from server.admin.views import EventList
from server.errors import BadRequest, ControlPlaneGone
from server.gateway import Gateway

DEFAULT_COUNT, MAX_COUNT = 100, 1000
_MAX_KNOWN = 10_000

_EVENT: dict[str, Any] = {
    "id": "1790000000000-0", "at": 1_790_000_000.25, "action": "ticket.promote", "actor": "tenant/acme/5f3c0a9be412",
    "tenant": "acme", "subject": openapi.TICKET, "before": {"state": "registered"}, "after": {"state": "promoted"},
    "reason": "better on every set", "table_version": 8,
}  # fmt: skip
_ANSWER = openapi.answer(EventList, {"events": [_EVENT], "next": "1790000000000-0"})
_EVENTS = _ANSWER | openapi.errors("bad_request", "forbidden", "control_plane_unavailable")
_OWN = _ANSWER | openapi.errors("bad_request", "forbidden", "unknown_tenant", "control_plane_unavailable")
_COUNT = openapi.query(
    "count", Annotated[int, Meta(ge=1, le=MAX_COUNT)], f"At most so many; absent: {DEFAULT_COUNT}."
)  # fmt: skip
_BEFORE = openapi.query(
    "before", Annotated[str, Meta(pattern=r"^[0-9]{1,15}-[0-9]{1,9}\Z")],
    "Only events older than the one with this id: `next` of the page before.",
)  # fmt: skip
_TENANT = openapi.query("tenant", str, "Only this tenant's.")


def add_event_routes(app: FastAPI, gateway: Gateway, store: Store) -> None:
    """Add the routes of the audit log."""
    beginnings = _Beginnings(store)

    @app.get("/v1/events", tags=["events"], responses=_EVENTS, openapi_extra=openapi.taking(_TENANT, _COUNT, _BEFORE))
    async def list_events(request: Request) -> Response:
        """Every change of the installation, newest first. For operators."""
        rights.operator(gateway, request)
        found, after = await _page(store, request, queries.text(request, "tenant"))
        return answer_json(EventList(events=found, next=after))

    @app.get(
        "/v1/tenants/{tenant}/events", tags=["events"], responses=_OWN, openapi_extra=openapi.taking(_COUNT, _BEFORE)
    )
    async def list_own_events(request: Request) -> Response:
        """Every change of one tenant, newest first. For its register and admin keys, and for operators."""
        name = request.path_params["tenant"]
        caller = rights.authorize(gateway, request, name, "register")
        account = (await edits.standing(store)).account(name)
        found, after = await _page(store, request, name)
        if caller.tenant is not None:
            first = await beginnings.of(account)
            own = [event for event in found if _order(event.id) >= first]
            found, after = own, after if len(own) == len(found) else None
        return answer_json(EventList(events=found, next=after))


class _Beginnings:
    """Where in the log each tenant begins: what is older belongs to another that had its name before.

    Looked for once for each account, because the log may be long; by ids, because clocks may differ.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, float], tuple[int, int]] = {}

    async def of(self, account: Account) -> tuple[int, int]:
        """The id of its first event, as `_order` has it. Raises ControlPlaneGone."""
        key = (account.name, account.created_at)
        if key not in self._known:
            first = await self._find(account.name)
            if not account.created_at:  # it stands in the table only: another may take its place unnoticed
                return first
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = first
        return self._known[key]

    async def _find(self, tenant: str) -> tuple[int, int]:
        before: str | None = None
        while events := await _read(self._store, tenant, MAX_COUNT, before):
            for event in events:
                if event.action == TENANT_CREATED:
                    return _order(event.id)
                if event.action == TENANT_DELETED:
                    at_ms, number = _order(event.id)
                    return at_ms, number + 1
            before = events[-1].id
        return 0, 0


async def _page(store: Store, request: Request, tenant: str | None) -> tuple[list[Event], str | None]:
    """One page as the request asks for it, and where the next one begins. Raises BadRequest, ControlPlaneGone."""
    count = queries.integer(request, "count", 1, MAX_COUNT) or DEFAULT_COUNT
    before = queries.text(request, "before")
    found = await _read(store, tenant, count, before)
    return found, found[-1].id if len(found) == count else None


async def _read(store: Store, tenant: str | None, count: int, before: str | None) -> list[Event]:
    try:
        return await store.events(tenant, count=count, before=before)
    except (StoreUnavailable, StoreCorrupt) as error:
        raise ControlPlaneGone("the audit log cannot be read now; inference goes on", retry_after_s=1.0) from error
    except ValueError as error:
        raise BadRequest("before must be the id of an event") from error


def _order(event_id: str) -> tuple[int, int]:
    """What orders events by their ids: milliseconds, and a number among those of one millisecond."""
    at_ms, _, number = event_id.partition("-")
    return int(at_ms), int(number)
