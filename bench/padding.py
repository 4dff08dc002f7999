"""What padding costs a ticket, with the scores of padding pushed down by 10,000 and by what the factory takes.

ONNX Runtime's softmax gives exp(-88) to whatever lies lower, a denormal number, and a product with denormals is slow on
x86. The starter family's banking tickets run in turns, on batches of 16 sentences padded to the longest, with either
mask, and on the same batches with words in place of padding.
"""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.run import commit, machine
from loadtest.sentences import BANKING
from tickets import bundle as bundles
from tickets import starter
from tickets.factory.graph import MASKED
from tickets.factory.latency_clock import in_turns
from tickets.files import write_whole
from tickets.reference import Reference, open_graph

LOW = -1e4
BATCHES, BATCH_TEXTS = 16, 16
TIERS = ("accurate", "balanced", "fast")


@click.command(epilog="Example: python -m bench.padding --rounds 9")
@click.option("--rounds", type=click.IntRange(3), default=9, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5), default=4.0, show_default=True, help="Per round and ticket.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("bench/results/padding.json"))
def main(rounds: int, seconds: float, out: Path) -> None:
    """Time both masks, print a table and keep the raw numbers."""
    results: dict[str, Any] = {
        "machine": machine(), "runtime": onnxruntime.__version__, "commit": commit(),
        "command": f"python -m bench.padding --rounds {rounds} --seconds {seconds:g}",
        "clock": "the thread's own CPU time, quiet quartile of each round; milliseconds per batch of 16",
        "masks": {"low": LOW, "factory": MASKED}, "tickets": {},
    }  # fmt: skip
    table = Table(title="median of rounds [lowest, highest]")
    for heading in ("ticket", "padding, share", "low mask / no padding", "factory's / no padding", "low / factory's"):
        table.add_column(heading, justify="right")
    for tier in TIERS:
        found = measure(Path(starter.__file__).parent / f"banking-{tier}.ticket", rounds, seconds)
        results["tickets"][tier] = found
        table.add_row(tier, f"{found['padding']:.2f}", *(_shown(found["ratios"][key]) for key in found["ratios"]))
    Console().print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, (json.dumps(results, indent=1) + "\n").encode())


def measure(path: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """All turns of one ticket; ``same``: whether both masks give the same logits to the bit."""
    reference = Reference(bundles.read(path))
    graph = bytes(reference.bundle.members["model.onnx"])
    masks = {"low": masked(graph, LOW), "factory": masked(graph, MASKED)}
    random = np.random.default_rng(0)
    padded = [reference.tokens([BANKING[i] for i in random.choice(len(BANKING), BATCH_TEXTS)]) for _ in range(BATCHES)]
    filled = [np.where(ids == 0, np.resize(ids[ids > 0], ids.shape), ids) for ids in padded]
    took = [_round(masks, padded, filled, seconds) for _ in track(range(rounds), path.stem, transient=True)]
    ratios = {
        "low": [one["low"] / one["filled"] for one in took],
        "factory": [one["factory"] / one["filled"] for one in took],
        "low to factory": [one["low"] / one["factory"] for one in took],
    }
    low, ours = (np.concatenate([_logits(one, ids) for ids in padded]) for one in masks.values())
    return {
        "padding": round(float(np.mean([(ids == 0).mean() for ids in padded])), 4), "rounds_ms": took,
        "same": bool((low == ours).all()),
        "ratios": {
            name: [round(float(value), 3) for value in (statistics.median(of), min(of), max(of))]
            for name, of in ratios.items()
        },
    }  # fmt: skip


def masked(graph: bytes, value: float) -> bytes:
    """The graph with ``value`` added to the scores of padding: the one large negative number among its constants."""
    model = onnx.load_from_string(graph)
    tensors = [one for one in model.graph.initializer if numpy_helper.to_array(one).size == 1]
    (mask,) = [one for one in tensors if float(numpy_helper.to_array(one).reshape(-1)[0]) in (LOW, MASKED)]
    mask.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(mask), value), mask.name))
    return bytes(model.SerializeToString())


def _round(
    masks: Mapping[str, bytes], padded: list[NDArray[np.int32]], filled: list[NDArray[np.int32]], seconds: float
) -> dict[str, float]:
    feeds = [{"input_ids": ids.astype(np.int32)} for ids in (*padded, *filled)]
    times = in_turns(list(masks.values()), feeds, seconds, lambda done, total: None)
    out = {name: round(float(row[: len(padded)].mean()), 4) for name, row in zip(masks, times, strict=True)}
    return out | {"filled": round(float(times[:, len(padded) :].mean()), 4)}


def _logits(graph: bytes, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    return np.asarray(open_graph(graph, 1).run(None, {"input_ids": ids})[0])


def _shown(spread: list[float]) -> str:
    return f"{spread[0]:.2f} [{spread[1]:.2f}, {spread[2]:.2f}]"


if __name__ == "__main__":
    main()
