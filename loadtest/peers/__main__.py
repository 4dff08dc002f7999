"""`python -m loadtest.peers`: Tombola beside other servers, in one command that can be stopped and started again.

The composition root. It leaves all measuring to `loadtest.peers.turns`; here are the options, the conditions that make
results comparable, and the files that come out.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from loadtest.peers import conditions, picture, table
from loadtest.peers.catalogue import PEERS, WAY_MS, System, tombolas
from loadtest.peers.closed_loop import client_name
from loadtest.peers.dialects import Answer
from loadtest.peers.environments import PeerFailed
from loadtest.peers.processes import adopt_orphans, end_on_sigterm
from loadtest.peers.results import Result, Results
from loadtest.peers.start import HERE, Context
from loadtest.peers.ticket import Unpacked, qualities, starter_of_one, unpack
from loadtest.peers.turns import BARE, QUICK, Bench, Say, Scale, bare_loop
from loadtest.plot import PlotUnavailable

NAMES = [system.name for system in (*tombolas("-", "-", 1.0), *PEERS)]
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
TICKET = HERE / "tickets/starter/banking-accurate.ticket"
_SYSTEMS = "Only these; the others' files are shown if they are there."
_OVERLOAD = "Only capacity and three times that; best with a --ticket that is heavier than the client (bench.heavy)."
_QUICK = "Show in a few minutes that everything works; the numbers mean nothing."


@click.command(epilog="Example: python -m loadtest.peers --system tombola --system fastapi-batching")
@click.option("--system", "names", multiple=True, type=click.Choice(NAMES), help=_SYSTEMS)
@click.option("--turns", type=click.IntRange(min=1), default=Scale().turns, show_default=True, help="Repeats.")
@click.option("--quick", is_flag=True, help=_QUICK)
@click.option("--overload-only", is_flag=True, help=_OVERLOAD)
@click.option("--fresh", is_flag=True, help="Measure again what is there already.")
@click.option("--report-only", is_flag=True, help="Write table and picture from the files that are there.")
@click.option("--cores", help="Use these cores only, server and client together, such as 0,1 [all].")
@click.option("--ticket", type=FILE, default=TICKET, help="What everybody serves [the starter's banking-accurate].")
@click.option("--tombola", type=FOLDER, default=HERE, help="Where Tombola's packages lie [this checkout].")
@click.option("--peers", type=FOLDER, default=Path(".peers"), show_default=True, help="Where the peers are installed.")
@click.option("--out", type=FOLDER, default=Path("bench/out/peers"), show_default=True)
def main(names: tuple[str, ...], turns: int, quick: bool, overload_only: bool, fresh: bool, report_only: bool,
         cores: str | None, ticket: Path, tombola: Path, peers: Path, out: Path) -> None:  # fmt: skip
    """Start each system in turn, measure it, and write bench/out/peers/{table.md, peers.json, peers.png}.

    About half an hour on two cores. Stop it at any time: the same command goes on where it was.
    """
    if cores:
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    scale = QUICK if quick else Scale(turns=turns)
    if overload_only:
        scale = scale._replace(rates=(), trial_s=0.0)
    out = out / "quick" if quick else out
    unpacked = unpack(ticket, peers / "tickets")
    systems = [*tombolas(unpacked.domain, unpacked.tier, scale.limit_ms - WAY_MS), *PEERS]
    results = Results(out, conditions.conditions(unpacked, scale), conditions.digests(systems, tombola))
    if fresh:
        for name in names or (BARE, *NAMES):
            results.forget(name)
    bench = Bench([s for s in systems if not names or s.name in names], scale, results, peers, say_since_start())
    if not report_only:
        adopt_orphans()
        end_on_sigterm()
        answers = msgspec.convert(
            bare_loop(unpacked.folder.absolute(), unpacked.domain, "--answers"), dict[str, Answer]
        )
        alone = starter_of_one(ticket, unpacked.domain, unpacked.tier, unpacked.folder / "starter").absolute()
        family = ticket.parent.absolute()
        context = Context(unpacked.folder.absolute(), alone, family, tombola.absolute(), answers, qualities(family))
        try:
            bench.run(context, unpacked.domain)
        except PeerFailed as error:
            raise click.ClickException(str(error)) from error
    shown = [bench.found.get(system.name) or results.load(system.name, system.title) for system in systems]
    facts = facts_of(systems, unpacked, scale, tombola)
    write(shown, bench.found[BARE], facts, scale.limit_ms, out)


def facts_of(systems: Sequence[System], unpacked: Unpacked, scale: Scale, tombola: Path) -> list[str]:
    """How it was measured, for whoever reads the table."""
    client = "wrk, one thread" if client_name() == "wrk" else "the load generator's own client"
    return [
        f"Machine: {conditions.cpu_model()}, {len(conditions.cores())} cores, shared by server and client; "
        f"{conditions.runtime()}; Tombola at {conditions.commit(tombola)}.",
        f"Ticket {unpacked.id[:12]} ({unpacked.domain}, {unpacked.tier}) for all, one ONNX Runtime thread per session, "
        "the same tokenizer and texts; each system's answers were compared with the bare loop's before measuring.",
        "The bare loop and the peers tokenize with the `tokenizers` library and group the rows of a batch by length, "
        "as Tombola does: the model code is no part of the difference.",
        f"Closed loops by {client}; open loop by `tombola load`'s sender. Medians of {scale.turns} turns, in which the "
        "systems came one after another.",
        "Memory is the proportional set size of all processes of the system, after the closed loops.",
        *(f"{system.title}: {system.note}." for system in systems if system.note),
    ]


def write(results: Sequence[Result], bare: Result, facts: Sequence[str], limit_ms: float, out: Path) -> None:
    """The table, the picture and one JSON of everything."""
    text = table.document(results, bare, facts, limit_ms)
    (out / "table.md").write_text(text)
    document = {"facts": facts, "bare": bare, "systems": results}
    (out / "peers.json").write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    files = ["table.md", "peers.json"]
    try:
        picture.draw(results, bare, limit_ms, out / "peers.png")
        files.append("peers.png")
    except PlotUnavailable as error:
        click.echo(str(error), err=True)
    click.echo(text)
    click.echo(f"{out}: {', '.join(files)}")


def say_since_start() -> Say:
    """A function that prints a line with the minutes and seconds since now."""
    began = time.monotonic()

    def say(text: str) -> None:
        seconds = round(time.monotonic() - began)
        click.echo(f"{seconds // 60:2}:{seconds % 60:02} {text}", err=True)

    return say


if __name__ == "__main__":
    main()
