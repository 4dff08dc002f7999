"""What ONNX Runtime makes of zeros: the dense parent, the same graph with pruned matrices, and a smaller graph.

All matrices of the backbone are masked by magnitude (2:4, blocks, any), written as an ordinary graph with the pattern
recorded, and run in turns on one core, in fp32 and in int8. Beside them runs a graph that is physically half as wide
(half the heads and neurons of every layer): as many weights are left as in 2:4, and none of them is a zero. Speed does
not depend on trained values, so nothing is trained here. Sizes are of the file as it is (what is held) and gzipped at
level 6 (what travels).
"""

import gzip
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.run import commit, machine
from loadtest.sentences import BANKING
from tickets.factory.backbone import load_backbone
from tickets.factory.compute import host_isa
from tickets.factory.encoder import Classifier
from tickets.factory.graph import Ranges, build_fp32, build_int8
from tickets.factory.lottery.onnx_zeros import record_pattern, zero_share
from tickets.factory.lottery.patterned import pattern_masks, prunable
from tickets.factory.lottery.patterns import parse_pattern
from tickets.factory.models import from_backbone
from tickets.factory.opened import weights_of
from tickets.factory.quantize import calibrate
from tickets.factory.tokens import pad, prune_vocabulary
from tickets.files import write_whole
from tickets.reference import open_graph

PATTERNS = ("2:4", "block:16x16@0.5", "any@0.5", "block:16x16@0.1", "any@0.1")
FORMS = ("fp32", "int8")
BATCH_TEXTS, BATCHES, ROUND_SECONDS = 16, 8, 0.25
VOCABULARY, MAX_TOKENS, CLASSES = 6000, 64, 16


@dataclass(frozen=True, slots=True)
class Graph:
    """One graph of the comparison; ``zeros``: share of its matrices."""

    content: bytes
    zeros: float


@click.command(epilog="Example: python -m bench.zeros --out bench/results/zeros.json")
@click.option("--rounds", type=click.IntRange(3), default=15, show_default=True, help="Turns of all graphs.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("bench/results/zeros.json"))
def main(rounds: int, out: Path) -> None:
    """Time and weigh the graphs; print a table and keep the raw numbers."""
    torch.set_num_threads(1)
    console = Console()
    torch.manual_seed(0)
    backbone = load_backbone()
    vocabulary = prune_vocabulary(backbone.tokenizer_json, BANKING, VOCABULARY, MAX_TOKENS)
    ids = vocabulary.encode(BANKING)
    dense = from_backbone(backbone, vocabulary, CLASSES, seed=0)
    random = np.random.default_rng(0)
    batches = [pad([ids[i] for i in random.choice(len(ids), BATCH_TEXTS)]).astype(np.int32) for _ in range(BATCHES)]
    graphs = _graphs(dense, ids)
    results: dict[str, Any] = {
        "machine": machine(), "runtime": onnxruntime.__version__, "commit": commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "command": f"python -m bench.zeros --rounds {rounds}",
        "clock": "the thread's own CPU time",
        "texts_per_batch": BATCH_TEXTS, "tokens_per_batch": [int(b.shape[1]) for b in batches], "threads": 1,
    }  # fmt: skip
    for form in FORMS:
        mine = {name: graph for (name, its), graph in graphs.items() if its == form}
        rates = measure(mine, batches, rounds, lambda text: console.print(text, style="dim"))
        results[form] = {name: _entry(graph, rates[name], rates["dense"]) for name, graph in mine.items()}
        console.print(_table(form, results[form]))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, (json.dumps(results, indent=1) + "\n").encode())
    console.print(f"raw numbers: {out}")


def measure(
    graphs: Mapping[str, Graph], batches: list[NDArray[np.int32]], rounds: int, announce: Callable[[str], None]
) -> dict[str, list[float]]:
    """Texts per second of one core, by graph and round; all graphs in turns, so that a noisy neighbour hits all."""
    sessions = {name: open_graph(graph.content, 1) for name, graph in graphs.items()}
    rates: dict[str, list[float]] = {name: [] for name in graphs}
    for session in sessions.values():
        _rate(session, batches, 0.1)  # warm up
    for done in range(rounds):
        for name, session in sessions.items():
            rates[name].append(_rate(session, batches, ROUND_SECONDS))
        announce(f"round {done + 1} of {rounds}")
    return rates


def _rate(session: Any, batches: list[NDArray[np.int32]], seconds: float) -> float:  # noqa: ANN401 - no types
    """By the thread's own time, as one intra-op thread is this one: who else is on the machine counts less."""
    start, done = time.thread_time(), 0
    while (elapsed := time.thread_time() - start) < seconds:
        session.run(None, {"input_ids": batches[done % len(batches)]})
        done += 1
    return done * BATCH_TEXTS / elapsed


def _graphs(dense: Classifier, ids: list[NDArray[np.int64]]) -> dict[tuple[str, str], Graph]:
    ranges = calibrate(dense, ids, 0)
    out = {("dense", form): Graph(_built(dense, form, ranges), 0.0) for form in FORMS}
    whole = {name: value.copy() for name, value in weights_of(dense).items()}
    for text in PATTERNS:
        pattern = parse_pattern(text)
        masks = pattern_masks(prunable(dense), pattern)
        weights = whole | {name: np.where(mask.numpy(), whole[name], np.float32(0)) for name, mask in masks.items()}
        for form in FORMS:
            plain = (
                build_fp32(dense.shape, weights)
                if form == "fp32"
                else build_int8(dense.shape, weights, ranges, host_isa())
            )
            graph = record_pattern(plain, weights, masks, pattern)
            out[text, form] = Graph(graph, zero_share(graph))
    half = replace(
        dense.shape, heads=tuple(h // 2 for h in dense.shape.heads), neurons=tuple(n // 2 for n in dense.shape.neurons)
    )  # fmt: skip
    for form in FORMS:
        out["half the heads and neurons", form] = Graph(_built(Classifier(half, CLASSES), form, ranges), 0.0)
    return out


def _built(model: Classifier, form: str, ranges: Ranges) -> bytes:
    weights = weights_of(model)
    return build_fp32(model.shape, weights) if form == "fp32" else build_int8(model.shape, weights, ranges, host_isa())


def _entry(graph: Graph, rates: list[float], base: list[float]) -> dict[str, Any]:
    ratios = sorted(a / b for a, b in zip(rates, base, strict=True))
    return {
        "zeros": round(graph.zeros, 4), "texts_per_s": round(statistics.median(rates), 1),
        "against_dense": [round(r, 3) for r in (statistics.median(ratios), ratios[0], ratios[-1])],
        "bytes": len(graph.content),
        "gzip_bytes": len(gzip.compress(graph.content, 6, mtime=0)), "rates": [round(r, 1) for r in rates],
    }  # fmt: skip


def _table(form: str, entries: Mapping[str, Any]) -> Table:
    table = Table(
        "matrices", "zeros", "texts/s", "against dense (median, lowest, highest)", "MB", "gzipped", title=form
    )
    for name, entry in entries.items():
        sizes = (f"{entry[key] / 1e6:.1f}" for key in ("bytes", "gzip_bytes"))
        table.add_row(
            name, f"{entry['zeros']:.0%}", f"{entry['texts_per_s']:,.0f}",
            "{:.2f} [{:.2f}, {:.2f}]".format(*entry["against_dense"]), *sizes,
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
