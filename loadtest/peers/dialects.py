"""How each system is asked for one text, and how its answer is read. Pure.

Owns the request bytes and the typed decoding for the four forms that occur: Tombola's short form, the Open
Inference Protocol, a plain JSON object, and a list of one. Every answer is compared with what the bare
loop says of the same text, so that nobody is fast by being wrong.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from loadtest.connection import Reply
from loadtest.send import Outcome, Timings
from loadtest.workload import Request, Target

WRONG = "wrong_answer"
TOLERANCE = 1e-4
"""How far a probability may stand from the bare loop's: batches of other shapes take other kernels."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a system says of one text. ``ticket``: who says so, where the system tells."""

    label: str
    probability: float
    in_scope: bool
    ticket: str = ""

    def agrees(self, other: "Answer") -> bool:
        """The same label and scope, and the same probability but for rounding."""
        is_same = self.label == other.label and self.in_scope == other.in_scope
        return is_same and abs(self.probability - other.probability) <= TOLERANCE


class Dialect(NamedTuple):
    """A way of asking: POST ``path``, the body is ``before``, the text as a JSON string, ``after``."""

    path: str
    before: bytes
    after: bytes
    read: Callable[[bytes], Answer]
    """Raises msgspec.DecodeError, IndexError or KeyError for what is not an answer to one text."""


class _Short(msgspec.Struct):
    results: list[Answer]
    ticket: str = ""


class _Output(msgspec.Struct):
    name: str
    data: list[Any]


class _Inferred(msgspec.Struct):
    outputs: list[_Output]


class _Refusal(msgspec.Struct):
    code: str = ""


_short = msgspec.json.Decoder(_Short).decode
_inferred = msgspec.json.Decoder(_Inferred).decode
_one = msgspec.json.Decoder(Answer).decode
_list = msgspec.json.Decoder(list[Answer]).decode
_refusal = msgspec.json.Decoder(_Refusal).decode


def _read_short(body: bytes) -> Answer:
    short = _short(body)
    return msgspec.structs.replace(short.results[0], ticket=short.ticket)


def _read_inferred(body: bytes) -> Answer:
    fields = {output.name: output.data[0] for output in _inferred(body).outputs}
    return Answer(label=fields["label"], probability=fields["probability"], in_scope=fields["in_scope"])


OIP = Dialect(
    "/v2/models/ticket/infer",
    b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":[',
    b"]}]}",
    _read_inferred,
)


def plain(path: str) -> Dialect:
    """``{"text": ...}`` is answered with one object."""
    return Dialect(path, b'{"text":', b"}", _one)


def listed(path: str) -> Dialect:
    """``{"texts": [...]}`` is answered with a list."""
    return Dialect(path, b'{"texts":[', b"]}", lambda body: _list(body)[0])


def tombola(domain: str, tier: str, deadline_ms: float) -> Dialect:
    """Tombola's short form, with a deadline of the caller's."""
    fields: dict[str, Any] = {"domain": domain, "deadline_ms": deadline_ms} | ({"tier": tier} if tier else {})
    return Dialect("/v1/classify", msgspec.json.encode(fields)[:-1] + b',"text":', b"}", _read_short)


class PeerWorkload:
    """Draws texts for one system: what `loadtest.run` and the closed loop send. The same seed, the same texts."""

    def __init__(
        self, dialect: Dialect, answers: Mapping[str, Answer], *, host: str, key: str = "", is_checked: bool = True
    ) -> None:
        """``is_checked`` False: any label is a good answer, because the system may choose who answers."""
        self._dialect = dialect
        authorization = f"Authorization: Bearer {key}\r\n" if key else ""
        self._head = (
            f"POST {dialect.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tombola-load\r\n{authorization}"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode("ascii")
        target = Target(tenant="demo", key=key or "none", domain="-")
        self._requests = [
            Request(target, self._payload(self.body(text)), answer.label if is_checked else "")
            for text, answer in answers.items()
        ]

    def body(self, text: str) -> bytes:
        """The body that asks for ``text``."""
        return self._dialect.before + msgspec.json.encode(text) + self._dialect.after

    def requests(self, seed: str | int) -> Iterator[Request]:
        """Requests without end."""
        draw, requests = random.Random(f"peers/{seed}").random, self._requests
        while True:
            yield requests[int(draw() * len(requests))]

    def examples(self) -> Iterator[Request]:
        """One request."""
        yield self._requests[0]

    def all(self) -> Sequence[Request]:
        """One request for each text, in order."""
        return self._requests

    def read(self, request: Request, reply: Reply) -> Outcome:
        """A `loadtest.send.Read`: also the code ``wrong_answer``, for another label than the bare loop's."""
        if reply.failure:
            return reply.failure, "", Timings()
        try:
            if reply.status != 200:
                return _refusal(reply.body).code or f"http_{reply.status}", "", Timings()
            answer = self._dialect.read(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError, IndexError, KeyError):
            return "bad_body" if reply.status == 200 else f"http_{reply.status}", "", Timings()
        is_wrong = bool(request.expected) and answer.label != request.expected
        return WRONG if is_wrong else "", answer.ticket, Timings()

    def _payload(self, body: bytes) -> bytes:
        return b"%s%d\r\n\r\n%s" % (self._head, len(body), body)
