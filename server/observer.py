"""What is noted of each inference request: begins with its headers, ends with a line and a trace, where it gets them.

Owns the `Seen` of one request, which `server.api` fills in as it goes, and what becomes of it at the end. It costs a
request that is neither logged nor recorded about two microseconds. Which requests those are is decided in
`server.request_log` and `server.tracing`; metrics are `server.dispatch`'s.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import structlog

from routing.table import Table
from server.call import Call, Reply
from server.edge import Scope
from server.errors import ApiError
from server.logs import write_lines
from server.request_log import RequestDone, RequestLog
from server.spans import Ending, Span, Value, attempt_spans, spans_of, trial_and_cascade
from server.tensor import row_count
from server.trace_context import Parent, parse_traceparent, traceresponse
from server.tracing import Attempt, Sampler, Trace, enter

CANCELLED = "cancelled"
_UNVOUCHED_TIER = "unknown_tier"

Headers = list[tuple[bytes, bytes]]
Sink = Callable[[Sequence[Span]], None]

log = structlog.get_logger()


class Seen:
    """One request as it goes on. Moments are `time.perf_counter` seconds."""

    __slots__ = ("answered", "arrived", "call", "error", "parent", "reply", "request_id", "tenant", "trace")

    def __init__(self, request_id: str, parent: Parent | None, trace: Trace | None, arrived: float) -> None:
        self.request_id, self.parent, self.trace, self.arrived = request_id, parent, trace, arrived
        self.tenant = ""
        self.call: Call | None = None
        self.reply: Reply | None = None
        self.answered: float | None = None
        self.error: tuple[str, int] | None = (CANCELLED, 0)
        """Code and status; until something else is known, that its client has gone."""

    @property
    def trace_id(self) -> str | None:
        """Of a recorded request."""
        return self.trace.trace_id if self.trace is not None else None

    def prepared(self, call: Call) -> None:
        """It has been read and parsed."""
        self.call = call

    def replied(self, reply: Reply) -> None:
        """The dispatcher has answered."""
        self.reply, self.answered = reply, time.perf_counter()

    def failed(self, error: ApiError) -> None:
        """It is answered with an error."""
        self.error = (error.code, error.status)

    def succeeded(self) -> None:
        """Its answer has been sent."""
        self.error = None

    def headers(self) -> Headers:
        """What the answer says of its trace."""
        if self.trace is not None:
            return [(b"traceresponse", traceresponse(self.trace.trace_id, self.trace.span_id, True))]
        return []


class Observer:
    """Begins and ends what is noted. One per gateway, on its loop."""

    def __init__(
        self, sampler: Sampler | None = None, log: RequestLog | None = None, sink: Sink | None = None,
        table: Callable[[], Table | None] = lambda: None,
    ) -> None:  # fmt: skip
        """Without ``sampler`` and ``sink`` nothing is recorded, without ``log`` nothing written. ``table``: the one
        in use: its canaries and cascades tell why an attempt was made."""
        self._sampler = sampler if sink is not None else None
        self._log = log
        self._sink = sink
        self._table = table

    def begin(self, headers: dict[bytes, bytes], request_id: str) -> Seen:
        """A request has come, with these headers."""
        arrived = time.perf_counter()
        parent, trace, traceparent = None, None, headers.get(b"traceparent")
        if self._sampler is not None:
            parent, trace = self._sampler.begin(traceparent, arrived)
        elif traceparent is not None and self._log is not None:
            parent = parse_traceparent(traceparent)  # for the line
        enter(trace)
        return Seen(request_id, parent, trace, arrived)

    def end(self, seen: Seen, scope: Scope) -> None:
        """It is over, whatever has become of it."""
        trace, reply = seen.trace, seen.reply
        if self._log is not None:
            is_good = seen.error is None and reply is not None and reply.total_ms <= reply.deadline_ms
            if self._log.wants(is_good=is_good, is_traced=trace is not None, now=seen.arrived):
                self._log.add(line_of(seen, time.perf_counter()))
        if trace is not None and self._sink is not None:
            self._record(trace, seen, scope, self._sink)

    def close(self) -> None:
        """Write the lines that are left."""
        if self._log is not None:
            self._log.flush()

    def _record(self, trace: Trace, seen: Seen, scope: Scope, sink: Sink) -> None:
        call, canary, large = seen.call, "", ""
        if call is not None:
            canary, large = trial_and_cascade(self._table(), call.tenant, call.domain, call.version)
        route = _route(scope)
        status = 200 if seen.error is None else seen.error[1]
        error = seen.error[0] if seen.error is not None and (status >= 500 or status == 0) else ""
        ending = Ending(
            name=f"{scope['method']} {route}", ended=time.perf_counter(), answered=seen.answered,
            admitted=None if call is None else call.arrived, error=error, canary=canary, large=large,
            attributes=_attributes(seen, scope, route, status),
        )  # fmt: skip
        trace.left = partial(_later, trace, ending, sink)
        trace.is_over = True
        sink(spans_of(trace, ending))


def line_of(seen: Seen, now: float) -> RequestDone:
    """The log's line of a request that is over. ``now``: `time.perf_counter` seconds."""
    call, reply, error = seen.call, seen.reply, seen.error
    outcome, status = error if error is not None else ("ok", 200)
    tier = reply.tier if reply is not None else (call.tier if call is not None else None)
    trace_id = seen.trace_id or (seen.parent.trace_id if seen.parent is not None else "")
    total_ms = reply.total_ms if reply is not None else (now - (call.arrived if call else seen.arrived)) * 1000
    return RequestDone(
        level="warning" if status >= 500 else "info", timestamp=datetime.now(UTC), request_id=seen.request_id,
        tenant=call.tenant if call is not None else seen.tenant, domain=call.domain if call is not None else "",
        tier="" if tier is None or outcome == _UNVOUCHED_TIER else tier, rows=_rows(call), total_ms=round(total_ms, 3),
        outcome=outcome, status=status, trace_id=trace_id,
        ticket=reply.ticket if reply is not None else "", because=reply.because if reply is not None else "",
        admission_ms=None if reply is None else round(reply.admission_ms, 3),
        queue_ms=None if reply is None else round(reply.queue_ms, 3),
        run_ms=None if reply is None else round(reply.run_ms, 3),
        deadline_ms=None if reply is None else reply.deadline_ms,
    )  # fmt: skip


