"""Bodies of the admin routes: small JSON documents, bounded, strict, with errors that name the field.

Owns reading one into a frozen Struct. An absent body is an empty object, because most routes have only options.
Uploads are not read here (`server.admin.spool`), nor are the bodies of the hot routes (`server.edge`).
"""

from typing import TypeVar

import msgspec
from fastapi import Request

from server import edge
from server.errors import BadRequest
from server.gateway import Gateway

MAX_BODY_BYTES = 64 << 10

T = TypeVar("T")


async def read(gateway: Gateway, request: Request, kind: type[T], limit_bytes: int = MAX_BODY_BYTES) -> T:
    """The request's JSON body as a ``kind``. Raises BadRequest, TooLarge."""
    headers = dict(request.scope["headers"])
    try:
        body = await edge.read_body(headers, request.receive, limit_bytes, gateway.deadlines)
    except edge.ClientGone as error:
        raise BadRequest("the connection ended before the body did") from error  # nobody reads this answer
    try:
        return msgspec.json.decode(body.strip() or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadRequest(f"the body is not as it should be: {error}") from error
