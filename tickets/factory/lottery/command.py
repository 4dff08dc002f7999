"""`tombola lottery`: options in, the curve of sparsity and accuracy out. A composition root."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console

from tickets.factory.backbone import DEFAULT_BACKBONE, load_backbone
from tickets.factory.compute import Compute, choose_compute
from tickets.factory.data import WHOLE, build
from tickets.factory.formats import load_rows
from tickets.factory.lottery.branches import CONTROLS
from tickets.factory.lottery.digits import NETWORKS, DigitsNetwork
from tickets.factory.lottery.levels import TICKET, Lottery, LotteryPlan
from tickets.factory.lottery.networks import Network
from tickets.factory.lottery.result import document, summary, terminal_table
from tickets.factory.lottery.step import parse_step
from tickets.factory.lottery.texts import TextsNetwork, TextsRecipe
from tickets.factory.lottery.trained import Trained
from tickets.factory.runs import FACTORY, Runs
from tickets.factory.terminal import progress_view, recorded, refusing, runs_option, sender, tracker_option

TRANSFORMER = "transformer"
_FILE = click.Path(exists=False, dir_okay=False, path_type=Path)


@click.command(
    epilog="Examples: tombola lottery --network mlp --levels 16 --seeds 5; "
    "tombola lottery --network transformer --data clinc150_full.json --domain banking --levels 6",
    short_help="Iterative magnitude pruning with rewinding, and its controls (factory).",
)
@click.option("--network", type=click.Choice([*NETWORKS, TRANSFORMER]), default="mlp", show_default=True,
              help="mlp and convnet learn scikit-learn's digits, in minutes; transformer a domain of "
              "--data.")  # fmt: skip
@click.option("--data", type=_FILE, help="For the transformer: labelled texts in CSV, TSV, JSON lines or CLINC150's "
              "JSON. Only in-scope texts are used.")  # fmt: skip
@click.option("--domains", type=_FILE, help="JSON of domain -> labels, where the data file has no domain column.")
@click.option("--test", "test_file", type=_FILE, help="A second file that is the test split, where --data has none.")
@click.option("--domain", help=f"For the transformer: the domain to learn; {WHOLE!r} takes the whole data set as one.")
@click.option("--backbone", help=f"Directory or Hugging Face id of a BERT encoder. Default: {DEFAULT_BACKBONE}.")
@click.option("--levels", type=click.IntRange(1, 60), default=12, show_default=True,
              help="Rounds of train, prune, rewind after the dense one. 12 of a fifth each leave 7 % of the "
              "weights.")  # fmt: skip
@click.option("--fraction", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.2, show_default=True,
              help="The share of the remaining weights to prune at each level. More: fewer levels, worse "
              "tickets.")  # fmt: skip
@click.option("--scope", type=click.Choice(["global", "layer"]), default="global", show_default=True,
              help="Prune the smallest weights of all layers together, or the same share of each layer.")  # fmt: skip
@click.option("--rewind", default="0", show_default=True,
              help="The step to rewind to: 0 (for the transformer its pretrained weights), 500it, 3ep or 1ep200it. "
              "Large networks need a little training first.")  # fmt: skip
@click.option("--method", type=click.Choice(["weight", "learning-rate", "finetune"]), default="weight",
              show_default=True, help="After pruning: rewind weights and learning rate, the learning rate alone, or "
              "nothing (go on at the last one).")  # fmt: skip
@click.option("--controls", default=",".join(CONTROLS), show_default=True,
              help="Trained beside every ticket, separated by commas. Fewer: faster, but a ticket only wins against "
              "those that are there.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1, 9), default=3, show_default=True,
              help="Play from so many seeds, counted from --seed. A verdict needs 3.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--epochs", type=click.IntRange(1), help="Of every training. Default: the network's own recipe.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Default: the network's own recipe.")
@runs_option
@click.option("--device", default="auto", show_default=True,
              help="auto, cpu, or cuda[:N]: auto takes a GPU for the transformer if there is one.")  # fmt: skip
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
              help="Of matrix products in training; auto takes bf16 for the transformer where the hardware multiplies "
              "it.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Torch threads. Default: one for the small networks, else all "
              "cores of this machine.")  # fmt: skip
@tracker_option
def lottery(**options: Any) -> None:  # noqa: ANN401
    """Play the lottery: train, prune the smallest weights, rewind, repeat; and beside every ticket its controls.

    Shows at which sparsity the ticket still matches the dense network, and whether it beats random masks, new initial
    weights, and its own weights in another order. A run that was interrupted goes on where it stopped when the same
    command is given again.
    """
    console = Console(stderr=True)
    is_small = options["network"] != TRANSFORMER
    if options["threads"] or is_small:
        torch.set_num_threads(options["threads"] or 1)
    with refusing():
        send = sender(options["tracker"])
        plan, network, compute = _plan(options), _network(options, console), _compute(options)
        with progress_view(console) as view:
            # Hundreds of short stages: one bar and a line per seed say more than a line per stage.
            runs = Runs(options["runs_dir"], lambda text: None)
            game = Lottery(network, plan, compute, runs, view.progress(f"{network.name} on {network.data}"))
            with recorded(
                runs, "lottery", f"{network.name}-{network.data}", describe(network, plan, compute)
            ) as record:
                played = []
                for seed in plan.seeds:
                    levels = game.play(seed)
                    played.append([{name: Trained(s.path) for name, s in level.items()} for level in levels])
                    view.announce(told(seed, played[-1]))
                record.document.update(document(network, plan, played))
        send(record.folder)
    for note in record.document["notes"]:
        console.print(f"note: {note}")
    console.print(terminal_table(record.document))
    console.print(summary(record.document))
    console.print(f"the whole report: tombola report {record.id} --runs {options['runs_dir']}")
    click.echo(record.folder / "run.json")


def told(seed: int, levels: list[dict[str, Trained]]) -> str:
    """A line about one seed's levels."""

    def percent(trained: Trained) -> str:
        return f"{100 * trained.outcome('test').accuracy:.1f} %"

    last = ", ".join(f"{name} {percent(trained)}" for name, trained in levels[-1].items())
    return f"seed {seed}: dense {percent(levels[0][TICKET])}; at level {len(levels) - 1}: {last}"


