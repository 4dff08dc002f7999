"""`tombola patterns`: options in, what 2:4 and blocks cost in accuracy out. A composition root."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from tickets.factory.backbone import DEFAULT_BACKBONE, Backbone, load_backbone
from tickets.factory.compute import choose_compute, host_isa
from tickets.factory.data import build
from tickets.factory.formats import load_rows
from tickets.factory.lottery.patterned import DEFAULT_RECIPE, DENSE, Branch, Patterner, check_fits, summary
from tickets.factory.lottery.patterns import FORMS, Pattern, parse_pattern
from tickets.factory.plan import DEFAULT_PLAN, Plan
from tickets.factory.runs import FACTORY, Runs, described
from tickets.factory.stages import Parents, Workshop
from tickets.factory.terminal import progress_view, recorded, refusing, runs_option, sender, tracker_option
from tickets.factory.train import Recipe
from tickets.files import write_whole

DEFAULT_PATTERNS = "2:4,block:16x16@0.5,any@0.5"
_FILE = click.Path(exists=False, dir_okay=False, path_type=Path)


@click.command(
    epilog="Example: tombola patterns --data clinc150_full.json --domain banking --patterns 2:4,any@0.5",
    short_help="Prune to 2:4 or blocks, and measure what it costs (factory).",
)
@click.option("--data", type=_FILE, required=True, help="Labelled texts: CSV, TSV, JSON lines or CLINC150's JSON.")
@click.option("--domain-labels", type=_FILE,
              help="JSON of domain -> labels, where the data file has no domain column.")  # fmt: skip
@click.option("--test", "test_file", type=_FILE, help="A second file that is the test split, where --data has none.")
@click.option("--domain", required=True, help="The domain to train on; other domains count as out of scope.")
@click.option("--patterns", default=DEFAULT_PATTERNS, show_default=True,
              help=f"Separated by commas: {FORMS}. Densities are per matrix.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1, 8), default=1, show_default=True,
              help="Reach the pattern in so many steps, each fine-tuned. More: gentler, longer.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=DEFAULT_RECIPE.epochs, show_default=True,
              help="Fine-tuning epochs of each step.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1, 9), default=3, show_default=True,
              help="Do everything from so many seeds, counted from --seed.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--dense-epochs", type=click.IntRange(1), help="Fine-tuning epochs of the dense parent, as in find.")
@click.option("--vocabulary", type=click.IntRange(200), default=DEFAULT_PLAN.vocabulary, show_default=True,
              help="Word pieces that each model keeps.")  # fmt: skip
@click.option("--backbone", help=f"Directory or Hugging Face id of a BERT encoder. Default: {DEFAULT_BACKBONE}.")
@runs_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("patterns"), show_default=True,
              help="Folder for patterns.json and the ONNX graphs of the first seed.")  # fmt: skip
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, or cuda[:N]: auto takes a GPU if there is one."
)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
              help="Of matrix products in training; auto takes bf16 where the hardware multiplies it.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Torch threads. Default: all cores of this machine.")
@tracker_option
def patterns(data: Path, domain_labels: Path | None, test_file: Path | None, domain: str, **options: Any) -> None:  # noqa: ANN401
    """Prune the dense parent's matrices to patterns that hardware can skip, fine-tune, export, and compare.

    The graphs are ordinary dense ones with zeros, in fp32 and int8, whose metadata names the pattern. ONNX Runtime on a
    CPU runs them no faster (docs/patterns.md says what does). An interrupted run goes on when the command is repeated.
    """
    console = Console(stderr=True)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    with refusing():
        send = sender(options["tracker"])
        wanted = parse_patterns(options["patterns"])
        examples = build(load_rows(data, domain_labels, test_file), domain, options["seed"])
        backbone = load_backbone(options["backbone"])
        compute = choose_compute(options["device"], options["precision"])
        plan, recipe = _plan(options, backbone), replace(DEFAULT_RECIPE, epochs=options["epochs"])
        for pattern in wanted:
            check_fits(backbone.weights, pattern)
        for note in examples.notes:
            console.print(f"note: {note}")
        seeds = range(options["seed"], options["seed"] + options["seeds"])
        description = {
            "factory": FACTORY, "domain": domain, "data": examples.digests(), "seeds": list(seeds),
            "backbone": {"name": backbone.name, "sha256": backbone.sha256}, "compute": asdict(compute),
            "patterns": [str(pattern) for pattern in wanted], "rounds": options["rounds"],
            "recipe": described(recipe), "dense": described(plan.dense), "vocabulary": plan.vocabulary,
            "isa": plan.isa,
        }  # fmt: skip
        with progress_view(console) as view:
            runs = Runs(options["runs_dir"], view.announce)
            shop = Workshop(runs, examples, backbone, plan, compute, view.progress)
            with recorded(runs, "patterns", domain, description) as record:
                branches = find_branches(shop, recipe, options["rounds"], wanted, seeds)
                result = record.document
                result.update({"domain": domain, "seeds": list(seeds), "patterns": summary(branches)})
        written = write(result, [branch for branch in branches if branch.seed == seeds[0]], options["out"])
        send(record.folder)
    console.print(table(result))
    for path in written:
        click.echo(path)


def parse_patterns(text: str) -> list[Pattern]:
    """``2:4,any@0.5`` -> patterns. Raises PatternError where one cannot be read, or none is there."""
    return [parse_pattern(part.strip()) for part in text.split(",")]


def find_branches(
    shop: Workshop, recipe: Recipe, rounds: int, wanted: Sequence[Pattern], seeds: Sequence[int]
) -> list[Branch]:
    """The dense branch and one per pattern, from every seed's dense parent."""
    parents, patterner = Parents(shop), Patterner(shop, recipe, rounds)
    out = []
    for seed in seeds:
        dense = parents.dense(seed)
        out += [patterner.branch(dense, pattern, seed) for pattern in (None, *wanted)]
    return out


