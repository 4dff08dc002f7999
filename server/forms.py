"""The two forms in which an inference may be asked for: the inference protocol's and the short one.

A form turns a body into a Call and a Reply into a body; both have the same shape, so that
`server.api` treats them alike. The formats themselves belong to `server.oip` and
`server.classify`; everything here is about a tenant's models and the answer's provenance.
"""

from typing import Any, Generic, Protocol, TypeVar

import msgspec

from server import classify, oip
from server.call import DEFAULT_PRIORITY, Call, Reply
from server.catalogue import VERSION_DIGITS, Catalogue
from server.dispatch import Dispatcher
from server.edge import Headers, promise_of
from server.errors import BadRequest, InferenceFailed, Unsupported

Parsed = TypeVar("Parsed")
HeaderList = list[tuple[bytes, bytes]]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP request of an authenticated tenant, body complete."""

    tenant: str
    path: dict[str, Any]
    headers: Headers
    body: bytes
    id: str
    arrived: float
    trace_id: str | None = None
    """Of a request that is recorded (`server.tracing`)."""


class Form(Protocol, Generic[Parsed]):
    """One way to ask."""

    def prepare(self, request: Request) -> tuple[Call, Parsed]:
        """What is asked, and what `render` needs to remember. Raises ApiError."""
        ...

    def render(self, request: Request, parsed: Parsed, reply: Reply) -> tuple[bytes, HeaderList]:
        """The body of the answer and its headers, content type included."""
        ...


class ShortForm(Form[classify.Request]):
    """POST /v1/classify."""

    def __init__(self, dispatcher: Dispatcher, catalogue: Catalogue) -> None:
        self._dispatcher = dispatcher
        self._catalogue = catalogue

    def prepare(self, request: Request) -> tuple[Call, classify.Request]:
        """See Form."""
        parsed = classify.parse(request.body)
        promise = promise_of(request.headers)
        model = self._catalogue.model(self._dispatcher.table, request.tenant, parsed.domain)
        if model.manifest.task != classify.TASK:
            raise Unsupported(f"domain '{parsed.domain}' does not classify texts; ask it through /v2/models")
        call = Call(
            tenant=request.tenant,
            domain=parsed.domain,
            inputs=classify.inputs(parsed),
            outputs=classify.outputs(parsed),
            tier=promise.tier if parsed.tier is None else parsed.tier,
            version=None if parsed.version is None else self._catalogue.version(model, parsed.version).id,
            deadline_ms=promise.deadline_ms if parsed.deadline_ms is None else parsed.deadline_ms,
            priority=parsed.priority or promise.priority or DEFAULT_PRIORITY,
            arrived=request.arrived,
            request_id=request.id,
            trace_id=request.trace_id,
        )
        return call, parsed

    def render(self, request: Request, parsed: classify.Request, reply: Reply) -> tuple[bytes, HeaderList]:
        """See Form."""
        manifest = self._catalogue.manifest(reply.ticket)
        if manifest is None and parsed.top_k is not None:
            raise InferenceFailed("the answering ticket's labels are not in this gateway's registry")
        body = msgspec.json.encode(
            classify.Response(
                domain=parsed.domain,
                tier=reply.tier,
                ticket=reply.ticket,
                parent=self._catalogue.parent(reply.ticket),
                because=reply.because,
                results=classify.results(
                    reply.outputs, manifest.labels if manifest else (), parsed.top_k, reply.row_tickets
                ),
                timings_ms=classify.Timings(
                    _ms(reply.queue_ms), _ms(reply.run_ms), _ms(reply.total_ms), _ms(reply.predicted_ms)
                ),
                request_id=request.id,
            )
        )
        return body, [(b"content-type", b"application/json"), *_provenance(request, reply)]


class ProtocolForm(Form[oip.Infer]):
    """POST /v2/models/{model}[/versions/{version}]/infer."""

    def __init__(self, dispatcher: Dispatcher, catalogue: Catalogue) -> None:
        self._dispatcher = dispatcher
        self._catalogue = catalogue

    def prepare(self, request: Request) -> tuple[Call, oip.Infer]:
        """See Form."""
        name = request.path["model"]
        model = self._catalogue.model(self._dispatcher.table, request.tenant, name)
        version = request.path.get("version")
        if version is not None:
            version = self._catalogue.version(model, version).id
        promise = promise_of(request.headers)
        parsed = oip.parse(request.body, request.headers.get(b"inference-header-content-length"), model.oip)
        call = Call(
            tenant=request.tenant,
            domain=name,
            inputs=parsed.inputs,
            outputs=[output for output, _ in parsed.outputs],
            tier=promise.tier if parsed.tier is None else parsed.tier,
            version=version,
            deadline_ms=promise.deadline_ms if parsed.deadline_ms is None else parsed.deadline_ms,
            priority=parsed.priority or promise.priority or DEFAULT_PRIORITY,
            arrived=request.arrived,
            request_id=request.id,
            trace_id=request.trace_id,
        )
        return call, parsed

    def render(self, request: Request, parsed: oip.Infer, reply: Reply) -> tuple[bytes, HeaderList]:
        """See Form."""
        named = {tensor.name: tensor for tensor in reply.outputs}
        try:
            outputs = [(named[name], is_binary) for name, is_binary in parsed.outputs]
        except KeyError as error:
            raise InferenceFailed(f"the ticket did not answer with its output {error}") from error
        body, json_bytes = oip.render(
            parsed.id or request.id,
            (request.path["model"], reply.ticket[:VERSION_DIGITS]),
            {
                "ticket": reply.ticket,
                "parent": self._catalogue.parent(reply.ticket) or "",
                "tier": reply.tier,
                "because": reply.because,
                "queue_ms": _ms(reply.queue_ms),
                "run_ms": _ms(reply.run_ms),
                "total_ms": _ms(reply.total_ms),
                "predicted_ms": _ms(reply.predicted_ms),
            },
            outputs,
        )
        headers = _provenance(request, reply)
        if json_bytes is None:
            return body, [(b"content-type", b"application/json"), *headers]
        binary = [
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"%d" % json_bytes),
        ]
        return body, binary + headers


def wants_ready(body: bytes) -> bool:
    """Whether a repository index is to list ready models only. Raises BadRequest."""
    if not body.strip():
        return False
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"failed to parse the request JSON: {error}") from error
    ready = document.get("ready", False)
    if not isinstance(ready, bool):
        raise BadRequest("ready must be true or false")
    return ready


def _provenance(request: Request, reply: Reply) -> HeaderList:
    return [(b"x-request-id", request.id.encode()), (b"x-tombola-ticket", reply.ticket.encode())]


def _ms(milliseconds: float) -> float:
    return round(milliseconds, 3)