def describe(network: Network, plan: LotteryPlan, compute: Compute) -> dict[str, Any]:
    """What a run's result depends on."""
    asked = asdict(plan) | {"rewind": str(plan.rewind)}
    return {"factory": FACTORY, **network.described(), "plan": asked, "compute": asdict(compute),
            "numpy": np.__version__, "torch": torch.__version__}  # fmt: skip


def _plan(options: dict[str, Any]) -> LotteryPlan:
    return LotteryPlan(
        levels=options["levels"],
        fraction=options["fraction"],
        seeds=tuple(range(options["seed"], options["seed"] + options["seeds"])),
        scope=options["scope"],
        rewind=parse_step(options["rewind"]),
        method=options["method"],
        controls=tuple(dict.fromkeys(name.strip() for name in options["controls"].split(",") if name.strip())),
    )


def _network(options: dict[str, Any], console: Console) -> Network:
    changes = {name: options[name] for name in ("epochs", "learning_rate") if options[name]}
    if options["network"] in NETWORKS:
        given = [name for name in ("data", "domain", "domains", "test_file", "backbone") if options[name]]
        if given:
            raise ValueError(
                f"--{given[0].removesuffix('_file')} is for --network transformer; {options['network']} learns the "
                "digits that travel with scikit-learn"
            )
        make, recipe = NETWORKS[options["network"]]
        return DigitsNetwork(options["network"], replace(recipe, **changes), make)
    missing = [name for name in ("data", "domain") if not options[name]]
    if missing:
        raise ValueError(f"--network transformer needs --{missing[0]}: the labelled texts, and which domain of them")
    domain = build(load_rows(options["data"], options["domains"], options["test_file"]), options["domain"], 0)
    for note in domain.notes:
        console.print(f"note: {note}")
    return TextsNetwork(domain, load_backbone(options["backbone"]), replace(TextsRecipe(), **changes))


def _compute(options: dict[str, Any]) -> Compute:
    if options["network"] == TRANSFORMER:
        return choose_compute(options["device"], options["precision"])
    # So small that a GPU's launches and casts to bf16 would take longer than the products.
    device = "cpu" if options["device"] == "auto" else options["device"]
    return choose_compute(device, "fp32" if options["precision"] == "auto" else options["precision"])
