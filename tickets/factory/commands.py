"""The factory's commands: find, evaluate. A composition root: options in, files out."""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tickets import bundle as bundles
from tickets.bundle import BundleError
from tickets.factory.backbone import DEFAULT_BACKBONE, BackboneError, load_backbone
from tickets.factory.compute import choose_compute
from tickets.factory.data import WHOLE, DataError, DomainData, build
from tickets.factory.family import Family, TierTarget, View, find_family
from tickets.factory.formats import load_rows
from tickets.factory.proof import ProofError
from tickets.factory.quality import Calibrated, measure, with_last_column
from tickets.factory.report import markdown, plot, terminal_table
from tickets.factory.runs import Runs
from tickets.factory.shrink import Target
from tickets.factory.stages import DEFAULT_PLAN
from tickets.files import write_whole
from tickets.reference import Reference

DEFAULT_TIERS = "accurate=4x4x512,balanced=3x3x384,fast=1x3x384"
_FILE = click.Path(exists=False, dir_okay=False, path_type=Path)


class Refused(click.ClickException):
    """The command's input cannot be used; nothing was changed."""

    exit_code = 2


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except (DataError, BackboneError, BundleError, ProofError, ValueError) as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")) from error


@click.command(
    epilog="Example: tombola find --data clinc150_full.json --domain banking --out family/",
    short_help="Find a family of tickets for a domain (factory).",
)
@click.option("--data", type=_FILE, required=True, help="Labelled texts: CSV, TSV, JSON lines or CLINC150's JSON.")
@click.option("--domains", type=_FILE, help="JSON of domain -> labels, where the data file has no domain column.")
@click.option("--test", "test_file", type=_FILE, help="A second file that is the test split, where --data has none.")
@click.option("--domain", required=True, help="The domain to find tickets for; other domains count as out of scope. "
              f"{WHOLE!r} takes the whole data set as one.")  # fmt: skip
@click.option(
    "--tiers", default=DEFAULT_TIERS, show_default=True,
    help="Tiers from large to small as NAME=LAYERSxHEADSxNEURONS, separated by commas.",
)  # fmt: skip
@click.option("--backbone", help=f"Directory or Hugging Face id of a BERT encoder. Default: {DEFAULT_BACKBONE}.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("family"), show_default=True,
              help="Folder for the tickets, family.json and REPORT.md; families already there stay.")  # fmt: skip
@click.option("--runs", "runs_dir", type=click.Path(file_okay=False, path_type=Path), default=Path(".runs"),
              show_default=True, help="Folder of resumable stages: run the same command again to go on.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds everything; same seed, same tickets.")
@click.option("--epochs", type=click.IntRange(1), help="Distillation epochs per tier (fewer: faster, less accurate).")
@click.option("--dense-epochs", type=click.IntRange(1), help="Fine-tuning epochs of the dense parent.")
@click.option("--teachers", type=click.IntRange(1, 9), default=DEFAULT_PLAN.teachers, show_default=True,
              help="Dense models, from different seeds, whose average answer is distilled. 1 is fastest.")  # fmt: skip
@click.option("--copies", type=click.IntRange(0), default=DEFAULT_PLAN.copies, show_default=True,
              help="Made-up variants of each text to distil too. Fewer: faster, less accurate.")  # fmt: skip
@click.option("--vocabulary", type=click.IntRange(200), default=DEFAULT_PLAN.vocabulary, show_default=True,
              help="Word pieces that each ticket keeps.")  # fmt: skip
@click.option("--rank", type=click.IntRange(0), default=DEFAULT_PLAN.rank, show_default=True,
              help="Width of the word table; narrower tables make room for more words. 0: full width.")  # fmt: skip
@click.option("--max-tokens", type=click.IntRange(8, 512), default=DEFAULT_PLAN.max_tokens, show_default=True,
              help="Longer texts are cut to this many tokens.")  # fmt: skip
@click.option("--sample", "samples", multiple=True,
              help="A sentence of your own that travels in the tickets; the data's never do.")  # fmt: skip
@click.option("--evidence", "with_evidence", is_flag=True,
              help="Pack the test texts, their labels and the dense parent's answers into each ticket, so that whoever "
              "registers it can measure it again. Off by default: the texts travel with the ticket, to everybody who "
              "gets it.")  # fmt: skip
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, or cuda[:N]: auto takes a GPU if there is one."
)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
              help="Of matrix products in training; auto takes bf16 where the hardware multiplies it.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Torch threads. Default: all cores of this machine.")
