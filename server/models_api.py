"""The model routes: metadata, readiness, the list and the repository index, per tenant.

Owns what a tenant may learn about its own models, and only those: another tenant's model
is as unknown as one that nobody has. Ordinary FastAPI routes; inference is in `server.api`.
"""

from fastapi import FastAPI, Request, Response

from server import edge, forms, openapi
from server.catalogue import VERSION_DIGITS
from server.errors import NotReady, Unsupported
from server.gateway import Gateway

PLATFORM = "onnx_onnxv1"
_BUT = {
    "registered": "not promoted: it answers only who names this version",
    "canary": "on trial: it answers who names this version, and may answer a share of the other requests",
}
"""What the index says of a version that is ready but does not answer everybody."""


def add_model_routes(app: FastAPI, gateway: Gateway, max_body_bytes: int) -> None:
    """Add every route about models."""
    _add_metadata_routes(app, gateway)
    _add_repository_routes(app, gateway, max_body_bytes)


def _add_metadata_routes(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/v1/models", tags=["models"], responses=openapi.MODEL_LIST)
    async def list_models(request: Request) -> Response:
        """The calling tenant's domains, in the OpenAI form."""
        tenant = gateway.tenant(dict(request.scope["headers"]))
        assert gateway.dispatcher.table is not None
        domains = gateway.dispatcher.table.tenants[tenant].domains
        data = [{"id": name, "object": "model", "created": 0, "owned_by": tenant} for name in sorted(domains)]
        return edge.json_response({"object": "list", "data": data})

    @app.get("/v2/models/{model}", tags=["models"], responses=openapi.MODEL)
    @app.get("/v2/models/{model}/versions/{version}", tags=["models"], responses=openapi.MODEL)
    async def model_metadata(request: Request) -> Response:
        """A model's versions, inputs and outputs."""
        model = gateway.model(request)
        manifest = model.manifest
        if "version" in request.path_params:
            ticket = gateway.catalogue.version(model, request.path_params["version"])
            manifest = gateway.catalogue.manifest(ticket.id) or manifest
        return edge.json_response(
            {
                "name": model.oip.name,
                "versions": [ticket.id[:VERSION_DIGITS] for ticket in model.family],
                "platform": PLATFORM,
                "inputs": manifest.inputs,
                "outputs": manifest.outputs,
                "properties": {
                    "task": manifest.task,
                    "tiers": ",".join(model.domain.tiers),
                    "default_tier": model.domain.default_tier,
                },
            }
        )

    @app.get("/v2/models/{model}/ready", tags=["models"], responses=openapi.MODEL_READY)
    @app.get("/v2/models/{model}/versions/{version}/ready", tags=["models"], responses=openapi.MODEL_READY)
    async def model_ready(request: Request) -> Response:
        """Whether the model can be asked now."""
        model = gateway.model(request)
        if "version" in request.path_params:
            ticket = gateway.catalogue.version(model, request.path_params["version"])
            if gateway.catalogue.manifest(ticket.id) is None:
                raise NotReady("this version is not in the gateway's registry yet", retry_after_s=1.0)
        gateway.check_ready()
        return edge.json_response({"name": model.oip.name, "ready": True})


def _add_repository_routes(app: FastAPI, gateway: Gateway, max_body_bytes: int) -> None:
    @app.post("/v2/repository/index", tags=["repository"], responses=openapi.INDEX)
    async def repository_index(request: Request) -> Response:
        """Every version of every model of the calling tenant."""
        headers = dict(request.scope["headers"])
        tenant = gateway.tenant(headers)
        only_ready = forms.wants_ready(
            await edge.read_body(headers, request.receive, max_body_bytes, gateway.deadlines)
        )
        return edge.json_response(
            [entry for entry in _index(gateway, tenant) if entry["state"] == "READY" or not only_ready]
        )

    @app.post("/v2/repository/models/{model}/load", tags=["repository"], responses=openapi.UNSUPPORTED)
    @app.post("/v2/repository/models/{model}/unload", tags=["repository"], responses=openapi.UNSUPPORTED)
    async def load_or_unload(request: Request) -> Response:
        """Not offered: workers load tickets on demand, and the routing table says which exist."""
        gateway.tenant(dict(request.scope["headers"]))
        raise Unsupported("tickets are loaded on demand; publish a routing table to add or remove them")


def _index(gateway: Gateway, tenant: str) -> list[dict[str, str]]:
    table = gateway.dispatcher.table
    assert table is not None
    entries = []
    for name, domain in sorted(table.tenants[tenant].domains.items()):
        for ticket in table.families.get(domain.family, []):
            reason = _BUT.get(ticket.state, "")
            state = "READY"
            if gateway.catalogue.manifest(ticket.id) is None:
                state, reason = "UNAVAILABLE", "the ticket is not in this gateway's registry"
            elif gateway.fleet.linked == 0:
                state, reason = "UNAVAILABLE", "no worker is connected"
            entries.append({"name": name, "version": ticket.id[:VERSION_DIGITS], "state": state, "reason": reason})
    return entries
