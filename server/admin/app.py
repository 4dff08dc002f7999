"""The admin API's composition: on the data port beside inference, or on a port of its own.

Owns which routes it has. With a port of its own, the data port knows nothing of them and answers as for any path that
does not exist. What the routes do is theirs; the hot routes of the data port are found before any of these are looked
at (`server.api`).
"""

from fastapi import FastAPI

from server import openapi
from server.admin.events_api import add_event_routes
from server.admin.keys_api import add_key_routes
from server.admin.moves_api import Judge
from server.admin.registration import Registrations
from server.admin.table_api import add_table_routes
from server.admin.tenants_api import add_tenant_routes
from server.admin.tickets_api import add_ticket_routes
from server.api import add_error_handlers, add_health_routes
from server.docs_page import add_docs_page
from server.gateway import Gateway
from server.methods import HeadAndOptions

DESCRIPTION = """\
The control plane of a Tombola installation: tenants and their keys, tickets from registration to retirement, the
routing table, and the audit log. Every change is atomic, attributable and in the log.

Send an operator's key, or a tenant's own, as `Authorization: Bearer tk_...` or `X-API-Key`.
"""


def create_admin_app(gateway: Gateway, registrations: Registrations, judge: Judge | None = None) -> FastAPI:
    """The admin port's application. ``judge`` tells how canaries stand."""
    app = FastAPI(
        title="Tombola control plane", version=gateway.version, description=DESCRIPTION, redirect_slashes=False,
        docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.add_middleware(HeadAndOptions, gateway=gateway)
    add_health_routes(app, gateway)
    add_admin_routes(app, gateway, registrations, judge)
    add_docs_page(app)
    add_error_handlers(app, gateway)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    return app


def add_admin_routes(app: FastAPI, gateway: Gateway, registrations: Registrations, judge: Judge | None = None) -> None:
    """Add every admin route to an application."""
    store = registrations.store
    add_tenant_routes(app, gateway, store)
    add_key_routes(app, gateway, store)
    add_ticket_routes(app, gateway, registrations, judge)
    add_table_routes(app, gateway, store)
    add_event_routes(app, gateway, store)
