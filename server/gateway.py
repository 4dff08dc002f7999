"""One gateway's parts as its HTTP routes see them: who is asking, for which model, and can we serve.

Owns the request ids and the draining flag. Composed in `server.run_gateway`; the routes are
in `server.api`, `server.models_api` and `server.ops`.
"""

from fastapi import Request

from routing.keys import tenant_of
from server import edge
from server.catalogue import Catalogue, Model
from server.deadlines import Deadlines
from server.dispatch import Dispatcher
from server.errors import NotReady, Unauthorized
from server.fleet import WorkerFleet


class Gateway:
    """What the routes stand on: one gateway's parts, and whether it can serve."""

    def __init__(self, dispatcher: Dispatcher, catalogue: Catalogue, fleet: WorkerFleet, version: str) -> None:
        self.dispatcher = dispatcher
        self.catalogue = catalogue
        self.fleet = fleet
        self.version = version
        self.request_ids = edge.RequestIds()
        self.deadlines = Deadlines()
        self.is_draining = False

    def check_ready(self) -> None:
        """Raise NotReady, with the reason, unless requests can be served now."""
        if self.is_draining:
            raise NotReady("this gateway is shutting down")
        if self.dispatcher.table is None:
            raise NotReady("no routing table has been published yet")
        if self.fleet.linked == 0:
            raise NotReady("no worker is connected")

    def tenant(self, headers: edge.Headers) -> str:
        """The tenant whose key the request carries. Raises Unauthorized, NotReady."""
        key = edge.key_of(headers)
        if self.dispatcher.table is None:
            raise NotReady("no routing table has been published yet", retry_after_s=1.0)
        tenant = tenant_of(self.dispatcher.table, key)
        if tenant is None:
            raise Unauthorized("this API key is not known")
        return tenant

    def model(self, request: Request) -> Model:
        """The model that a request's path and key name. Raises ApiError."""
        tenant = self.tenant(dict(request.scope["headers"]))
        return self.catalogue.model(self.dispatcher.table, tenant, request.path_params["model"])
