"""A whole HTTP answer in one write.

Owns the bytes of an answer that is complete when it begins. uvicorn writes head and body apart and
checks every header by regular expression, 8 µs an answer; headers here are our own, and known to be
sane. What cannot be answered so goes the ordinary ASGI way.
"""

from collections.abc import Sequence

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from server.errors import Overloaded

_REFUSAL = msgspec.json.encode(
    {"error": "this gateway has more requests than it can look at in time", "code": Overloaded.code, "request_id": ""}
)
_REFUSAL_HEADERS = (
    (b"content-type", b"application/json"), (b"retry-after", b"1"), (b"content-length", b"%d" % len(_REFUSAL)),
)  # fmt: skip


def refuse_at_once(cycle: RequestResponseCycle) -> bool:
    """Answer a request with 503 before anything of it is looked at; as `respond` where that cannot be done."""
    return respond(cycle, Overloaded.status, _REFUSAL_HEADERS, _REFUSAL)


def respond(cycle: RequestResponseCycle, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
    """Answer the request of ``cycle``; False, and nothing is done, where only the ordinary way is right.

    ``headers`` are complete, with lower-case names and values without line ends; one that says something about
    the connection is the ordinary way's.
    """
    if cycle.response_started or cycle.disconnected or cycle.flow.write_paused or cycle.transport.is_closing():
        return False
    parts = [STATUS_LINE[status]]
    for name, value in cycle.default_headers:
        parts += (name, b": ", value, b"\r\n")
    for name, value in headers:
        if name == b"connection":
            return False
        parts += (name, b": ", value, b"\r\n")
    parts += (b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body)
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join(parts))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True
