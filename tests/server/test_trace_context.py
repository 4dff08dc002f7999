"""traceparent is read as the standard says, and what is not valid starts a new trace."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.trace_context import Parent, new_span_id, new_trace_id, parse_traceparent, traceresponse

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def header(version: str = "00", trace: str = TRACE, span: str = SPAN, flags: str = "01", more: str = "") -> bytes:
    return f"{version}-{trace}-{span}-{flags}{more}".encode()


@pytest.mark.parametrize(("flags", "is_sampled"), [("00", False), ("01", True), ("02", False), ("03", True)])
def test_only_the_lowest_bit_says_whether_the_caller_records(flags: str, is_sampled: bool) -> None:
    assert parse_traceparent(header(flags=flags)) == Parent(TRACE, SPAN, is_sampled)


def test_what_a_later_version_appends_is_skipped() -> None:
    assert parse_traceparent(header(version="cc", more="-what-the-future-brings")) == Parent(TRACE, SPAN, True)
    assert parse_traceparent(header(version="cc")) == Parent(TRACE, SPAN, True)


@pytest.mark.parametrize(
    "wrong",
    [
        b"", b"00", header(more="-x"), header(version="ff"), header(trace="0" * 32), header(span="0" * 16),
        header(trace=TRACE.upper()), header(trace=TRACE[:-1]), header(span=SPAN + "0"), header(flags="1"),
        header(version="cc", more="x"), header(trace="g" * 32), b"\xff" * 55,
    ],
)  # fmt: skip
def test_a_header_that_is_not_valid_is_as_none(wrong: bytes) -> None:
    assert parse_traceparent(wrong) is None


@given(st.binary(max_size=80))
def test_no_header_breaks_it(value: bytes) -> None:
    found = parse_traceparent(value)
    assert found is None or len(found.trace_id) == 32


def test_what_is_answered_can_be_read_by_the_same_rules() -> None:
    trace_id, span_id = new_trace_id(), new_span_id()
    assert re.fullmatch("[0-9a-f]{32}", trace_id)
    assert re.fullmatch("[0-9a-f]{16}", span_id)
    assert new_trace_id() != trace_id
    assert parse_traceparent(traceresponse(trace_id, span_id, True)) == Parent(trace_id, span_id, True)
