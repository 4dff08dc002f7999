"""The API's description, /openapi.json and /docs: schemas, examples and every error status.

Owns the words and the document. The ordinary routes bring their own operations; the hot
routes are bare ASGI, so theirs are written here, with schemas taken from the very structs that
parse the requests.
"""

import re
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server import classify, oip
from server.errors import BY_CODE, ApiError

Responses = dict[int | str, dict[str, Any]]

DESCRIPTION = """\
Tombola answers with the most accurate *ticket* (a sparse subnetwork) of a domain's family that still meets the
deadline of the tier you ask for, and says which one answered.

Send your API key as `Authorization: Bearer tk_...` or `X-API-Key`. Every error is JSON with `error` (what
happened and what to do), `code` (stable) and `request_id`.
"""
_TICKET = "3f9a61c0d2b47e58" * 4
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
    "version": {"description": "A ticket id, or at least its first 8 hex digits.", "example": _TICKET[:12]},
}
_PROMISE_HEADERS = [
    {
        "name": "X-Tombola-Tier", "in": "header", "schema": {"type": "string"},
        "description": "The tier, where the body names none.",
    },
    {
        "name": "X-Tombola-Deadline-Ms", "in": "header", "schema": {"type": "number", "minimum": 0},
        "description": "The caller's deadline in milliseconds, where the body names none.",
    },
    {
        "name": "X-Tombola-Priority", "in": "header", "schema": {"type": "integer", "minimum": 1, "maximum": 3},
        "description": "Among your own requests, 1 goes before 2 (the default) before 3, where the body names none.",
    },
    {
        "name": "X-Request-Id", "in": "header", "schema": {"type": "string"},
        "description": "Comes back unchanged; one is made up where there is none.",
    },
]  # fmt: skip
_HOT_ERRORS = (
    "bad_request", "unauthorized", "unknown_domain", "unknown_tier", "unknown_version", "too_large", "internal",
    "inference_failed", "unsupported", "below_quality_floor", "no_worker", "overloaded", "worker_lost",
    "ticket_unavailable", "not_ready", "deadline_exceeded",
)  # fmt: skip


def ok(example: object, description: str = "Success") -> Responses:
    """A 200 answer that is documented by an example."""
    return {200: {"description": description, "content": {"application/json": {"example": example}}}}


def errors(*codes: str) -> Responses:
    """The statuses that these error codes are answered with, one entry each."""
    by_status: dict[int, list[type[ApiError]]] = {}
    for code in codes:
        by_status.setdefault(BY_CODE[code].status, []).append(BY_CODE[code])
    return {
        status: {
            "description": " ".join(f"`{kind.code}`: {' '.join((kind.__doc__ or '').split())}" for kind in kinds),
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/Error"},
                    "example": {"error": "what happened", "code": kinds[0].code, "request_id": "4bf92f3577b3-1"},
                }
            },
        }
        for status, kinds in by_status.items()
    }


LIVE = ok({"live": True})
READY = ok({"ready": True, "live": True}) | errors("not_ready")
SERVER = ok({"name": "tombola", "version": "0.1.0", "extensions": ["binary_tensor_data", "model_repository"]})
MODEL_LIST = ok(
    {"object": "list", "data": [{"id": "banking", "object": "model", "created": 0, "owned_by": "acme"}]}
) | errors("unauthorized", "not_ready")
MODEL = ok(
    {
        "name": "banking",
        "versions": [_TICKET[:12]],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}],
        "properties": {"task": "text-classification", "tiers": "accurate,fast", "default_tier": "fast"},
    }
) | errors("unauthorized", "unknown_domain", "unknown_version", "not_ready")
MODEL_READY = ok({"name": "banking", "ready": True}) | errors(
    "unauthorized", "unknown_domain", "unknown_version", "not_ready"
)
INDEX = ok([{"name": "banking", "version": _TICKET[:12], "state": "READY", "reason": ""}]) | errors(
    "bad_request", "unauthorized", "too_large", "not_ready"
)
UNSUPPORTED: Responses = errors("unauthorized", "not_ready", "unsupported")

