"""The description of the hot routes: they are bare ASGI, so FastAPI knows nothing of them.

Owns their operations in the OpenAPI document, with examples and every error they answer with. The document itself is
put together in `server.openapi`.
"""

from typing import Any

import msgspec

from server import classify, oip
from server.openapi_parts import TICKET, errors

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
    "bad_request", "unauthorized", "forbidden", "suspended", "rate_limited", "not_promoted", "unknown_domain",
    "unknown_tier", "unknown_version", "too_large", "internal", "inference_failed", "unsupported",
    "below_quality_floor", "no_worker", "overloaded", "worker_lost", "ticket_unavailable", "not_ready",
    "deadline_exceeded",
)  # fmt: skip
_CLASSIFY_REQUEST = {"domain": "banking", "text": ["where is my new card?"], "tier": "fast", "top_k": 2}
_CLASSIFY_ANSWER = {
    "domain": "banking",
    "tier": "fast",
    "ticket": TICKET,
    "parent": TICKET[::-1],
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
    "model_version": TICKET[:12],
    "id": "42",
    "parameters": {
        "ticket": TICKET, "parent": TICKET[::-1], "tier": "fast", "because": "best ticket of tier fast within 15 ms",
        "queue_ms": 0.2, "run_ms": 1.1, "total_ms": 1.9, "predicted_ms": 2.1,
    },
    "outputs": [
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["card_arrival"]},
        {"name": "probability", "datatype": "FP32", "shape": [1], "data": [0.97]},
    ],
}  # fmt: skip


PATHS = ("/v1/classify", "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")


def schemas() -> dict[str, Any]:
    """The schemas that the operations refer to, by name."""
    _, found = msgspec.json.schema_components(
        [classify.Request, classify.Response, oip.Request, oip.Response], ref_template="#/components/schemas/{name}"
    )
    # Both forms have a Request and a Response: msgspec qualifies those names, which a $ref cannot carry readably.
    renamed = {name: name.replace("server_", "").replace("server.", "").replace(".", "_") for name in found}
    text = msgspec.json.encode(found).decode()
    for name, better in renamed.items():
        text = text.replace(f'"#/components/schemas/{name}"', f'"#/components/schemas/{better}"')
    return {renamed[name]: schema for name, schema in msgspec.json.decode(text).items()}


def paths() -> dict[str, Any]:
    """The operations of the hot routes, by path and method."""
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
    return dict(zip(PATHS, ({"post": short}, {"post": infer}, {"post": dict(infer)}), strict=True))


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
