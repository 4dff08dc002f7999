"""`tombola transfer`: options in, the matrix of masks and domains out. A composition root."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tickets.factory.backbone import DEFAULT_BACKBONE, Backbone, load_backbone
from tickets.factory.compute import Compute, choose_compute
from tickets.factory.formats import load_rows
from tickets.factory.loop import Progress
from tickets.factory.lottery.transfer import DEFAULT_RECIPE, Domain, Transfer, TransferPlan, choose_domains, in_scope
from tickets.factory.lottery.transfer_result import document, heat_map
from tickets.factory.runs import FACTORY, Runs
from tickets.factory.terminal import progress_view, recorded, refusing, runs_option, sender, tracker_option
from tickets.files import write_whole

MAX_TOKENS = 64
_FILE = click.Path(exists=False, dir_okay=False, path_type=Path)


@click.command(
    epilog="Example: tombola transfer --data clinc150_full.json --domains banking,travel,home --density 0.4 --seeds 2",
    short_help="Measure how masks of one domain do on another (factory).",
)
@click.option("--data", type=_FILE, required=True, help="Labelled texts of several domains: CSV, TSV, JSON lines or "
              "CLINC150's JSON.")  # fmt: skip
@click.option("--domain-labels", type=_FILE,
              help="JSON of domain -> labels, where the data file has no domain column.")  # fmt: skip
@click.option("--test", "test_file", type=_FILE, help="A second file that is the test split, where --data has none.")
@click.option("--domains", default="all", show_default=True,
              help="Names separated by commas, or all. Every pair is a training: ten make a hundred.")  # fmt: skip
@click.option("--density", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.4, show_default=True,
              help="The share of the encoder's matrix weights that a mask keeps. The less, the clearer whose mask it "
              "is; too little and no mask trains.")  # fmt: skip
@click.option("--levels", type=click.IntRange(1), default=3, show_default=True,
              help="Rounds of train, prune, rewind on the way to the density.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1, 9), default=2, show_default=True,
              help="Do everything from so many seeds, counted from --seed.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--epochs", type=click.IntRange(1), default=DEFAULT_RECIPE.epochs, show_default=True,
              help="Of every training. Fewer: faster, and all accuracies lower.")  # fmt: skip
@click.option("--backbone", help=f"Directory or Hugging Face id of a BERT encoder. Default: {DEFAULT_BACKBONE}.")
@runs_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for transfer.json and transfer.png. Default: the run's record.")  # fmt: skip
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, or cuda[:N]: auto takes a GPU if there is one."
)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
              help="Of matrix products in training; auto takes bf16 where the hardware multiplies it.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Torch threads. Default: all cores of this machine.")
@tracker_option
def transfer(data: Path, domain_labels: Path | None, test_file: Path | None, domains: str, **options: Any) -> None:  # noqa: ANN401
    """Find a mask on every domain, train it on every other, and compare with random masks and the dense model.

    In-scope texts only. A run that was interrupted goes on where it stopped when the same command is given again.
    """
    console = Console(stderr=True)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    with refusing():
        send = sender(options["tracker"])
        rows = load_rows(data, domain_labels, test_file)
        backbone = load_backbone(options["backbone"])
        plan = _plan(options, backbone)
        chosen = {name: in_scope(rows, name, backbone, plan) for name in choose_domains(rows, domains)}
        for note in dict.fromkeys(note for domain in chosen.values() for note in domain.data.notes):
            console.print(f"note: {note}")
        compute = choose_compute(options["device"], options["precision"])
        with progress_view(console) as view:
            told = Trainings(view.progress("all trainings"), plan.trainings(len(chosen)), view.announce)
            runs = Runs(options["runs_dir"], told.count)
            description = describe(chosen, backbone, plan, compute)
            with recorded(runs, "transfer", f"{len(chosen)}-domains", description) as record:
                matrix = Transfer(runs, backbone, chosen, plan, compute, told.progress).matrix()
                record.document.update(document(matrix))
                folder = options["out"] or record.folder
                write(record.document, folder)
        send(record.folder)
    console.print(table(record.document))
    for line in findings(record.document):
        console.print(line)
    console.print(f"the whole report: tombola report {record.id} --runs {options['runs_dir']}")
    click.echo(folder / "transfer.json")


@dataclass(slots=True)
class Trainings:
    """One bar over all trainings of a matrix, and a line as each begins; those done before count at once."""

    bar: Progress
    total: int
    announce: Callable[[str], None]
    begun: int = 0

    def count(self, _: str) -> None:
        """`Runs` announces every stage, done before or not."""
        self.bar(self.begun, self.total, 0.0)
        self.begun += 1

    def progress(self, title: str) -> Progress:
        """The progress of the training that has just begun."""
        self.announce(title)
        return lambda done, total, loss: self.bar(self.begun - (done < total), self.total, loss)


def describe(domains: dict[str, Domain], backbone: Backbone, plan: TransferPlan, compute: Compute) -> dict[str, Any]:
    """What a run's result depends on."""
    return {
        "factory": FACTORY, "domains": list(domains),
        "data": {name: domain.data.digests() for name, domain in domains.items()},
        "backbone": {"name": backbone.name, "sha256": backbone.sha256},
        "plan": asdict(plan), "compute": asdict(compute),
    }  # fmt: skip


def write(result: dict[str, Any], folder: Path) -> None:
    """The numbers and the heat map."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "transfer.json", (json.dumps(result, indent=1) + "\n").encode())
    write_whole(folder / "transfer.png", heat_map(result))


def table(result: dict[str, Any]) -> Table:
    """Rows: whose mask; columns, numbered so that ten fit into a terminal: what it was trained and tested on; then
    random masks and the dense model.
    """
    title = f"test accuracy, %, at density {result['density']:.2f}, by domain"
    out = Table(title=title, box=SIMPLE_HEAD, padding=0, pad_edge=False)
    out.add_column("mask of", no_wrap=True)
    for number, _ in enumerate(result["domains"], 1):
        out.add_column(str(number), justify="right")
    for a, (name, row) in enumerate(zip(result["domains"], result["accuracy"], strict=True)):
        cells = [f"{100 * value:.1f}" for value in row]
        cells[a] = f"[bold]{cells[a]}[/]"
        out.add_row(f"{a + 1} {name}", *cells)
    out.add_section()
    for name in ("random", "dense"):
        out.add_row(name, *(f"{100 * value:.1f}" for value in result[name]))
    return out


def findings(result: dict[str, Any]) -> list[str]:
    """What the matrix says, in a sentence each."""
    summary, out = result["summary"], []
    for key, what in (
        ("own_minus_others", "own masks against other domains'"),
        ("own_minus_random", "own masks against random ones of the same layer counts"),
        ("own_minus_dense", "own masks against the dense model"),
    ):
        low, high = summary[key]["points_ci"]
        sure = "" if low > 0 or high < 0 else ": not told apart by these texts and seeds"
        out.append(f"{what}: {summary[key]['points']:+.2f} points [{low:+.2f}, {high:+.2f}]{sure}")
    return out


def _plan(options: dict[str, Any], backbone: Backbone) -> TransferPlan:
    seeds = tuple(range(options["seed"], options["seed"] + options["seeds"]))
    recipe = replace(DEFAULT_RECIPE, epochs=options["epochs"])
    tokens = min(MAX_TOKENS, backbone.max_positions)
    return TransferPlan(options["density"], options["levels"], seeds, recipe, max_tokens=tokens)
