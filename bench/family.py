"""How fast the starter tickets are beside the fp32 dense parent, on one core, in one run.

Speed does not depend on trained values, so the dense parent here is the backbone itself with a
fresh head: nobody has to train to repeat this. Quality was measured when the tickets were
found (tickets/starter/REPORT.md); with TOMBOLA_BENCH_DATA naming a data file it is measured again.
"""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtest.sentences import BANKING
from tickets import bundle as bundles
from tickets.bundle import pack, parse
from tickets.factory import speed
from tickets.factory.backbone import load_backbone
from tickets.factory.commands import evaluated
from tickets.factory.data import build
from tickets.factory.formats import load_rows
from tickets.factory.graph import build_fp32
from tickets.factory.models import from_backbone
from tickets.factory.tokens import full_vocabulary
from tickets.manifest import Manifest
from tickets.reference import Reference

STARTER = Path("tickets/starter")
DATA_VARIABLE = "TOMBOLA_BENCH_DATA"


def measure_family(announce: Callable[[str], None]) -> dict[str, Any]:
    """Speed-ups of every starter ticket, and their quality where data is at hand."""
    out: dict[str, Any] = {}
    tickets = {path.stem: bundles.read(path) for path in sorted(STARTER.glob("*.ticket"))}
    references = {name: Reference(ticket) for name, ticket in tickets.items()}
    first = next(iter(tickets.values()))
    references["dense-fp32"] = _dense(first.manifest)
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


def _dense(manifest: Manifest) -> Reference:
    """The whole backbone in fp32 with as many classes as a ticket has."""
    backbone = load_backbone()
    assert manifest.tokenizer is not None
    vocabulary = full_vocabulary(backbone.tokenizer_json, manifest.tokenizer.max_tokens)
    model = from_backbone(backbone, vocabulary, len(manifest.labels) + 1, seed=0)
    graph = build_fp32(model.shape, {k: v.numpy() for k, v in model.state_dict().items()})
    members = {"model.onnx": graph, "tokenizer.json": vocabulary.tokenizer_json.encode()}
    import msgspec

    spec = msgspec.structs.replace(manifest.tokenizer, vocabulary=len(vocabulary.rows))
    return Reference(parse(pack(msgspec.structs.replace(manifest, tokenizer=spec), members)))