def write(result: dict[str, Any], branches: Sequence[Branch], folder: Path) -> list[Path]:
    """The numbers, and the graphs of one seed. Returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for branch in branches:
        for form in ("fp32", "int8"):
            name = branch.name.replace(":", "-").replace("@", "-at-")
            written.append(folder / f"{result['domain']}-{name}-{form}.onnx")
            write_whole(written[-1], (branch.exported.path / f"{form}.onnx").read_bytes())
    numbers = folder / "patterns.json"
    write_whole(numbers, (json.dumps(result, indent=1) + "\n").encode())
    return [*written, numbers]


def table(result: dict[str, Any]) -> Table:
    """A row per pattern and form: means over seeds, and the paired difference to the dense branch."""
    out = Table(
        "pattern", "form", "zeros", "accuracy", "against dense", "AUROC", "MB",
        title=f"{result['domain']}: in-scope accuracy, points against dense, out-of-scope AUROC",
    )  # fmt: skip
    for name, entry in result["patterns"].items():
        for form in ("fp32", "int8"):
            measured = entry[form]
            against = measured["against_dense"]
            low, high = against["points_ci"]
            auroc = measured.get("out_of_scope_auroc")
            out.add_row(
                name, form, f"{measured['zeros']:.1%}", f"{measured['in_scope_accuracy']:.2%}",
                "" if name == DENSE else f"{against['points']:+.1f} [{low:+.1f}, {high:+.1f}]",
                "" if auroc is None else f"{auroc:.4f}", f"{measured['bytes'] / 1e6:.1f}",
            )  # fmt: skip
    return out


def _plan(options: dict[str, Any], backbone: Backbone) -> Plan:
    plan = replace(
        DEFAULT_PLAN, seed=options["seed"], vocabulary=options["vocabulary"], rank=0, isa=host_isa(),
        max_tokens=min(DEFAULT_PLAN.max_tokens, backbone.max_positions),
    )  # fmt: skip
    if options["dense_epochs"]:
        plan = replace(plan, dense=replace(plan.dense, epochs=options["dense_epochs"]))
    return plan
