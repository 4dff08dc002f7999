"""W3C Trace Context: who called us in which trace, and what we answer with.

Owns the `traceparent` header's grammar (https://www.w3.org/TR/trace-context/, version 00 and later ones, of
which only what version 00 says is read), fresh ids, and the `traceresponse` header. Pure. `tracestate` is not
read: nothing is called from here that it would have to be handed on to. Whether a trace is
sampled is decided in `server.tracing`.
"""

import re
import secrets

import msgspec

_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16
_SAMPLED = 0x01


class Parent(msgspec.Struct, frozen=True):
    """The caller's span: ids in lower-case hex, and whether it is recorded over there."""

    trace_id: str
    span_id: str
    is_sampled: bool


def parse_traceparent(value: bytes) -> Parent | None:
    """The caller's span; None where the header is not valid, which starts a new trace as the standard wants."""
    found = _FORM.fullmatch(value.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or trace_id == _NO_TRACE or span_id == _NO_SPAN or (version == b"00" and more is not None):
        return None
    return Parent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & _SAMPLED))


def traceresponse(trace_id: str, span_id: str, is_sampled: bool) -> bytes:
    """The value of the answer's header: our span, and whether it is recorded here."""
    return f"00-{trace_id}-{span_id}-{int(is_sampled):02x}".encode()


def new_trace_id() -> str:
    """16 random bytes in hex, never all zero."""
    return _fresh(16)


def new_span_id() -> str:
    """8 random bytes in hex, never all zero."""
    return _fresh(8)


def _fresh(size: int) -> str:
    while True:
        found = secrets.token_hex(size)
        if found.strip("0"):
            return found