def write_requests(lines: list[RequestDone], left_out: int) -> None:
    """Where a gateway's request log goes: with all its other lines."""
    write_lines(lines)
    if left_out:
        log.warning("request_log_limited", left_out=left_out)


def _later(trace: Trace, ending: Ending, sink: Sink, attempt: Attempt) -> None:
    """An attempt that nobody waited for has ended."""
    sink(attempt_spans(trace, attempt, ending))


def _rows(call: Call | None) -> int:
    return row_count(call.inputs) if call is not None and call.inputs else 0


def _route(scope: Scope) -> str:
    """The path with its variable parts named, so that it has few values."""
    route = scope["path"]
    for name, value in scope.get("path_params", {}).items():
        route = route.replace(f"/{value}", f"/{{{name}}}", 1)
    return str(route)


def _attributes(seen: Seen, scope: Scope, route: str, status: int) -> dict[str, Value]:
    found: dict[str, Value] = {
        "http.request.method": scope["method"], "http.route": route, "url.path": scope["path"], "url.scheme": "http",
        "tombola.request_id": seen.request_id,
    }  # fmt: skip
    if status:
        found["http.response.status_code"] = status
    if seen.error is not None:
        found["error.type"] = seen.error[0]
    call, reply = seen.call, seen.reply
    if call is not None:
        found |= {"tombola.tenant": call.tenant, "tombola.domain": call.domain, "tombola.rows": _rows(call)}
        found["tombola.priority"] = call.priority
    elif seen.tenant:
        found["tombola.tenant"] = seen.tenant
    if reply is not None:
        found |= {
            "tombola.tier": reply.tier, "tombola.ticket": reply.ticket, "tombola.because": reply.because,
            "tombola.reason": reply.reason, "tombola.step": reply.step,
            "tombola.predicted_ms": round(reply.predicted_ms, 3), "tombola.deadline_ms": reply.deadline_ms,
            "tombola.queue_ms": round(reply.queue_ms, 3), "tombola.run_ms": round(reply.run_ms, 3),
            "tombola.total_ms": round(reply.total_ms, 3),
        }  # fmt: skip
    return found
