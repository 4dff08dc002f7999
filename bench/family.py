"""How fast the starter tickets are beside the fp32 dense parent, on one core, in one run.

The dense parent here is the backbone itself with a fresh head (`bench.dense`): nobody has to train to
repeat this. Quality was measured when the tickets were
found (tickets/starter/REPORT.md); with TOMBOLA_BENCH_DATA naming a data file it is measured again.
"""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.dense import dense_ticket
from loadtest.sentences import BANKING
from tickets import bundle as bundles
from tickets.factory import speed
from tickets.factory.data import build
from tickets.factory.evaluate_command import evaluated
from tickets.factory.formats import load_rows
from tickets.reference import Reference

STARTER = Path("tickets/starter")
DATA_VARIABLE = "TOMBOLA_BENCH_DATA"


def measure_family(announce: Callable[[str], None]) -> dict[str, Any]:
    """Speed-ups of every starter ticket, and their quality where data is at hand."""
    out: dict[str, Any] = {}
    tickets = {path.stem: bundles.read(path) for path in sorted(STARTER.glob("*.ticket"))}
    references = {name: Reference(ticket) for name, ticket in tickets.items()}
    first = next(iter(tickets.values()))
    references["dense-fp32"] = Reference(dense_ticket(first, service_ms=1.0).bundle)
    announce("family: timing graphs side by side")
    speeds = speed.measure(references, "dense-fp32", BANKING, lambda: None)
    for name, measured in speeds.items():
        out[name] = {"speed": asdict(measured)}
    data = os.environ.get(DATA_VARIABLE)
    if not data:
        announce(f"family: quality not measured again ({DATA_VARIABLE} names no data file)")
        return out
    rows = load_rows(Path(data))
    for name, ticket in tickets.items():
        announce(f"family: quality of {name}")
        out[name]["quality"] = evaluated(references[name], build(rows, ticket.manifest.domain, 0))
    return out
