"""Spans on their way out: OTLP over HTTP, by OpenTelemetry's own exporter, from a thread of its own.

The only module that imports opentelemetry, and only when an `OtlpSink` is made, so that a gateway without an endpoint
does not need it (extra `otel`). A collector that is slow or away costs spans, never requests: what
does not fit the bounded queue is dropped. Headers for the collector (a token, say) come from
OTEL_EXPORTER_OTLP_HEADERS, which the exporter reads itself. What spans there are is `server.spans`'s.
"""

import logging
import threading
from collections.abc import Sequence
from importlib import import_module

from server.spans import Span

TRACES_PATH = "/v1/traces"
QUEUE_SPANS = 4096
BATCH_SPANS = 256
EXPORT_EVERY_S = 1.0
EXPORT_TIMEOUT_S = 5.0
CLOSE_S = 2.0


class OtelMissing(ImportError):
    """The libraries of the extra `otel` are not installed."""


def traces_url(endpoint: str) -> str:
    """Where spans are posted, from a base URL as in OTEL_EXPORTER_OTLP_ENDPOINT, or from the full one."""
    bare = endpoint.rstrip("/")
    return bare if bare.endswith(TRACES_PATH) else bare + TRACES_PATH


class OtlpSink:
    """Takes finished spans and sends them in the background. Close it at the end."""

    def __init__(self, endpoint: str, *, process: str, version: str) -> None:
        """``process`` is this gateway's name. Raises OtelMissing."""
        try:
            exporter = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            resources = import_module("opentelemetry.sdk.resources")
            export = import_module("opentelemetry.sdk.trace.export")
        except ImportError as error:
            raise OtelMissing(
                f"tracing needs OpenTelemetry's libraries ({error.name} is missing): pip install 'tombola[otel]'"
            ) from error
        logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # one line a lost batch is enough
        self._resource = resources.Resource.create(
            {"service.name": "tombola", "service.instance.id": process, "service.version": version}
        )
        self._exporter = exporter.OTLPSpanExporter(traces_url(endpoint), timeout=EXPORT_TIMEOUT_S)
        self._processor = export.BatchSpanProcessor(
            self._exporter,
            max_queue_size=QUEUE_SPANS, max_export_batch_size=BATCH_SPANS,
            schedule_delay_millis=EXPORT_EVERY_S * 1000, export_timeout_millis=EXPORT_TIMEOUT_S * 1000,
        )  # fmt: skip
        self._make = _Maker(self._resource, version)

    def __call__(self, spans: Sequence[Span]) -> None:
        """Hand spans over; returns at once."""
        for span in spans:
            self._processor.on_end(self._make(span))

    def close(self) -> None:
        """Send what is left, for two seconds at most. Blocks: call it in a thread."""
        ending = threading.Thread(target=self._processor.shutdown, name="otlp-close", daemon=True)
        ending.start()
        ending.join(CLOSE_S)
        self._exporter.shutdown()  # where the collector does not answer: try no longer


class _Maker:
    """Makes the SDK's finished spans out of ours."""

    def __init__(self, resource: object, version: str) -> None:
        trace = import_module("opentelemetry.trace")
        self._trace, self._span = trace, import_module("opentelemetry.sdk.trace").ReadableSpan
        self._resource = resource
        self._scope = import_module("opentelemetry.sdk.util.instrumentation").InstrumentationScope("tombola", version)
        kinds = trace.SpanKind
        self._kinds = {"server": kinds.SERVER, "client": kinds.CLIENT, "internal": kinds.INTERNAL}
        self._recorded = trace.TraceFlags(trace.TraceFlags.SAMPLED)

    def __call__(self, span: Span) -> object:
        parent = None
        if span.parent_id is not None:
            parent = self._context(span.trace_id, span.parent_id, is_remote=span.is_remote_parent)
        code = self._trace.StatusCode.ERROR if span.error else self._trace.StatusCode.UNSET
        return self._span(
            name=span.name, context=self._context(span.trace_id, span.span_id), parent=parent,
            resource=self._resource, attributes=dict(span.attributes), kind=self._kinds[span.kind],
            status=self._trace.Status(code, span.error or None), start_time=span.begin_ns, end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )  # fmt: skip

    def _context(self, trace_id: str, span_id: str, *, is_remote: bool = False) -> object:
        return self._trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, self._recorded)
