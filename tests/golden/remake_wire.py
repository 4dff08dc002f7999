"""Remakes wire_v2.bin: `python -m tests.golden.remake_wire` from the repository's root.

Each file is one frame with every message that there was at the time, every field set. Frames of an
earlier time must decode for ever, so remake a file only while its version has not been released;
after that, add the next one beside it. wire_v1.bin is from before Shares, Load and Costs.
"""

from pathlib import Path

from routing.cost import Cost
from server import wire
from server.tensor import Tensor

TEXT = Tensor("text", "BYTES", [1], b"\x04\0\0\0song")
LABEL = Tensor("label", "BYTES", [1], b"\x05\0\0\0music")
TICKET, OTHER = "ab" * 32, "cd" * 32

V1: list[wire.Message] = [
    wire.Ask(1, TICKET, "acme", 12.5, [TEXT], ["label"]),
    wire.Cancel(1),
    wire.Scrape(2),
    wire.Answer(1, [LABEL], 0.25, 1.5, 8, 3.0),
    wire.Failure(3, "overloaded", "the queue is full", 9.0),
    wire.Status("worker-0", [TICKET], 0.5, True),
    wire.Metrics(2, "worker-0", b"\x90"),
]
V2: list[wire.Message] = [
    wire.Ask(1, TICKET, "acme", 12.5, [TEXT], ["label"], 1, True, "r-1"),
    wire.Cancel(1),
    wire.Scrape(2),
    wire.Shares(7, {"acme": wire.Share(2.0, 1 << 30)}),
    wire.Probe(4),
    wire.Answer(1, [LABEL], 0.25, 1.5, 8, 3.0, [0.75], 0.5),
    wire.Failure(3, "overloaded", "the queue is full", 9.0),
    wire.Status("worker-0", [TICKET], 0.5, True),
    wire.Load(1.5, 20.0, {"acme": 12.0}, 3.0, 0.5, 41),
    wire.Costs({TICKET: Cost(0.5, 0.25, 0.0625, 0.125)}),
    wire.Unloaded([OTHER]),
    wire.Probed(4, "gateway-0", 2.5, TICKET, ["worker-0"]),
    wire.Metrics(2, "worker-0", b"\x90"),
]

if __name__ == "__main__":
    Path(__file__).with_name("wire_v2.bin").write_bytes(wire.encode_frame(V2))
