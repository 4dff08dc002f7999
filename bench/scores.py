"""Scores compared by what is left right after a cut, before any training: structures of equal speed, chosen by each.

Every score is the sum over texts of squared (or absolute) gradients of the logits along one direction per text; they
differ in the direction. `curvature` draws it with the covariance of what the teachers say (the factory's, `fisher` and
`taylor`), `labels` is the gradient of the loss with true labels (the papers'), `gradient` that of the distillation loss
itself. Measured: agreement with the dense parent on in-scope validation texts, and the divergence from it in nats.
"""

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.run import commit, machine
from tickets.factory.backbone import load_backbone
from tickets.factory.compute import Compute, choose_compute
from tickets.factory.data import DomainData, build
from tickets.factory.encoder import Classifier
from tickets.factory.fisher import Scores, directions, score
from tickets.factory.formats import load_rows
from tickets.factory.latency import LatencyTable
from tickets.factory.models import load_model
from tickets.factory.plan import DEFAULT_PLAN
from tickets.factory.quality import softmax
from tickets.factory.runs import Runs, Stage
from tickets.factory.search import search
from tickets.factory.shrink import cut
from tickets.factory.stages import Parents, Workshop, taught
from tickets.factory.tiers import SCORED_TEXTS, Tiers
from tickets.factory.train import predict
from tickets.files import write_whole

ASKED_TEXTS = 800
SPEEDUPS = (4.0, 6.0, 8.0, 12.0, 16.0)
FILE = click.Path(dir_okay=False, path_type=Path)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Parent:
    """A dense parent over its domain's small vocabulary, with what its teachers and itself say of the scored texts."""

    model: Classifier
    ids: list[NDArray[np.int64]]
    targets: NDArray[np.int64]
    teachers: Floats
    asked: list[NDArray[np.int64]]
    """Validation texts, and what the dense parent as it was says of them; which of them are in scope."""
    said: Floats
    inside: NDArray[np.bool_]


@click.command(epilog="Example: python -m bench.scores --data clinc150_full.json --domain banking --seeds 3")
@click.option("--data", "file", type=FILE, required=True, help="CLINC150's own JSON, the full version.")
@click.option("--domain", default="banking", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Dense parents, the teachers too.")
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path), default=Path(".runs"), show_default=True)
@click.option("--out", type=FILE, default=Path("bench/results/scores.json"), show_default=True)
def main(file: Path, domain: str, seeds: int, runs: Path, out: Path) -> None:
    """Choose structures by every score, cut, measure; print a table and keep the raw numbers."""
    torch.set_num_threads(1)
    console, compute = Console(), choose_compute()
    data = build(load_rows(file), domain, 0)
    shop = Workshop(Runs(runs, console.print), data, load_backbone(), DEFAULT_PLAN, compute, lambda _: _quiet)
    tiers, parents = Tiers(shop), Parents(shop)
    timed = json.loads((tiers.latency().path / "latency.json").read_text(encoding="utf-8"))
    table = LatencyTable.from_json(timed["table"])
    dense = [parents.dense(seed) for seed in range(seeds)]
    found: dict[str, dict[str, list[Any]]] = {}
    for seed, stage in enumerate(dense):
        parent = _parent(tiers, stage, parents.signals(dense, stage), data, compute)
        for name, scores in kinds(parent):
            for speedup in SPEEDUPS:
                kept = search(parent.model.shape, scores, table, timed["dense_ms"] / speedup)
                left = measure(cut(parent.model, kept, DEFAULT_PLAN.activation), parent, compute)
                found.setdefault(name, {}).setdefault(f"{speedup:g}x", []).append(left)
            console.print(f"seed {seed}, {name}: done", style="dim")
    results = {
        "machine": machine(), "commit": commit(), "domain": domain, "seeds": seeds, "scores": found,
        "command": f"python -m bench.scores --data {file.name} --domain {domain} --seeds {seeds}",
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, (json.dumps(results, indent=1) + "\n").encode())
    console.print(_table(found))


def kinds(parent: Parent) -> Iterator[tuple[str, Scores]]:
    """Every score of the comparison."""
    own = softmax(predict(parent.model, parent.ids).logits)
    along: Mapping[str, Floats] = {
        "curvature": directions(parent.teachers, 0),
        "labels": own - np.eye(own.shape[1], dtype=np.float32)[parent.targets],
        "gradient": own - softmax(parent.teachers),
    }
    squares: tuple[Literal["fisher", "taylor"], ...] = ("fisher", "taylor")
    for name, one in along.items():
        for kind in squares:
            yield f"{name}, {kind}", score(parent.model, parent.ids, one, kind)


def measure(child: Classifier, parent: Parent, compute: Compute) -> dict[str, Any]:
    """What is left: structure, agreement on in-scope texts, mean divergence over all asked texts."""
    logits = predict(child, parent.asked, compute).logits
    same = logits[:, :-1].argmax(axis=1) == parent.said[:, :-1].argmax(axis=1)
    p, q = softmax(parent.said), softmax(logits)
    divergence = (p * (np.log(np.maximum(p, 1e-12)) - np.log(np.maximum(q, 1e-12)))).sum(axis=1)
    return {
        "heads": child.shape.heads, "neurons": child.shape.neurons,
        "agreement": round(float(same[parent.inside].mean()), 4), "divergence": round(float(divergence.mean()), 4),
    }  # fmt: skip


def _parent(tiers: Tiers, dense: Stage, signals: Stage, data: DomainData, compute: Compute) -> Parent:
    model, vocabulary = tiers.small(dense)
    whole, pieces = load_model(dense.path)
    index = data.train.half_inside(SCORED_TEXTS, 0)
    asked = data.validation.half_inside(ASKED_TEXTS, 0)
    texts = [data.validation.texts[i] for i in asked]
    return Parent(
        model, vocabulary.encode([data.train.texts[i] for i in index]), data.train.targets[index],
        taught(data.train, signals)[1].logits[index], vocabulary.encode(texts),
        predict(whole, pieces.encode(texts), compute).logits, np.asarray(data.validation.kinds)[asked] == "in",
    )  # fmt: skip


def _table(found: Mapping[str, Mapping[str, list[Any]]]) -> Table:
    table = Table(title="agreement with the dense parent right after the cut, %, mean over seeds (divergence, nats)")
    for heading in ("score", *(f"{speedup:g}x" for speedup in SPEEDUPS)):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name, by_speed in found.items():
        means = [
            [statistics.mean(one[key] for one in ones) for key in ("agreement", "divergence")]
            for ones in by_speed.values()
        ]
        table.add_row(name, *(f"{100 * agreement:.0f} ({divergence:.2f})" for agreement, divergence in means))
    return table


def _quiet(_: int, __: int, ___: float) -> None:
    """Progress that nobody watches: everything that takes long was done by `tombola find`."""


if __name__ == "__main__":
    main()
