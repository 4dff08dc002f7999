"""One gateway's parts as its HTTP routes see them: who is asking, for which model, and can we serve.

Owns the request ids and the draining flag. Composed in `server.run_gateway`; the routes are
in `server.api`, `server.models_api` and `server.ops`.
"""

from fastapi import Request

from routing.access import Caller
from routing.account import Role
from routing.table import Table
from server import edge
from server.admin.pace import Pace
from server.catalogue import Catalogue, Model
from server.deadlines import Deadlines
from server.dispatch import Dispatcher
from server.doorman import Doorman
from server.errors import NotReady
from server.fleet import WorkerFleet
from server.observer import Observer


class Gateway:
    """What the routes stand on: one gateway's parts, and whether it can serve."""

    def __init__(
        self, dispatcher: Dispatcher, catalogue: Catalogue, fleet: WorkerFleet, doorman: Doorman, version: str
    ) -> None:
        self.dispatcher = dispatcher
        self.catalogue = catalogue
        self.fleet = fleet
        self.doorman = doorman
        self.pace = Pace()
        self.version = version
        self.request_ids = edge.RequestIds()
        self.deadlines = Deadlines()
        self.observer = Observer()
        """What is noted of requests beside metrics: by itself nothing."""
        self.is_draining = False

    def check_ready(self) -> None:
        """Raise NotReady, with the reason, unless requests can be served now."""
        if self.is_draining:
            raise NotReady("this gateway is shutting down")
        if self.dispatcher.table is None:
            raise NotReady("no routing table has been published yet")
        if self.fleet.linked == 0:
            raise NotReady("no worker is connected")

    def use_table(self, table: Table) -> None:
        """Use ``table`` for every request from now on; those in flight end under the one they began with."""
        self.doorman.use_table(table)
        self.dispatcher.replace(table)

    def caller(self, headers: edge.Headers) -> Caller:
        """Whose key the request carries. Raises Unauthorized, Suspended, NotReady."""
        return self.doorman.caller(headers)

    def tenant(self, headers: edge.Headers, role: Role = "call") -> str:
        """The tenant whose key the request carries, which must have ``role``. Raises Forbidden too."""
        tenant = self.doorman.tenant(headers, role)
        if self.dispatcher.table is None or tenant not in self.dispatcher.table.tenants:
            raise NotReady("no routing table that names this tenant has arrived yet", retry_after_s=1.0)
        return tenant

    def model(self, request: Request) -> Model:
        """The model that a request's path and key name. Raises ApiError."""
        tenant = self.tenant(dict(request.scope["headers"]))
        return self.catalogue.model(self.dispatcher.table, tenant, request.path_params["model"])