_CLASSIFY_REQUEST = {"domain": "banking", "text": ["where is my new card?"], "tier": "fast", "top_k": 2}
_CLASSIFY_ANSWER = {
    "domain": "banking",
    "tier": "fast",
    "ticket": _TICKET,
    "parent": _TICKET[::-1],
    "because": "best ticket of tier fast within 15 ms",
    "results": [
        {
            "label": "card_arrival",
            "probability": 0.97,
            "in_scope": True,
            "in_scope_score": 0.99,
            "top": [{"label": "card_arrival", "probability": 0.97}, {"label": "order_card", "probability": 0.01}],
        }
    ],
    "timings_ms": {"queue": 0.2, "run": 1.1, "total": 1.9, "predicted": 2.1},
    "request_id": "4bf92f3577b3-1",
}
_INFER_REQUEST = {
    "id": "42",
    "parameters": {"tier": "fast", "deadline_ms": 20},
    "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["where is my new card?"]}],
    "outputs": [{"name": "label"}, {"name": "probability"}],
}
_INFER_ANSWER = {
    "model_name": "banking",
    "model_version": _TICKET[:12],
    "id": "42",
    "parameters": {
        "ticket": _TICKET, "parent": _TICKET[::-1], "tier": "fast", "because": "best ticket of tier fast within 15 ms",
        "queue_ms": 0.2, "run_ms": 1.1, "total_ms": 1.9, "predicted_ms": 2.1,
    },
    "outputs": [
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["card_arrival"]},
        {"name": "probability", "datatype": "FP32", "shape": [1], "data": [0.97]},
    ],
}  # fmt: skip


def document(app: FastAPI) -> dict[str, Any]:
    """The whole OpenAPI document, built once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, schemas = msgspec.json.schema_components(
        [classify.Request, classify.Response, oip.Request, oip.Response], ref_template="#/components/schemas/{name}"
    )
    # Both forms have a Request and a Response: msgspec qualifies those names, which a $ref cannot carry readably.
    renamed = {name: name.replace("server_", "").replace("server.", "").replace(".", "_") for name in schemas}
    text = msgspec.json.encode(schemas).decode()
    for name, better in renamed.items():
        text = text.replace(f'"#/components/schemas/{name}"', f'"#/components/schemas/{better}"')
    components = described.setdefault("components", {})
    components["schemas"] = {renamed[k]: v for k, v in msgspec.json.decode(text).items()} | {"Error": _ERROR}
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    described["paths"] = _hot_paths() | described["paths"]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation)
    app.openapi_schema = described
    return described


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    """What all operations have in common: path parameters, authentication, a name of their own, 405."""
    named = re.findall(r"{(\w+)}", path)
    operation["parameters"] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, **_PARAMETERS[name]}
        for name in named
    ] + [p for p in operation.get("parameters", []) if p["in"] != "path"]
    is_open = path == "/v2" or "/health/" in path
    operation["security"] = [] if is_open else [{"bearer": []}, {"api_key": []}]
    operation["operationId"] = "_".join([method, *re.findall(r"\w+", path)])
    operation["responses"] = {str(status): response for status, response in operation["responses"].items()}


def _hot_paths() -> dict[str, Any]:
    infer = _operation(
        "Infer, in the Open Inference Protocol", "inference", (_request("oip_Request"), _INFER_REQUEST, _INFER_ANSWER)
    )
    infer["description"] = (
        "JSON, or JSON followed by raw tensors (`Inference-Header-Content-Length`, the binary tensor extension). "
        "`parameters` may carry `tier`, `deadline_ms`, or `timeout` in microseconds, and `priority`: 1 (first) to 3 "
        "(last) among your own requests, 0 for the default, 2."
    )
    short = _operation(
        "Classify texts, in the short form", "inference",
        (_request("classify_Request"), _CLASSIFY_REQUEST, _CLASSIFY_ANSWER),
    )  # fmt: skip
    return {
        "/v1/classify": {"post": short},
        "/v2/models/{model}/infer": {"post": infer},
        "/v2/models/{model}/versions/{version}/infer": {"post": dict(infer)},
    }


def _request(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _operation(summary: str, tag: str, described: tuple[dict[str, str], object, object]) -> dict[str, Any]:
    schema, request, answer = described
    response = {"$ref": schema["$ref"].replace("Request", "Response")}
    return {
        "summary": summary,
        "tags": [tag],
        "parameters": list(_PROMISE_HEADERS),
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": request}}},
        "responses": {
            200: {
                "description": "The answer, with the ticket that gave it",
                "content": {"application/json": {"schema": response, "example": answer}},
            }
        }
        | errors(*_HOT_ERRORS),
    }
