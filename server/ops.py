"""The operations side of a gateway: health, and one metrics page for every process.

Owns the operations port's application, the wire listener that gives this process's
metrics to whoever asks and answers probes, and the gathering of everybody's. It is a port of its own because
metrics name tenants. What is measured belongs to `server.telemetry`, the page's form to
`server.exposition`.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import cast

import structlog
from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry

from routing.lease import Lease, LeaseKind
from routing.store import Store, StoreUnavailable
from server import address, openmetrics, wire
from server.api import add_error_handlers, add_health_routes
from server.exposition import dump
from server.gateway import Gateway

SCRAPE_S = 1.0
"""What a process gets to send its metrics before it is shown as down."""

log = structlog.get_logger()


class MetricsListener(asyncio.Protocol):
    """Answers Scrape and Probe on a wire connection, and nothing else.

    ``workers`` names those that may be sent to, or is None while the gateway does not serve yet: it is
    asked on the loop that serves HTTP, so an answer shows that this loop turns.
    """

    def __init__(
        self, process: str, registry: CollectorRegistry, workers: Callable[[], list[str] | None] = list
    ) -> None:
        self._process = process
        self._registry = registry
        self._workers = workers
        self._reader = wire.FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from whoever scrapes."""
        assert self._transport is not None
        try:
            messages = self._reader.feed(data)
        except wire.WireError as error:
            log.warning("bad_scrape", error=str(error))
            self._transport.close()
            return
        for message in messages:
            match message:
                case wire.Scrape():
                    self._write(wire.Metrics(message.id, self._process, dump(self._registry)))
                case wire.Probe():
                    workers = self._workers()
                    if workers is not None:
                        self._write(wire.Probed(message.id, self._process, 0.0, workers=workers))
                case _:
                    log.debug("unexpected_message", kind=type(message).__name__)

    def _write(self, message: wire.Message) -> None:
        assert self._transport is not None
        self._transport.write(wire.encode_frame([message]))


class _Scraper(asyncio.Protocol):
    """Asks one process for its metrics."""

    def __init__(self) -> None:
        self.families: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._reader = wire.FrameReader()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it
        self.transport.write(wire.encode_frame([wire.Scrape(1)]))

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.feed(data):
                if isinstance(message, wire.Metrics) and not self.families.done():
                    self.families.set_result(message.families)
        except wire.WireError:
            self._give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up()

    def _give_up(self) -> None:
        if not self.families.done():
            self.families.set_result(b"")


class Gatherer:
    """Collects the metrics of every process that has a lease, this one included.

    While Redis is away, the processes that were known last are asked.
    """

    def __init__(self, store: Store, name: str, registry: CollectorRegistry) -> None:
        self._store = store
        self._name = name
        self._registry = registry
        self._known: dict[LeaseKind, list[Lease]] = {"gateway": [], "worker": []}

    async def page(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics page of the whole installation in the form that ``accept`` asks for, and its content type."""
        pieces, content_type = openmetrics.pieces(await self.dumps(), accept)
        page = []
        for piece in pieces:
            page.append(piece)
            await asyncio.sleep(0)  # a large page takes a tenth of a second; requests come in between
        return b"".join(page), content_type

    async def dumps(self) -> dict[str, bytes]:
        """The families of every process, by name; ``b""`` where one does not answer."""
        others = [lease for lease in await self._leases() if (lease.kind, lease.name) != ("gateway", self._name)]
        found = await asyncio.gather(*(scrape(lease.address) for lease in others))
        dumps = {self._name: dump(self._registry)}
        for lease, families in zip(others, found, strict=True):
            name = lease.name if lease.name not in dumps else f"{lease.kind}/{lease.name}"
            dumps[name] = families
        return dumps

    async def _leases(self) -> Iterable[Lease]:
        kinds: tuple[LeaseKind, LeaseKind] = ("gateway", "worker")
        try:
            async with asyncio.timeout(SCRAPE_S):
                for kind in kinds:
                    self._known[kind] = await self._store.leases(kind)
        except (StoreUnavailable, TimeoutError) as error:
            log.debug("leases_unavailable", error=str(error))
        return [*self._known["gateway"], *self._known["worker"]]


async def scrape(where: str, timeout_s: float = SCRAPE_S) -> bytes:
    """The metric families of the process at ``where``; empty where it does not answer in time."""
    scraper: _Scraper | None = None
    try:
        async with asyncio.timeout(timeout_s):
            scraper = await address.connect(address.parse(where), _Scraper, timeout_s=timeout_s)
            return await scraper.families
    except (OSError, address.AddressError):
        return b""
    finally:
        if scraper is not None and scraper.transport is not None:
            scraper.transport.abort()


def create_ops_app(gateway: Gateway, gatherer: Gatherer) -> FastAPI:
    """The operations port's application."""
    app = FastAPI(title="Tombola operations", version=gateway.version, docs_url=None, redoc_url=None, openapi_url=None)
    add_health_routes(app, gateway)
    add_error_handlers(app, gateway)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """The metrics of every process, for Prometheus."""
        page, content_type = await gatherer.page(request.headers.get("accept", ""))
        return Response(page, headers={"content-type": content_type, "vary": "accept"})

    return app
