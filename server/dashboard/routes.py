"""The dashboard's routes: the page, its files, and GET /v1/overview.

Owns their headers: what browsers may keep, what the page may load (nothing but its own files), and compression. They
belong on the port that has the admin API, because the page works with both. The page is for everybody, it holds
nothing; the overview needs a key.
"""

from typing import Annotated

from fastapi import FastAPI, Request, Response
from msgspec import Meta

from server import openapi
from server.admin import queries, rights
from server.dashboard.assets import Asset, Assets
from server.dashboard.board import Dashboard
from server.dashboard.example import EXAMPLE
from server.dashboard.history import SLOTS, STEP_S
from server.dashboard.overview import Overview
from server.errors import NotFound
from server.gateway import Gateway

WINDOWS_S = (60, 300, 900)
MAX_WINDOW_S = int(SLOTS * STEP_S)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_FOR_GOOD = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_OVERVIEW = openapi.answer(Overview, EXAMPLE) | openapi.errors("bad_request")
_WINDOW = openapi.query(
    "window_s", Annotated[int, Meta(ge=10, le=MAX_WINDOW_S)], "Of the last so many seconds; absent: 60."
)  # fmt: skip


def add_dashboard_routes(app: FastAPI, gateway: Gateway, dashboard: Dashboard, assets: Assets | None = None) -> None:
    """Add the page and its data to an application."""
    files = assets or Assets()

    @app.get("/dashboard", include_in_schema=False)
    async def page(request: Request) -> Response:
        return _file(request, files.page, _ASK_AGAIN)

    @app.get("/dashboard/", include_in_schema=False)
    async def page_elsewhere() -> Response:
        return Response(status_code=308, headers={"location": "../dashboard"})  # a proxy may have put a path before it

    @app.get("/dashboard/assets/{path:path}", include_in_schema=False)
    async def file(request: Request, path: str) -> Response:
        found = files.find(path)
        if found is None:
            raise NotFound("the dashboard has no such file")
        asset, is_for_good = found
        return _file(request, asset, _FOR_GOOD if is_for_good else _ASK_AGAIN)

    @app.get("/v1/overview", tags=["dashboard"], responses=_OVERVIEW, openapi_extra=openapi.taking(_WINDOW))
    async def overview(request: Request) -> Response:
        """How everything is now: traffic against its promises, families, problems and what to do, the last events.

        An operator's key gets everything, with all processes; a tenant's gets what is its own. It is what the page at
        /dashboard shows; it is made at most once in two seconds, however often it is asked for.
        """
        caller = rights.anyone(gateway, request)
        window_s = queries.integer(request, "window_s", 10, MAX_WINDOW_S) or WINDOWS_S[0]
        body = await dashboard.overview(caller, _nearest(window_s))
        headers = {"cache-control": "no-store", "vary": "Accept-Encoding", "x-content-type-options": "nosniff"}
        return _sent(request, body.plain, body.zipped, headers, "application/json")


def _nearest(window_s: int) -> int:
    """One of few windows, so that pages share what is made for them: the shortest that holds all that is asked for."""
    return next((window for window in WINDOWS_S if window >= window_s), WINDOWS_S[-1])


def _file(request: Request, asset: Asset, keep: str) -> Response:
    headers = {**_SAFE, "cache-control": keep, "etag": asset.etag, "vary": "Accept-Encoding"}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or asset.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return _sent(request, asset.plain, asset.zipped, headers, asset.media_type)


def _sent(
    request: Request, plain: bytes, zipped: bytes | None, headers: dict[str, str], media_type: str
) -> Response:  # fmt: skip
    if zipped is not None and _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(zipped, headers={**headers, "content-encoding": "gzip"}, media_type=media_type)
    return Response(plain, headers=headers, media_type=media_type)


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() in ("gzip", "*"):
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
