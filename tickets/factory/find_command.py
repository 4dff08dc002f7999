"""`tombola find`: options in, a family of tickets out. A composition root."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from tickets.factory.backbone import DEFAULT_BACKBONE, Backbone, load_backbone
from tickets.factory.compute import Compute, choose_compute, choose_isa
from tickets.factory.data import WHOLE, DomainData, build
from tickets.factory.evaluation.gates import load_gates
from tickets.factory.family import find_family
from tickets.factory.family_files import file_name, write_family
from tickets.factory.formats import load_rows
from tickets.factory.plan import CONTROLS, DEFAULT_PLAN, DEFAULT_TIERS, Ask, Plan, parse_tiers
from tickets.factory.report import terminal_table
from tickets.factory.runs import FACTORY, Runs
from tickets.factory.terminal import progress_view, recorded, refusing, runs_option, sender, tracker_option

_FILE = click.Path(exists=False, dir_okay=False, path_type=Path)


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
    help="Tiers from large to small, separated by commas: NAME=8x (times the dense parent's speed), NAME=0.9ms (of "
    "one core for a batch of 16 texts), either with @WIDTH to narrow the hidden states, or NAME=LAYERSxHEADSxNEURONS.",
)  # fmt: skip
@click.option("--backbone", help=f"Directory or Hugging Face id of a BERT encoder. Default: {DEFAULT_BACKBONE}.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("family"), show_default=True,
              help="Folder for the tickets, family.json and REPORT.md; families already there stay.")  # fmt: skip
@runs_option
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds everything; same seed, same tickets.")
@click.option("--seeds", type=click.IntRange(1, 9), default=1, show_default=True,
              help="Find everything again from so many seeds in a row. A verdict needs 3; tickets come from the "
              "first.")  # fmt: skip
@click.option("--controls", is_flag=True,
              help="Train each tier's controls too (random, worst-scored and re-initialised structures of its size): "
              "four times the work. Without them no ticket is called winning.")  # fmt: skip
@click.option("--score", type=click.Choice(["fisher", "taylor"]), default="fisher", show_default=True,
              help="How heads and neurons are scored.")  # fmt: skip
@click.option("--measure-seconds", type=click.FloatRange(1.0), default=DEFAULT_PLAN.measure_seconds, show_default=True,
              help="How long to measure what structures cost on this machine; longer is less noisy.")  # fmt: skip
@click.option("--gates", "gates_file", type=_FILE, help="A TOML file of gates. Default: the factory's own.")
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
@click.option("--dense", "with_dense", is_flag=True,
              help="Write the dense parent as a ticket too (DOMAIN-dense.ticket, fp32), to compare others with "
              "(tombola evaluate --parent).")  # fmt: skip
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, or cuda[:N]: auto takes a GPU if there is one."
)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
              help="Of matrix products in training; auto takes bf16 where the hardware multiplies it.")  # fmt: skip
@click.option("--isa", type=click.Choice(["auto", "vnni", "avx2"]), default="auto", show_default=True,
              help="What int8 products are made for: avx2 is right on every x86 CPU, vnni on those with VNNI or AMX, "
              "and a little more accurate; where there is no VNNI it is refused. auto: this machine's.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Torch threads. Default: all cores of this machine.")
@tracker_option
def find(data: Path, domains: Path | None, test_file: Path | None, domain: str, tiers: str, **options: Any) -> None:  # noqa: ANN401
    """Find one ticket per latency tier: fine-tune, search structures that are fast enough, distil, quantize to int8,
    prove, pack.

    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    console = Console(stderr=True)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    with refusing():
        asks, gates = parse_tiers(tiers), load_gates(options["gates_file"])
        send = sender(options["tracker"])
        examples = build(load_rows(data, domains, test_file), domain, options["seed"])
        backbone = load_backbone(options["backbone"])
        plan, compute = _plan(options), choose_compute(options["device"], options["precision"])
        for note in examples.notes:
            console.print(f"note: {note}")
        with progress_view(console) as view:
            runs = Runs(options["runs_dir"], view.announce)
            description = describe(examples, backbone, asks, plan, compute) | {
                "gates": [asdict(gate) for gate in gates], "samples": list(options["samples"]),
                "evidence": options["with_evidence"],
            }  # fmt: skip
            with recorded(runs, "find", domain, description) as record:
                family = find_family(
                    examples, backbone, asks, plan, compute=compute, runs=runs, view=view, gates=gates,
                    samples=options["samples"], with_evidence=options["with_evidence"],
                    with_dense=options["with_dense"],
                )  # fmt: skip
                record.document.update(family.report)
        write_family(family, options["out"])
        send(record.folder)
    console.print(terminal_table(family.report))
    for line in verdicts(family.report):
        console.print(line)
    console.print(f"the whole report: tombola report {record.id} --runs {options['runs_dir']}")
    for ticket in family.bundles:
        click.echo(f"{options['out'] / file_name(family, ticket.tier)}\t{ticket.id}")


def verdicts(report: dict[str, Any]) -> list[str]:
    """A line per tier: winning or pruned, and why; failed gates by name."""
    out = []
    for tier in report["tiers"]:
        failed = [gate["gate"] for gate in tier["gates"] if not gate["passed"]]
        reasons = "; ".join(tier["verdict"]["reasons"])
        gates = f" Failed gates: {', '.join(failed)}." if failed else ""
        out.append(f"{tier['tier']} ({tier['ask']}): {tier['verdict']['label']}. {reasons}{gates}")
    return out


def describe(data: DomainData, backbone: Backbone, asks: list[Ask], plan: Plan, compute: Compute) -> dict[str, Any]:
    """What a run's result depends on."""
    return {
        "factory": FACTORY, "domain": data.domain, "labels": len(data.labels), "data": data.digests(),
        "backbone": {"name": backbone.name, "sha256": backbone.sha256},
        "tiers": [f"{ask.tier}={ask}" for ask in asks], "plan": asdict(plan), "compute": asdict(compute),
    }  # fmt: skip


def _plan(options: dict[str, Any]) -> Plan:
    plan = replace(
        DEFAULT_PLAN,
        seed=options["seed"],
        vocabulary=options["vocabulary"],
        rank=options["rank"],
        max_tokens=options["max_tokens"],
        teachers=options["teachers"],
        copies=options["copies"],
        seeds=options["seeds"],
        score=options["score"],
        measure_seconds=options["measure_seconds"],
        isa=choose_isa(options["isa"]),
        controls=CONTROLS if options["controls"] else (),
    )
    if options["epochs"]:
        plan = replace(
            plan,
            student=replace(plan.student, epochs=options["epochs"]),
            fastest=replace(plan.fastest, epochs=options["epochs"]),
            control=replace(plan.control, epochs=options["epochs"]),
        )  # fmt: skip
    if options["dense_epochs"]:
        plan = replace(plan, dense=replace(plan.dense, epochs=options["dense_epochs"]))
    return plan
