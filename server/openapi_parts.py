"""The parts that descriptions of routes are made of: answers, bodies, query parameters, errors.

Owns how each of them is written in OpenAPI, so that routes say what they take and give in one line each. Schemas are
made from the very structs that parse and render; `server.openapi` gathers them into the document.
"""

from typing import Any

import msgspec

from server.errors import BY_CODE, ApiError

Responses = dict[int | str, dict[str, Any]]

TICKET = "3f9a61c0d2b47e58" * 4
"""A ticket's id, for examples."""
CARRIED = "x-carried"
"""Under this name a description carries its example, and the schemas that its own refers to, until the document takes
them out: as a string, because FastAPI would drop every null of them."""
_REF = "#/components/schemas/{name}"


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


def answer(kind: Any, example: object, *, status: int = 200, description: str = "Success") -> Responses:  # noqa: ANN401
    """A JSON answer of one type, with an example (a struct, or anything that JSON has)."""
    return {status: {"description": description, "content": {"application/json": content(kind, example)}}}


def body(kind: Any, example: object, *, is_required: bool = True, description: str = "") -> dict[str, Any]:  # noqa: ANN401
    """A JSON body of one type: to be given to a route as ``openapi_extra``."""
    described = {"required": is_required, "content": {"application/json": content(kind, example)}}
    return {"requestBody": described | ({"description": description} if description else {})}


def content(kind: Any, example: object) -> dict[str, Any]:  # noqa: ANN401
    """What a body of this type looks like. ``kind``: whatever msgspec can decode."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template=_REF)
    return {"schema": schema, CARRIED: msgspec.json.encode({"example": example, "components": components}).decode()}


def query(name: str, kind: Any, description: str) -> dict[str, Any]:  # noqa: ANN401
    """A query parameter that may be absent."""
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def header(name: str, description: str, *, is_required: bool = False) -> dict[str, Any]:
    """A header of a request."""
    return {
        "name": name, "in": "header", "required": is_required, "schema": {"type": "string"}, "description": description,
    }  # fmt: skip


def taking(*parameters: dict[str, Any], **body_of: Any) -> dict[str, Any]:  # noqa: ANN401
    """What a route takes, as ``openapi_extra``: parameters, and what `body` gives."""
    return {**body_of, **({"parameters": list(parameters)} if parameters else {})}
