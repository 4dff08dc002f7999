"""The vocabulary between the HTTP forms and the dispatcher: a Call goes in, a Reply comes out.

Plain data. A call is of an authenticated tenant and valid; a reply says which ticket answered,
on whose behalf and why, and where the time went. `Payload` is the part of a call that
travels to a worker, whichever worker that is.
"""

import time
from collections.abc import Mapping, Sequence

import msgspec

from routing.table import Reason
from server.tensor import Tensor, row_count, row_size, take_rows

FIRST_PRIORITY, DEFAULT_PRIORITY, LAST_PRIORITY = 1, 2, 3


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A valid request of an authenticated tenant. ``inputs`` have one row per thing asked about."""

    tenant: str
    domain: str
    inputs: list[Tensor]
    outputs: list[str] = []
    """Names of the outputs wanted; empty: all."""
    tier: str | None = None
    version: str | None = None
    deadline_ms: float | None = None
    """The caller's own deadline, counted from when its request had arrived."""
    priority: int = DEFAULT_PRIORITY
    """1, 2 or 3: among the same tenant's requests, 1 goes before 2 goes before 3."""
    arrived: float = 0.0
    """`time.perf_counter()` when the request had arrived."""
    request_id: str = ""
    """What logs call it, the workers' too."""
    trace_id: str | None = None
    """Of a request that is recorded (`server.tracing`)."""

    def elapsed_ms(self) -> float:
        """Milliseconds since it had arrived."""
        return (time.perf_counter() - self.arrived) * 1000


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, with the ticket and worker that gave it, and where the time went (milliseconds)."""

    outputs: list[Tensor]
    ticket: str
    """The ticket that answered; of a cascade the large one, where any row went there."""
    tier: str
    because: str
    queue_ms: float
    run_ms: float
    total_ms: float
    deadline_ms: float
    predicted_ms: float = 0.0
    """When the answer was expected, counted as ``total_ms``."""
    step: int = 0
    """How far down the candidates the ticket stands; 0 is the best that might have answered."""
    row_tickets: Sequence[str] = ()
    """Of a cascade: the ticket that answered each row."""
    admission_ms: float = 0.0
    """From the request's arrival until it was sent to a worker."""
    tokenize_ms: float = 0.0
    """Of ``run_ms``, what was spent on turning texts into tokens."""
    reason: Reason = "best"
    """``because`` in a word."""


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker gets to see of a call."""

    tenant: str
    inputs: list[Tensor]
    outputs: list[str]
    priority: int
    rows: int
    row_bytes: int
    """Of the largest row: with ``rows`` what predictions are made from."""
    service_ms: Mapping[str, float]
    """What a row is expected to take by ticket, until a worker says what it takes there."""
    wants_confidence: bool = False
    request_id: str = ""


def payload_of(call: Call, service_ms: Mapping[str, float]) -> Payload:
    """The part of ``call`` that travels."""
    rows = row_count(call.inputs)
    return Payload(
        tenant=call.tenant, inputs=call.inputs, outputs=call.outputs, priority=call.priority, rows=rows,
        row_bytes=row_size(call.inputs, rows), service_ms=service_ms,
        request_id=call.request_id,
    )  # fmt: skip


def part_of(payload: Payload, rows: Sequence[int]) -> Payload:
    """The payload with these rows of every input. Raises TensorError where an input has no row for each of them."""
    inputs = [take_rows(tensor, rows) for tensor in payload.inputs]
    return msgspec.structs.replace(payload, inputs=inputs, rows=len(rows), row_bytes=row_size(inputs, len(rows)))
