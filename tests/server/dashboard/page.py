"""The dashboard's page in a real browser, over real HTTP, with the overviews that a test gives it.

Owns the browser, the server of the page's own files (with the headers that gateways send), and what was asked of the
API. It holds no assertions, except that a page has no errors of its own. The page with a real installation behind it
is looked at in `test_page_live`.
"""

import asyncio
import contextlib
import json
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest
from fastapi import FastAPI

from routing.access import Caller
from server import edge
from server.api import add_error_handlers
from server.dashboard.board import Dashboard
from server.dashboard.overview import Overview
from server.dashboard.routes import add_dashboard_routes
from server.errors import NotReady
from server.gateway import Gateway
from server.http_server import HttpServer
from server.listen import listen
from tests.server.dashboard import documents

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page, Request, Route

api = pytest.importorskip("playwright.async_api", reason="playwright, which drives the browser, is not installed")

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
KEY = "tk_" + "k" * 43
WAIT_MS = 20_000.0
VIEWS = ("now", "families", "fleet", "events", "register", "try")


class Answer(NamedTuple):
    """What the API says to one request."""

    status: int
    body: dict[str, Any]


def refusal(status: int, code: str, message: str) -> Answer:
    """An error in the API's form."""
    return Answer(status, {"error": message, "code": code, "request_id": "test-1"})


def chromium() -> str:
    """Where Chromium is; skips the test where it is not."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        found = shutil.which(name)
        if found is not None:
            return found
    pytest.skip("no Chromium here")


class Nobody:
    """In a gateway's place: overviews are answered in the browser. What a closing tab lets through ends here."""

    request_ids = edge.RequestIds()

    def caller(self, headers: edge.Headers) -> Caller:
        """Nobody is let in."""
        raise NotReady("there is no gateway behind this page")


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator["Browser"]:
    """A running Chromium."""
    path = chromium()
    async with api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The page's files on a port of their own; the base of its addresses. The API of a gateway is not there."""
    app = FastAPI(openapi_url=None)
    add_dashboard_routes(app, cast(Gateway, Nobody()), cast(Dashboard, None))
    add_error_handlers(app, cast(Gateway, Nobody()))
    listener = listen("127.0.0.1", 0, "--port")
    port = listener.getsockname()[1]
    server = HttpServer(app, listener, drain_s=1.0)
    thread = threading.Thread(target=lambda: asyncio.run(server.run_until_stopped()), name="page")
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
        thread.join(30)


class Desk:
    """One tab, and what the API answers it. ``shown`` is the overview, or the error that comes instead of it."""

    def __init__(self, context: "BrowserContext", page: "Page", base: str) -> None:
        self.context = context
        self.page = page
        self.base = base
        self.shown: Overview | Answer | None = documents.overview()
        """None: the gateway cannot be reached."""
        self.answers: dict[str, Answer] = {}
        """By method and the path's beginning: ``POST /v1/classify``."""
        self.asked: list[Request] = []
        self.wrong: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda line: self.wrong.append(line.text) if "Content Security" in line.text else None)

    async def open(self, view: str = "", *, key: str | None = KEY) -> None:
        """The page at a view, logged in; ``key`` None: as it comes."""
        await self.page.goto(f"{self.base}/dashboard{'#/' + view if view else ''}")
        await self.page.wait_for_selector("h1")
        if key is not None:
            await self.log_in(key)

    async def log_in(self, key: str = KEY) -> None:
        """Type a key, and wait for the view behind it."""
        await self.page.fill("#key", key)
        await self.page.press("#key", "Enter")
        await self.page.wait_for_selector("main.view")

    async def go(self, view: str) -> None:
        """To another view, as a link would."""
        await self.page.evaluate("view => { location.hash = '#/' + view; }", view)
        await self.page.wait_for_selector(f"main.view-{view.split('/')[0]}")

    async def text(self, selector: str = "main") -> str:
        """What can be read there, with single blanks."""
        return " ".join((await self.page.locator(selector).first.inner_text()).split())

    async def sees(self, words: str) -> None:
        """Wait until something with these words can be seen."""
        await self.page.get_by_text(words).first.wait_for()

    @property
    def overviews(self) -> int:
        """How often the overview was asked for."""
        return sum("/v1/overview" in request.url for request in self.asked)

    def sent(self, path: str) -> list[Any]:
        """The JSON bodies that were posted to a path that begins so."""
        found = [request for request in self.asked if request.method == "POST" and path in request.url]
        return [json.loads(request.post_data or "null") for request in found]

    async def answer(self, route: "Route", request: "Request") -> None:
        """What the API says."""
        self.asked.append(request)
        if "/v1/overview" in request.url:
            if self.shown is None:
                await route.abort("connectionrefused")
            elif isinstance(self.shown, Answer):
                await route.fulfill(status=self.shown.status, json=self.shown.body)
            else:
                await route.fulfill(status=200, body=documents.encode(self.shown), content_type="application/json")
            return
        path = request.url.removeprefix(self.base)
        for name, answer in self.answers.items():
            method, _, beginning = name.partition(" ")
            if request.method == method and path.startswith(beginning):
                await route.fulfill(status=answer.status, json=answer.body)
                return
        await route.fulfill(status=404, json=refusal(404, "not_found", f"no answer is prepared for {path}").body)


@contextlib.asynccontextmanager
async def desk(browser: "Browser", base: str, **options: Any) -> AsyncIterator[Desk]:
    """A tab with nothing kept. ``options`` as for `Browser.new_context`."""
    context = await browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    try:
        one = Desk(context, await context.new_page(), base)
        await context.route("**/v1/**", one.answer)
        yield one
        await one.page.close()
        assert one.wrong == []
    finally:
        await context.close()
