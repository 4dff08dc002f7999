"""How well the latency table predicts what structures take, and how near searched ones come to their budgets.

Measures a table of MiniLM-L6's blocks for batches of 16 and for single texts, then whole graphs: random structures (no
correction), and what `correct_and_search` finds for 4, 8, 16 and 32 times the dense fp32 parent's speed by made-up
scores. Lengths are those of the banking sentences that travel with the load test. Nothing needs training or data.
"""

import json
import statistics
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.run import commit, machine
from loadtest.sentences import BANKING
from tickets import bundle as bundles
from tickets.factory.encoder import Shape
from tickets.factory.fisher import Scores
from tickets.factory.latency import LatencyTable, measure_graph, measure_table, workload_of
from tickets.factory.latency_graph import build_made_up
from tickets.factory.search import correct_and_search
from tickets.reference import open_tokenizer

TICKET = Path("tickets/starter/banking-accurate.ticket")
CLASSES = 15
SPEEDUPS = (4, 8, 16, 32)
MINILM = Shape(
    vocabulary=6000, hidden=384, head_size=32, heads=(12,) * 6, neurons=(1536,) * 6, sources=tuple(range(6)),
    positions=64, activation="gelu", rank=160,
)  # fmt: skip


@click.command(epilog="Example: python -m bench.latency_table --structures 12")
@click.option("--structures", default=12, show_default=True, help="Random structures per batch size.")
@click.option("--activation", type=click.Choice(["gelu", "relu"]), default="gelu", show_default=True)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("bench/results/latency-table.json"),
    show_default=True, help="Raw results.",
)  # fmt: skip
def main(structures: int, activation: str, out: Path) -> None:
    """Compare predicted with measured milliseconds."""
    console = Console()
    shape = replace(MINILM, activation=activation)
    document: dict[str, Any] = {"machine": machine(), "commit": commit(), "at": datetime.now(UTC).isoformat()}
    document["command"] = f"python -m bench.latency_table --structures {structures} --activation {activation}"
    for batch in (16, 1):
        document[f"batch-{batch}"] = _measured(shape, batch, structures, console)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    console.print(f"raw numbers: {out}")


def _measured(shape: Shape, batch: int, structures: int, console: Console) -> dict[str, Any]:
    workload = workload_of(lengths(), batch)
    with Progress(console=console) as progress:
        task = progress.add_task(f"latency table, batch {batch}")
        table = measure_table(
            shape, CLASSES, workload, tick=lambda done, total: progress.update(task, completed=done, total=total)
        )
    dense_ms = measure_graph(
        build_made_up(shape, CLASSES, int8=False), workload, table=table, vocabulary=shape.vocabulary
    )
    random = np.random.default_rng(0)
    rows = [_row(drawn(shape, random), table) for _ in range(structures)]
    errors = [abs(row["predicted_ms"] / row["measured_ms"] - 1) for row in rows]
    searched = [_searched(shape, made_up_scores(shape, random), table, dense_ms, speedup) for speedup in SPEEDUPS]
    _print(console, f"batch {batch}, dense fp32 {dense_ms:.2f} ms", rows, searched)
    median, worst = statistics.median(errors), max(errors)
    console.print(f"relative error of {structures} random structures: median {median:.1%}, worst {worst:.1%}")
    return {
        "table": table.to_json(), "dense_ms": dense_ms, "structures": rows, "searched": searched,
        "error": {"median": median, "worst": worst},
    }  # fmt: skip


def lengths() -> list[int]:
    """Token counts of the banking sentences."""
    tokenizer = open_tokenizer(bundles.read(TICKET))
    return [len(row.ids) for row in tokenizer.encode_batch(list(BANKING))]


def drawn(shape: Shape, random: np.random.Generator) -> Shape:
    """A random structure: any number of layers, in each any number of heads and of groups of 32 neurons, none too."""
    layers = int(random.integers(1, shape.layers + 1))
    heads = random.integers(0, max(shape.heads) + 1, layers)
    neurons = 32 * random.integers(0, max(shape.neurons) // 32 + 1, layers)
    return replace(shape, sources=tuple(range(layers)), heads=tuple(map(int, heads)), neurons=tuple(map(int, neurons)))


def made_up_scores(shape: Shape, random: np.random.Generator) -> Scores:
    """Scores as skewed as Fisher scores are (log-normal, over two powers of ten), sub-layers unlike each other."""

    def draw(count: int) -> NDArray[np.float64]:
        return random.lognormal(0, 1.5, count) * random.lognormal(0, 1) / count

    return Scores(
        tuple(draw(count) for count in shape.heads),
        tuple(draw(count) for count in shape.neurons),
        random.lognormal(0, 1, (shape.layers, 2)),
        np.ones(shape.hidden),
    )


def _row(shape: Shape, table: LatencyTable) -> dict[str, Any]:
    measured = measure_graph(build_made_up(shape, CLASSES), table.workload, table=table, vocabulary=shape.vocabulary)
    predicted = table.predict(shape.heads, shape.neurons)
    return {"heads": shape.heads, "neurons": shape.neurons, "predicted_ms": predicted, "measured_ms": measured}


def _searched(shape: Shape, scores: Scores, table: LatencyTable, dense_ms: float, speedup: int) -> dict[str, Any]:
    found = correct_and_search(shape, scores, table, table.workload, dense_ms / speedup)
    return {
        "speedup": speedup, "budget_ms": dense_ms / speedup, "heads": [len(h) for h in found.kept.heads],
        "neurons": [len(n) for n in found.kept.neurons], "first_prediction_ms": table.predict(
            [len(h) for h in found.kept.heads], [len(n) for n in found.kept.neurons]
        ), "predicted_ms": found.predicted_ms, "measured_ms": found.measured_ms,
        "correction": found.table.correction, "layers": found.kept.layers,
    }  # fmt: skip


def _print(console: Console, title: str, rows: list[dict[str, Any]], searched: list[dict[str, Any]]) -> None:
    table = Table("for", "heads", "neurons", "budget ms", "predicted ms", "measured ms", title=title)
    for row in [*rows, *searched]:
        budget = f"{row['budget_ms']:.3f}" if "budget_ms" in row else ""
        table.add_row(
            f"{row['speedup']}x" if "speedup" in row else "random", " ".join(map(str, row["heads"])),
            " ".join(map(str, row["neurons"])), budget, f"{row['predicted_ms']:.3f}", f"{row['measured_ms']:.3f}",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
