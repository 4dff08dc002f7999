"""The API's description, /openapi.json and /docs: schemas, examples and every error status.

Owns the words that the data port's routes are described with, and the document: what FastAPI knows of the ordinary
routes, what `server.openapi_hot` says of the hot ones, and what all of them have in common. Routes describe
themselves with `server.openapi_parts`, which can be had from here.
"""

import re
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server import openapi_hot
from server.errors import BY_CODE
from server.openapi_parts import (
    CARRIED,
    TICKET,
    Responses,
    answer,
    body,
    content,
    errors,
    header,
    ok,
    query,
    taking,
)

__all__ = ["TICKET", "Responses", "answer", "body", "content", "document", "errors", "header", "ok", "query", "taking"]

DESCRIPTION = """\
Tombola answers with the most accurate *ticket* (a sparse subnetwork) of a domain's family that still meets the
deadline of the tier you ask for, and says which one answered.

Send your API key as `Authorization: Bearer tk_...` or `X-API-Key`. Every error is JSON with `error` (what
happened and what to do), `code` (stable) and `request_id`.
"""
_ERROR = {
    "type": "object",
    "required": ["error", "code", "request_id"],
    "properties": {
        "error": {"type": "string", "description": "What happened, and what to do next."},
        "code": {"type": "string", "enum": sorted(BY_CODE), "description": "Stable: programs may rely on it."},
        "request_id": {"type": "string"},
    },
}
_PARAMETERS = {
    "model": {"description": "A domain of the calling tenant.", "example": "banking"},
    "version": {"description": "A ticket id, or at least its first 8 hex digits.", "example": TICKET[:12]},
    "tenant": {"description": "A tenant's name.", "example": "acme"},
    "domain": {"description": "A domain of the tenant.", "example": "banking"},
    "ticket": {"description": "A ticket id, or at least its first 8 hex digits.", "example": TICKET[:12]},
    "key_id": {"description": "A key's id, as the list of keys shows it.", "example": "5f3c0a9be412"},
}
_OPEN = ("/v2", "/v2/health/live", "/v2/health/ready")
"""The paths that need no key."""
_EVERYWHERE = ("bad_request", "method_not_allowed", "internal")
"""What any path may answer: the head is not HTTP, the method is another path's, the fault is ours."""
_WITH_A_KEY = ("unauthorized", "suspended", "not_ready")
_WITH_A_BODY = ("too_large", "overloaded")

LIVE = ok({"live": True})
READY = ok({"ready": True, "live": True}) | errors("not_ready")
SERVER = ok({"name": "tombola", "version": "0.1.0", "extensions": ["binary_tensor_data", "model_repository"]})
MODEL_LIST = ok(
    {"object": "list", "data": [{"id": "banking", "object": "model", "created": 0, "owned_by": "acme"}]}
) | errors("unauthorized", "not_ready")
MODEL = ok(
    {
        "name": "banking",
        "versions": [TICKET[:12]],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}],
        "properties": {"task": "text-classification", "tiers": "accurate,fast", "default_tier": "fast"},
    }
) | errors("unauthorized", "unknown_domain", "unknown_version", "not_ready")
MODEL_READY = ok({"name": "banking", "ready": True}) | errors(
    "unauthorized", "unknown_domain", "unknown_version", "not_ready"
)
INDEX = ok([{"name": "banking", "version": TICKET[:12], "state": "READY", "reason": ""}]) | errors(
    "bad_request", "unauthorized", "too_large", "not_ready"
)
UNSUPPORTED: Responses = errors("unauthorized", "not_ready", "unsupported")


def document(app: FastAPI) -> dict[str, Any]:
    """The whole OpenAPI document, built once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    described["paths"] = {path: _plain(item) for path, item in described["paths"].items()}
    schemas: dict[str, Any] = {"Error": _ERROR}
    if any(getattr(route, "path", "") in openapi_hot.PATHS for route in app.routes):
        described["paths"] = openapi_hot.paths() | described["paths"]
        schemas |= openapi_hot.schemas()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            _gather(operation, schemas)
            _complete(path, method, operation)
    components = described.setdefault("components", {})
    components["schemas"] = dict(sorted(schemas.items()))
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    # Ours are Python's regular expressions: an end that no line end may follow is written $ elsewhere.
    app.openapi_schema = msgspec.json.decode(msgspec.json.encode(described).replace(b'\\\\Z"', b'$"'))
    return app.openapi_schema


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    """A path's operations; FastAPI shares nothing that we change."""
    return {method: dict(operation) for method, operation in item.items()}


def _gather(node: Any, schemas: dict[str, Any]) -> None:  # noqa: ANN401
    """Unpack what descriptions carry: examples into their places, schemas into the document's own."""
    if isinstance(node, dict):
        if CARRIED in node:
            carried = msgspec.json.decode(node.pop(CARRIED))
            node["example"] = carried["example"]
            for name, schema in carried["components"].items():
                if schemas.setdefault(name, schema) != schema:
                    raise ValueError(f"two schemas are called {name}: rename one of the structs")
        for value in node.values():
            _gather(value, schemas)
    elif isinstance(node, list):
        for value in node:
            _gather(value, schemas)


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    """What all operations have in common: path parameters, authentication, a name of their own, 405."""
    named = re.findall(r"{(\w+)}", path)
    operation["parameters"] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, **_PARAMETERS[name]}
        for name in named
    ] + [p for p in operation.get("parameters", []) if p["in"] != "path"]
    operation["security"] = [] if path in _OPEN else [{"bearer": []}, {"api_key": []}]
    operation["operationId"] = "_".join([method, *re.findall(r"\w+", path)])
    operation["responses"] = {str(status): response for status, response in operation["responses"].items()}
    shared = [*_EVERYWHERE, *(() if path in _OPEN else _WITH_A_KEY), *(_WITH_A_BODY if method == "post" else ())]
    if "{tenant}" in path and method not in ("get", "head"):
        shared.append("rate_limited")  # a tenant's changes are paced
    for code in shared:
        _also(operation["responses"], code)


def _also(responses: dict[str, Any], code: str) -> None:
    """Say that an operation may answer with this error too, unless it says so itself."""
    ((status, described),) = errors(code).items()
    standing = responses.setdefault(str(status), described)
    if f"`{code}`" not in standing["description"]:
        responses[str(status)] = {**standing, "description": f"{standing['description']} {described['description']}"}
