"""The wire between a gateway's `link` and a `worker`: message structs and frames, no sockets.

A frame is a 4-byte little-endian length and a msgpack array of messages; what is
queued while the socket is busy goes out as one frame. Deadlines travel as remaining
milliseconds, because clocks differ between hosts. New fields are optional, with
defaults, at the end (tests/golden/wire_v1.bin must decode for ever).
"""

import struct
from collections.abc import Sequence

import msgspec

from routing.cost import Cost
from server.tensor import Tensor

MAX_FRAME_BYTES = 64 << 20
_LENGTH = struct.Struct("<I")
LENGTH_BYTES = _LENGTH.size


class WireError(ValueError):
    """A peer that does not speak this protocol."""


class Ask(msgspec.Struct, frozen=True, array_like=True, tag="ask"):
    """gateway → worker: run this. Exactly one Answer or Failure comes back, even after Cancel."""

    id: int
    ticket: str
    tenant: str
    remaining_ms: float
    inputs: list[Tensor]
    outputs: list[str] = []
    """Names of the outputs wanted; empty: all that the ticket's manifest names."""
    priority: int = 2
    """Among the same tenant's asks, 1 goes before 2 goes before 3, whatever the deadlines."""
    wants_confidence: bool = False
    request_id: str = ""
    """What the gateway's logs call the request."""


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """gateway → worker: nobody waits for this any more; drop it if it has not begun."""

    id: int


class Scrape(msgspec.Struct, frozen=True, array_like=True, tag="scrape"):
    """gateway → any process: send your metrics."""

    id: int


class Share(msgspec.Struct, frozen=True, array_like=True):
    """What a tenant is due on every worker."""

    weight: float = 1.0
    reserved_bytes: int = 0


class Shares(msgspec.Struct, frozen=True, array_like=True, tag="shares"):
    """gateway → worker: the tenants whose share is not the default one. Replaces what was said before."""

    version: int
    """Of the table it comes from: an older one does not replace a newer."""
    tenants: dict[str, Share]


class Probe(msgspec.Struct, frozen=True, array_like=True, tag="probe"):
    """anybody → any process: show that you can do what you are for. Not answered by a process that cannot."""

    id: int


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """worker → gateway. ``queue_ms`` runs from arrival to the start of its batch, ``run_ms`` covers
    tokenizing and running the batch; ``wait_ms`` predicts the wait of work that would arrive now."""

    id: int
    outputs: list[Tensor]
    queue_ms: float
    run_ms: float
    batch_texts: int
    wait_ms: float
    confidence: list[float] = []
    """Where asked for: how sure the ticket is of each row, calibrated, 0 to 1."""
    tokenize_ms: float = 0.0
    """Of ``run_ms``, what was spent on turning texts into tokens."""


class Failure(msgspec.Struct, frozen=True, array_like=True, tag="failure"):
    """worker → gateway: this ask has no answer. ``code`` is one of server.errors."""

    id: int
    code: str
    message: str
    wait_ms: float = 0.0


class Status(msgspec.Struct, frozen=True, array_like=True, tag="status"):
    """worker → gateway: sent on connection, and when it begins to drain. ``holds`` are the tickets in memory,
    whose Costs follow; ``draining`` asks gateways to send nothing new."""

    name: str
    holds: list[str]
    wait_ms: float
    draining: bool = False


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """worker → gateway: how busy it is. A heartbeat, and with the answers of a batch. Fields as in
    `routing.table.WorkerView`."""

    running_ms: float
    queued_ms: float
    tenants: dict[str, float] = {}
    active_weight: float = 0.0
    busy: float = 0.0
    seen: int = 0
    """Asks of this connection up to this id are counted in it; 0: all that the gateway has sent, for all it knows."""


class Costs(msgspec.Struct, frozen=True, array_like=True, tag="costs"):
    """worker → gateway: tickets that came into memory or whose cost has changed; sizes in bytes of a row's input."""

    costs: dict[str, Cost]


class Unloaded(msgspec.Struct, frozen=True, array_like=True, tag="unloaded"):
    """worker → gateway: tickets that are no longer in memory."""

    tickets: list[str]


class Probed(msgspec.Struct, frozen=True, array_like=True, tag="probed"):
    """any process → prober: it works, end to end. ``ticket`` is what a worker ran for it, if it holds any."""

    id: int
    process: str
    took_ms: float
    ticket: str = ""
    workers: list[str] = []
    """Of a gateway: the workers that it may send to."""


class Metrics(msgspec.Struct, frozen=True, array_like=True, tag="metrics"):
    """any process → gateway: its metric families, ready to be merged (see server.telemetry)."""

    id: int
    process: str
    families: bytes


Message = (
    Ask | Cancel | Scrape | Shares | Probe
    | Answer | Failure | Status | Load | Costs | Unloaded | Probed | Metrics
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Message])


def encode_frame(messages: Sequence[Message]) -> bytes:
    """One frame that carries ``messages`` in order."""
    body = _encoder.encode(messages)
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(f"frame of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


def decode_body(body: bytes | memoryview) -> list[Message]:
    """The messages of a frame's body. Raises WireError."""
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise WireError(f"frame does not decode: {error}") from error


def frame_length(prefix: bytes | bytearray | memoryview) -> int:
    """The body length that a 4-byte prefix announces. Raises WireError over the limit, before allocation."""
    (length,) = _LENGTH.unpack(prefix)
    if length > MAX_FRAME_BYTES:
        raise WireError(f"peer announces a frame of {length} bytes; the limit is {MAX_FRAME_BYTES}")
    return int(length)


class FrameReader:
    """Cuts a byte stream into messages: feed what arrived, get what is complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Messages completed by ``data``, in order. Raises WireError."""
        if (
            not self._buffer
            and len(data) >= LENGTH_BYTES
            and frame_length(data[:LENGTH_BYTES]) == len(data) - LENGTH_BYTES
        ):
            return decode_body(memoryview(data)[LENGTH_BYTES:])  # one frame, whole: nearly always
        self._buffer += data
        messages: list[Message] = []
        at = 0
        while len(self._buffer) - at >= LENGTH_BYTES:
            length = frame_length(self._buffer[at : at + LENGTH_BYTES])
            if len(self._buffer) - at - LENGTH_BYTES < length:
                break
            at += LENGTH_BYTES
            messages += decode_body(bytes(self._buffer[at : at + length]))
            at += length
        del self._buffer[:at]
        return messages
