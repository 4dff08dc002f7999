"""Recipes of distillation tried on validation texts: of the zero-layer control, or of a family's last tier.

What a baseline is worth depends on how well it was trained, so the zero-layer control has a recipe of its own; this is
what it was chosen with. Every recipe is the factory's with some values replaced, every model a stage of the factory, so
what `tombola find` left is used again. fp32, no test text is looked at.
"""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bench.run import commit, machine
from tickets.factory.backbone import load_backbone
from tickets.factory.compute import choose_compute
from tickets.factory.data import DomainData, build
from tickets.factory.evaluation.separation import placements
from tickets.factory.formats import load_rows
from tickets.factory.models import load_model
from tickets.factory.plan import DEFAULT_PLAN, DEFAULT_TIERS, Plan, parse_tiers
from tickets.factory.quality import correct, fit, in_scope_scores, with_last_column
from tickets.factory.runs import Runs, Stage
from tickets.factory.stages import Parents, Workshop
from tickets.factory.tiers import Tiers
from tickets.factory.train import Recipe, predict
from tickets.files import write_whole

FILE = click.Path(dir_okay=False, path_type=Path)
ZERO = "zero"


@click.command(
    epilog="Example: python -m bench.recipes --data clinc150_full.json --domain home --of zero "
    "--try learning_rate=2e-3,vector_weight=10,distil_temperature=2 --try learning_rate=3e-4"
)
@click.option("--data", "file", type=FILE, required=True, help="Labelled texts, as `tombola find` takes them.")
@click.option("--domain", required=True)
@click.option("--of", "what", default=ZERO, show_default=True, help="zero: the zero-layer control; else a tier's name.")
@click.option("--try", "tried", multiple=True, required=True, help="Values to replace: NAME=VALUE,... ('' for none).")
@click.option("--teachers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--copies", type=click.IntRange(0), default=3, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=16, show_default=True)
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path), default=Path(".runs"), show_default=True)
@click.option("--out", type=FILE, help="Default: bench/results/recipes/OF-DOMAIN.json.")
def main(
    file: Path, domain: str, what: str, tried: Sequence[str], teachers: int, copies: int, epochs: int, runs: Path,
    out: Path | None,
) -> None:  # fmt: skip
    """Train by every recipe, measure on validation texts; print a table and keep the raw numbers."""
    torch.set_num_threads(1)
    console, data = Console(), build(load_rows(file), domain, 0)
    plan = replace(
        DEFAULT_PLAN, teachers=teachers, copies=copies, student=replace(DEFAULT_PLAN.student, epochs=epochs),
        fastest=replace(DEFAULT_PLAN.fastest, epochs=epochs), control=replace(DEFAULT_PLAN.control, epochs=epochs),
    )  # fmt: skip
    shop = Workshop(Runs(runs, lambda _: None), data, load_backbone(), plan, choose_compute(), lambda _: _quiet)
    found = []
    for text in tried:
        stage = trained(shop, what, changes(text))
        found.append({"recipe": text, **measured(stage, data)})
        console.print(f"{text or 'as it is'}: {found[-1]}", style="dim")
    document = {
        "machine": machine(), "commit": commit(), "domain": domain, "of": what, "teachers": teachers, "copies": copies,
        "epochs": epochs, "recipes": found,
    }  # fmt: skip
    out = out or Path("bench/results/recipes") / f"{what}-{domain}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, (json.dumps(document, indent=1) + "\n").encode())
    console.print(_table(found))


def changes(text: str) -> dict[str, Any]:
    """``learning_rate=3e-4,epochs=20`` -> values of a `Recipe`. Raises click.UsageError for a name it has not."""
    kinds = {field.name: field.type for field in fields(Recipe)}
    out: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in kinds:
            raise click.UsageError(f"a recipe has no {name!r}; it has {', '.join(kinds)}")
        out[name] = int(value) if kinds[name] is int else float(value)
    return out


def trained(shop: Workshop, what: str, changed: dict[str, Any]) -> Stage:
    """The control, or the tier at the end of the default family down to it, trained by the recipe so changed."""
    varied = replace(shop, plan=_varied(shop.plan, what, changed))
    dense = [Parents(shop).dense(seed) for seed in range(shop.plan.teachers)]
    signals = Parents(shop).signals(dense, dense[0])
    said = Parents(varied).signals(dense, dense[0])
    if what == ZERO:
        return Tiers(varied).zero_layers(dense[0], said, 0)
    tiers, parent = Tiers(shop), dense[0]
    latency = tiers.latency()
    for ask in parse_tiers(DEFAULT_TIERS):
        structure = tiers.structure(parent, signals, ask, latency)
        if ask.tier == what:
            return Tiers(varied).child(parent, said, structure, "ticket", ask, 0)
        parent = tiers.child(parent, signals, structure, "ticket", ask, 0)
    raise click.UsageError(f"no tier {what!r} in {DEFAULT_TIERS}, and it is not {ZERO!r}")


def measured(stage: Stage, data: DomainData) -> dict[str, float]:
    """In-scope accuracy and out-of-scope AUROC on the validation texts, in percent."""
    model, vocabulary = load_model(stage.path)
    validation, kinds = data.validation, np.asarray(data.validation.kinds)
    logits = with_last_column(predict(model, vocabulary.encode(validation.texts)).logits, len(data.labels))
    calibrated = fit(logits, validation.targets, kinds)
    scores = in_scope_scores(logits, calibrated)
    out = {"accuracy": round(100 * float(correct(logits, validation.targets, kinds).mean()), 2)}
    if (kinds != "in").any():
        out["auroc"] = round(100 * float(placements(scores[kinds == "in"], scores[kinds != "in"])[0].mean()), 2)
    return out


def _varied(plan: Plan, what: str, changed: dict[str, Any]) -> Plan:
    if what == ZERO:
        return replace(plan, control=replace(plan.control, **changed))
    return replace(plan, student=replace(plan.student, **changed), fastest=replace(plan.fastest, **changed))


def _table(found: Sequence[dict[str, Any]]) -> Table:
    table = Table("recipe", "accuracy, %", "AUROC, %", title="validation texts")
    for one in found:
        table.add_row(
            one["recipe"] or "as it is", *(f"{one.get(key, float('nan')):.2f}" for key in ("accuracy", "auroc"))
        )
    return table


def _quiet(_: int, __: int, ___: float) -> None:
    """Progress that nobody watches."""


if __name__ == "__main__":
    main()
