"""From a finished trace to its spans: names, parents, times and attributes. Pure.

Owns the shape of a trace. Under the server span stand `admission` (reading, parsing, routing), one `ask` for each
attempt, and `render`; under an answered ask stand `queue`, `tokenize` and `run`, from the durations that the
worker reported. What an ask took beyond those is the hop there and back; both ways are drawn
equally long, since clocks of two processes are never compared. HTTP attributes follow OpenTelemetry's semantic
conventions 1.27, ours begin with `tombola.`. No text and no key is ever among them.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from routing.table import Table
from server.trace_context import new_span_id
from server.tracing import Attempt, Trace

Value = str | int | float | bool
Way = Literal["first", "retry", "hedge", "cascade", "canary", "shadow", "stand_by", "compare"]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One span. Times in nanoseconds since 1970, ids in hex."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    begin_ns: int
    end_ns: int
    kind: Literal["server", "client", "internal"] = "internal"
    attributes: Mapping[str, Value] = {}
    error: str = ""
    """What went wrong, in a word; "" where nothing did."""
    is_remote_parent: bool = False


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended. ``ended``, ``admitted`` and ``answered``: `time.perf_counter` seconds; None: never."""

    name: str
    ended: float
    admitted: float | None
    answered: float | None
    attributes: Mapping[str, Value]
    error: str
    canary: str
    """The ticket that is tried on this domain's asks; "" for none, or where the ask pins a version."""
    large: str
    """The larger ticket of the domain's cascade; "" where there is none."""


def trial_and_cascade(table: Table | None, tenant: str, domain: str, version: str | None) -> tuple[str, str]:
    """The canary and the cascade's large ticket of a domain, for `Ending`."""
    row = table.tenants.get(tenant) if table is not None else None
    found = row.domains.get(domain) if row is not None else None
    if found is None:
        return "", ""
    canary = found.canary.ticket if found.canary is not None and version is None else ""
    return canary, found.cascade.large if found.cascade is not None else ""


def spans_of(trace: Trace, ending: Ending) -> list[Span]:
    """All spans of a request, those of attempts that go on left out; the server span first."""
    server = Span(
        name=ending.name, trace_id=trace.trace_id, span_id=trace.span_id, parent_id=trace.parent_id, kind="server",
        begin_ns=trace.began_ns, end_ns=trace.ns(ending.ended), attributes=ending.attributes, error=ending.error,
        is_remote_parent=True,
    )  # fmt: skip
    admitted = trace.attempts[0].began if trace.attempts else ending.admitted
    spans = [server]
    if admitted is not None:
        spans.append(_child(trace, "admission", trace.began, admitted, _decision(trace)))
    for attempt in trace.attempts:
        spans += attempt_spans(trace, attempt, ending)
    if ending.answered is not None:
        spans.append(_child(trace, "render", ending.answered, ending.ended, {}))
    return spans


def attempt_spans(trace: Trace, attempt: Attempt, ending: Ending) -> list[Span]:
    """The span of an attempt and its children; nothing while it goes on."""
    if attempt.ended is None:
        return []
    route, answer = attempt.route, attempt.answer
    attributes: dict[str, Value] = {
        "tombola.worker": route.worker, "tombola.ticket": route.ticket,
        "tombola.way": way_of(attempt, trace.attempts, ending), "tombola.predicted_ms": round(route.predicted_ms, 3),
    }  # fmt: skip
    if attempt.late is not None:
        attributes["tombola.worker_fell_silent"] = True
    begin, took_ms = attempt.began, (attempt.ended - attempt.began) * 1000
    spans: list[Span] = []
    if answer is not None:
        parts = {"queue": answer.queue_ms, "tokenize": answer.tokenize_ms, "run": answer.run_ms - answer.tokenize_ms}
        hop_ms = max(0.0, took_ms - answer.queue_ms - answer.run_ms)
        attributes |= {"tombola.hop_ms": round(hop_ms, 3), "tombola.batch_rows": answer.batch_texts}
        at = begin + hop_ms / 2000
        for name, part_ms in parts.items():
            if part_ms > 0 or name != "tokenize":
                ends = at + max(0.0, part_ms) / 1000
                spans.append(_child(trace, name, at, ends, {}, attempt.span_id))
                at = ends
    ask = Span(
        name="ask", trace_id=trace.trace_id, span_id=attempt.span_id, parent_id=trace.span_id, kind="client",
        begin_ns=trace.ns(begin), end_ns=trace.ns(attempt.ended), attributes=attributes, error=attempt.error,
    )  # fmt: skip
    return [ask, *spans]


def way_of(attempt: Attempt, attempts: Sequence[Attempt], ending: Ending) -> Way:
    """Why this attempt was made, from those before it."""
    ticket = attempt.route.ticket
    earlier = attempts[: attempts.index(attempt)]
    answered = [one for one in earlier if one.answer is not None and (one.ended or attempt.began) <= attempt.began]
    if ending.canary and ticket == ending.canary:
        return "shadow" if answered else "canary"
    if ending.canary and any(one.route.ticket == ending.canary for one in earlier):
        return "compare" if answered else "stand_by"
    if ending.large and ticket == ending.large and any(one.route.ticket != ticket for one in answered):
        return "cascade"
    if any(one.late is not None for one in earlier):
        return "hedge"
    return "retry" if earlier else "first"


def _decision(trace: Trace) -> dict[str, Value]:
    """What routing chose first, and why."""
    if not trace.attempts:
        return {}
    route = trace.attempts[0].route
    return {
        "tombola.ticket": route.ticket, "tombola.tier": route.tier, "tombola.because": route.because,
        "tombola.predicted_ms": round(route.predicted_ms, 3), "tombola.worker": route.worker,
        "tombola.step": route.step,
    }  # fmt: skip


def _child(
    trace: Trace, name: str, begin: float, end: float, attributes: Mapping[str, Value], parent_id: str | None = None
) -> Span:
    return Span(
        name=name, trace_id=trace.trace_id, span_id=new_span_id(), parent_id=parent_id or trace.span_id,
        begin_ns=trace.ns(begin), end_ns=trace.ns(end), attributes=attributes,
    )  # fmt: skip
