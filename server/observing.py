"""A gateway's observer, put together from its options: traces by OTLP where there is an endpoint, and the request log.

Owns the options' defaults and meaning, and the end: what is still held is written and sent. The parts are
`server.observer`, `server.tracing`, `server.otlp` and `server.request_log`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec

from routing.table import Table
from server.observer import Observer, write_requests
from server.otlp import OtlpSink
from server.request_log import DEFAULT_MODE, Mode, RequestLog
from server.tracing import Sampler

DEFAULT_RATIO = 0.01


class Observing(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway is asked to note beside its metrics."""

    otlp_endpoint: str | None = None
    """Base URL of a collector; None: nothing is recorded, and OpenTelemetry is not imported."""
    trace_ratio: float = DEFAULT_RATIO
    """Of the requests whose caller sends no traceparent, the part that is recorded; 0 to 1."""
    request_log: Mode = DEFAULT_MODE


@contextlib.asynccontextmanager
async def observer(
    wanted: Observing, *, process: str, version: str, table: Callable[[], Table | None]
) -> AsyncIterator[Observer]:
    """The observer while the block runs; at its end what it holds goes out. Raises `otlp.OtelMissing`."""
    sink = None
    if wanted.otlp_endpoint:
        sink = OtlpSink(wanted.otlp_endpoint, process=process, version=version)
    log = RequestLog(wanted.request_log, write_requests) if wanted.request_log != "off" else None
    made = Observer(Sampler(wanted.trace_ratio), log, sink, table)
    try:
        yield made
    finally:
        made.close()
        if sink is not None:
            await asyncio.to_thread(sink.close)
