"""The gate's process: `python -m server.gate` reads an order from its input, and says what it finds, line by line.

Owns the two ends of the pipe and the order in which the process confines itself. Each line is JSON: ``{"step"}``
as each ends, then one ``{"report"}``. Started by `server.gate.runner` only; nothing else is printed there.
"""

import os
import sys
from pathlib import Path

import msgspec

from server.gate import confine
from server.gate.examination import Examination
from server.gate.report import Order, Report, Step

MAX_ORDER_BYTES = 1 << 20


def main() -> None:
    """Confine, examine, tell. What escapes from here ends the process with a traceback on its error output."""
    order = msgspec.json.decode(sys.stdin.buffer.read(MAX_ORDER_BYTES), type=Order)
    wanted = order.wanted
    out = os.dup(1)
    os.dup2(2, 1)  # whatever libraries print is no line of ours
    path = Path(order.path)
    memory_bytes = wanted.memory_limit_bytes + min(path.lstat().st_size, wanted.max_bytes)
    confinement = confine.limit(memory_bytes=memory_bytes, cpu_s=wanted.time_limit_s)
    confinement.append(confine.filter_calls(may_load=True))
    for said in Examination(path, wanted, confinement).run():
        _write(out, {"report" if isinstance(said, Report) else "step": said})


def _write(out: int, line: dict[str, Step | Report]) -> None:
    data = memoryview(msgspec.json.encode(line) + b"\n")
    while data:
        data = data[os.write(out, data) :]


if __name__ == "__main__":
    main()
