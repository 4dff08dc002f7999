"""A real OTLP receiver for tests: an HTTP server that decodes what is posted to it by the protocol's own protobuf."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Received:
    """A span as it came over the network. Times in nanoseconds since 1970."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    begin_ns: int
    end_ns: int
    attributes: dict[str, Any]
    is_error: bool
    service: dict[str, Any]

    @property
    def ms(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e6


@dataclass
class Collector:
    """What has come so far."""

    url: str
    spans: list[Received] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._news:
            self.bodies.append(body)
            for resource in request.resource_spans:
                service = _values(resource.resource.attributes)
                self.spans += [_received(span, service) for scope in resource.scope_spans for span in scope.spans]
            self._news.notify_all()

    def wait_for(self, found: Callable[[list[Received]], bool], within_s: float = 30.0) -> list[Received]:
        """Wait until ``found(spans)``; all spans then."""
        with self._news:
            assert self._news.wait_for(lambda: found(self.spans), within_s), [span.name for span in self.spans]
            return list(self.spans)

    def trace(self, request_id: str) -> dict[str, list[Received]]:
        """Wait for the trace of a request; its spans by name."""

        def server_spans(spans: list[Received]) -> list[Received]:
            return [span for span in spans if span.attributes.get("tombola.request_id") == request_id]

        spans = self.wait_for(lambda spans: bool(server_spans(spans)))
        trace_id = server_spans(spans)[0].trace_id
        found: dict[str, list[Received]] = {}
        for span in spans:
            if span.trace_id == trace_id:
                found.setdefault(span.name, []).append(span)
        return found


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            collector.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _received(span: Any, service: dict[str, Any]) -> Received:
    return Received(
        name=span.name, trace_id=span.trace_id.hex(), span_id=span.span_id.hex(), parent_id=span.parent_span_id.hex(),
        kind=span.kind, begin_ns=span.start_time_unix_nano, end_ns=span.end_time_unix_nano,
        attributes=_values(span.attributes), is_error=span.status.code == 2, service=service,
    )  # fmt: skip


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
