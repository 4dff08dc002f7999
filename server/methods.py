"""HEAD, OPTIONS and methods that a path does not have, for every ordinary route at once.

Owns what FastAPI leaves out: HEAD is answered as GET without its body, OPTIONS with the methods that the path has, and
any other method with 405 and all of them in `Allow`. A middleware: the hot routes are found before it and do not pay.
"""

from typing import Any

from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp

from server import edge
from server.errors import MethodNotAllowed
from server.gateway import Gateway


class HeadAndOptions:
    """The middleware. It needs the application in the scope, where Starlette puts it."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: edge.Scope, receive: edge.Receive, send: edge.Send) -> None:
        """ASGI."""
        allowed = methods_of(scope) if scope["type"] == "http" else frozenset[str]()
        method = scope.get("method", "")
        if not allowed or method in allowed:  # a path that does not exist is the router's to refuse
            await self._app(scope, receive, send)
        elif method == "HEAD" and "GET" in allowed:
            asked = {name: value for name, value in scope.items() if name != edge.RESPOND} | {"method": "GET"}
            await self._app(asked, receive, _without_body(send))
        elif method == "OPTIONS":
            start = {"type": "http.response.start", "status": 204, "headers": [_allow(allowed)]}
            await send(start)
            await send({"type": "http.response.body"})
        else:
            error = MethodNotAllowed(f"{method[:32]} is not for {scope['path'][:128]}")
            request_id = self._gateway.request_ids.of(dict(scope["headers"]))
            body, headers = edge.error_parts(error, request_id)
            response = Response(body, error.status, media_type="application/json")
            response.raw_headers += [*headers, _allow(allowed)]
            await response(scope, receive, send)  # the server knows that an answer to HEAD has no body


def methods_of(scope: edge.Scope) -> frozenset[str]:
    """The methods of the routes at a request's path; empty where there is none, or one that takes any method."""
    found: set[str] = set()
    for route in scope["app"].router.routes:
        match, _ = route.matches(scope)
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return frozenset(found)


def _allow(allowed: frozenset[str]) -> tuple[bytes, bytes]:
    every = allowed | {"OPTIONS"} | ({"HEAD"} if "GET" in allowed else set())
    return b"allow", ", ".join(sorted(every)).encode()


def _without_body(send: edge.Send) -> edge.Send:
    async def send_head(message: Any) -> None:  # noqa: ANN401
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
