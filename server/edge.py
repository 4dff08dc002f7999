"""The HTTP edge: from ASGI messages to a bounded body, from an error to JSON. No routes here.

Owns the limits on a body (size while it is read, size after inflation, time), request ids,
where a key and a promise stand in the headers, and the one form of every error. It is written
against ASGI directly because it runs on every request.
"""

import asyncio
import itertools
import math
import re
import secrets
import zlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response

from server.deadlines import Deadlines
from server.errors import ApiError, BadRequest, TooLarge, Unauthorized

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = dict[bytes, bytes]

RESPOND = "tombola.respond"
"""Where an ASGI scope carries `server.http_answer.respond` for its request."""
BODY_S = 10.0
"""A body that takes longer to arrive is given up."""
DISCARD_BYTES = 16 << 20
DISCARD_S = 2.0
"""How much of a refused body is still read away, so that the client hears why instead of a reset."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_PRIORITIES = (b"1", b"2", b"3")
_JSON = (b"content-type", b"application/json")


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


class LateBody(BadRequest):
    """The body did not arrive in time; the connection is of no use any more."""


class RequestIds:
    """Gives every request an id: the caller's own if it is sane, else one that is cheap and unique."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def of(self, headers: Headers) -> str:
        """The id of the request with these headers."""
        given = headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given.decode("ascii")
        return f"{self._prefix}-{next(self._numbers):x}"


def key_of(headers: Headers) -> str:
    """The caller's API key. Raises Unauthorized where there is none."""
    authorization = headers.get(b"authorization")
    if authorization is not None:
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() == b"bearer" and key:
            return key.strip().decode("latin-1")
    key = headers.get(b"x-api-key", b"")
    if not key:
        raise Unauthorized("send your API key: Authorization: Bearer tk_... (or X-API-Key)")
    return key.decode("latin-1")


class Promise(NamedTuple):
    """What the headers ask for; None where they say nothing."""

    tier: str | None
    deadline_ms: float | None
    priority: int | None


def promise_of(headers: Headers) -> Promise:
    """Tier, deadline and priority that the headers ask for. Raises BadRequest."""
    tier = headers.get(b"x-tombola-tier")
    deadline = headers.get(b"x-tombola-deadline-ms")
    deadline_ms: float | None = None
    if deadline is not None:
        try:
            deadline_ms = float(deadline)
        except ValueError as error:
            raise BadRequest("X-Tombola-Deadline-Ms must be a number") from error
        if not math.isfinite(deadline_ms) or deadline_ms < 0:
            raise BadRequest("X-Tombola-Deadline-Ms must be a finite number that is not negative")
    priority = headers.get(b"x-tombola-priority")
    if priority is not None and priority not in _PRIORITIES:
        raise BadRequest("X-Tombola-Priority must be 1 (first), 2 or 3 (last)")
    return Promise(
        None if tier is None else tier.decode("latin-1"), deadline_ms, None if priority is None else int(priority)
    )


async def read_body(headers: Headers, receive: Receive, limit: int, deadlines: Deadlines) -> bytes:
    """The request's body, inflated if it came compressed; never holds more than ``limit`` bytes of either.

    Raises TooLarge, BadRequest, ClientGone.
    """
    declared = headers.get(b"content-length", b"")
    if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        if b"expect" not in headers:  # who asked for permission first has sent nothing yet
            await _discard(receive)
        raise TooLarge(f"the body has {declared[:20].decode()} bytes; the limit is {limit}")
    try:
        with deadlines.within(BODY_S):
            body, has_more = await _read_up_to(limit, receive)
    except TimeoutError as error:
        raise LateBody(f"the body did not arrive within {BODY_S:g} s") from error
    if len(body) > limit:
        if has_more:
            await _discard(receive)
        raise TooLarge(f"the body is larger than the limit of {limit} bytes")
    encoding = headers.get(b"content-encoding")
    return body if encoding is None else inflate(body, encoding.strip().lower(), limit)


def inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Undo gzip or deflate, to at most ``limit`` bytes. Raises TooLarge, BadRequest."""
    if encoding in (b"", b"identity"):
        return body
    window = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}.get(encoding)
    if window is None:
        raise BadRequest(
            f"Content-Encoding {encoding[:32].decode('latin-1')!r} is not supported: send gzip, deflate or none"
        )
    inflater = zlib.decompressobj(window)
    try:
        data = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not valid {encoding.decode()}: {error}") from error
    if len(data) > limit:
        raise TooLarge(f"the body inflates to more than {limit} bytes")
    if not inflater.eof or inflater.unused_data:
        raise BadRequest(f"the body is not exactly one {encoding.decode()} stream")
    return data


async def send_json(scope: Scope, send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Answer with a JSON body."""
    await send_body(scope, send, status, body, [_JSON, *headers])


async def send_body(scope: Scope, send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Answer with a body whose content type is among ``headers``; in one write, where the server offers that."""
    headers.append((b"content-length", b"%d" % len(body)))
    respond = scope.get(RESPOND)
    if respond is not None and respond(status, headers, body):
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def json_response(document: object) -> Response:
    """A 200 answer of an ordinary route."""
    return Response(msgspec.json.encode(document), media_type="application/json")


def error_parts(error: ApiError, request_id: str) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Body and headers (less the content type) of an error: the one form that every error has."""
    body = msgspec.json.encode({"error": error.message, "code": error.code, "request_id": request_id})
    headers = [(b"x-request-id", request_id.encode()), *error.headers]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, TooLarge | LateBody):
        headers.append((b"connection", b"close"))
    return body, headers


async def send_error(
    scope: Scope, send: Send, error: ApiError, request_id: str, more: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer with an error, and with ``more`` headers."""
    body, headers = error_parts(error, request_id)
    await send_json(scope, send, error.status, body, [*headers, *more])


async def _next(receive: Receive) -> MutableMapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


async def _read_up_to(limit: int, receive: Receive) -> tuple[bytes, bool]:
    """The body, or what was read when it passed ``limit``; and whether more of it follows."""
    message = await _next(receive)
    body, has_more = message.get("body", b""), message.get("more_body", False)
    if not has_more:
        return body, False
    parts, size = [body], len(body)
    while has_more and size <= limit:
        message = await _next(receive)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        has_more = message.get("more_body", False)
    return b"".join(parts), has_more


async def _discard(receive: Receive) -> None:
    """Read a refused body away, within bounds."""
    size = 0
    try:
        async with asyncio.timeout(DISCARD_S):
            while size <= DISCARD_BYTES:
                message = await _next(receive)
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