def find(data: Path, domains: Path | None, test_file: Path | None, domain: str, tiers: str, **options: Any) -> None:  # noqa: ANN401
    """Find one ticket per latency tier: fine-tune, prune, distil, quantize to int8, prove, pack.

    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    console = Console(stderr=True)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    with _refusing():
        wanted = parse_tiers(tiers)
        rows = load_rows(data, domains, test_file)
        examples = build(rows, domain, options["seed"])
        backbone = load_backbone(options["backbone"])
        plan = _plan(options)
        compute = choose_compute(options["device"], options["precision"])
        for note in examples.notes:
            console.print(f"note: {note}")
        with _progress(console) as view:
            runs = Runs(options["runs_dir"], view.announce)
            family = find_family(
                examples, backbone, wanted, plan, compute=compute, runs=runs, view=view, samples=options["samples"],
                with_evidence=options["with_evidence"],
            )  # fmt: skip
        write_family(family, options["out"])
    console.print(terminal_table(family.report))
    for ticket in family.tickets:
        click.echo(f"{options['out'] / _file_name(family, ticket.tier)}\t{ticket.id}")


@click.command(
    epilog="Example: tombola evaluate banking-fast.ticket --data clinc150_full.json",
    short_help="Measure a ticket's quality on labelled texts (factory).",
)
@click.argument("ticket", type=_FILE)
@click.option("--data", type=_FILE, required=True, help="Labelled texts; the test split is used where there is one.")
@click.option("--domains", type=_FILE, help="JSON of domain -> labels, where the data file has no domain column.")
@click.option("--test", "test_file", type=_FILE, help="A second file that is the test split, where --data has none.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def evaluate(ticket: Path, data: Path, domains: Path | None, test_file: Path | None, as_json: bool) -> None:
    """Measure a packed ticket at its own frozen temperature and threshold."""
    with _refusing():
        bundle = bundles.read(ticket)
        manifest = bundle.manifest
        examples = build(load_rows(data, domains, test_file), manifest.domain, manifest.lineage.seeds.get("all", 0))
        if list(examples.labels) != manifest.labels:
            raise DataError(f"the data's labels for domain {manifest.domain!r} are not the ticket's labels")
        report = evaluated(Reference(bundle), examples)
    if as_json:
        click.echo(json.dumps(report, indent=1))
    else:
        Console().print(terminal_table({"domain": manifest.domain, "models": {manifest.name: report}}))


def parse_tiers(text: str) -> list[TierTarget]:
    """``name=LxHxN,...`` -> targets. Raises ValueError that shows the form."""
    out = []
    for part in text.split(","):
        name, _, structure = part.strip().partition("=")
        try:
            layers, heads, neurons = (int(n) for n in structure.split("x"))
        except ValueError:
            raise ValueError(f"cannot read tier {part!r}; write NAME=LAYERSxHEADSxNEURONS, e.g. fast=1x4x384") from None
        if not name or min(layers, heads, neurons) < 1:
            raise ValueError(f"tier {part!r} needs a name and at least 1 layer, 1 head and 1 neuron")
        out.append(TierTarget(name, Target(layers, heads, neurons)))
    return out


def evaluated(reference: Reference, examples: DomainData) -> dict[str, Any]:
    """The quality report of an opened ticket on a domain's test split."""
    calibration = reference.bundle.manifest.calibration
    scheme: Literal["class", "max_probability"] = "class" if calibration.out_of_scope == "class" else "max_probability"
    logits = with_last_column(reference.logits(examples.test.texts), len(examples.labels))
    calibrated = Calibrated(calibration.temperature, calibration.threshold, scheme)
    report: dict[str, Any] = dict(measure(logits, examples.test.targets, np.asarray(examples.test.kinds), calibrated))
    return report | {"bytes": reference.bundle.size_bytes}


def write_family(family: Family, folder: Path) -> None:
    """Write the tickets first, then family.json, REPORT.md and the plot; other domains' entries stay."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:  # two domains may be found side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write_family(family, folder)


def _write_family(family: Family, folder: Path) -> None:
    index = folder / "family.json"
    document = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {"families": {}, "reports": {}}
    for ticket in family.tickets:
        write_whole(folder / _file_name(family, ticket.tier), ticket.data)
    document["families"][family.domain] = [
        {"file": _file_name(family, t.tier), "tier": t.tier, "id": t.id} for t in family.tickets
    ]
    document["reports"][family.domain] = family.report
    write_whole(index, (json.dumps(document, indent=1) + "\n").encode())
    pages = [markdown(report) for _, report in sorted(document["reports"].items())]
    write_whole(
        folder / "REPORT.md", ("# Families\n\n![Accuracy over speed](pareto.png)\n\n" + "\n".join(pages)).encode()
    )
    plot(document["reports"], folder / "pareto.png")


def _file_name(family: Family, tier: str) -> str:
    return f"{family.domain}-{tier}.ticket"


def _plan(options: dict[str, Any]) -> Any:  # noqa: ANN401
    plan = replace(
        DEFAULT_PLAN,
        seed=options["seed"],
        vocabulary=options["vocabulary"],
        rank=options["rank"],
        max_tokens=options["max_tokens"],
        teachers=options["teachers"],
        copies=options["copies"],
    )
    if options["epochs"]:
        plan = replace(
            plan, student=replace(plan.student, epochs=options["epochs"]),
            control=replace(plan.control, epochs=options["epochs"]),
        )  # fmt: skip
    if options["dense_epochs"]:
        plan = replace(plan, dense=replace(plan.dense, epochs=options["dense_epochs"]))
    return plan


@contextmanager
def _progress(console: Console) -> Iterator[View]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn(), TextColumn("loss {task.fields[loss]:.3f}"))  # fmt: skip
    with Progress(*columns, console=console) as bars:

        def progress(title: str) -> Callable[[int, int, float], None]:
            task = bars.add_task(title, loss=0.0, total=None)
            return lambda done, total, loss: bars.update(task, completed=done, total=total, loss=loss)

        yield View(announce=bars.console.print, progress=progress)
