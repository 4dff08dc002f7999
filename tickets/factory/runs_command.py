"""`tombola runs`: list, show and compare the records of runs, or send one to a tracker. A composition root."""

import json
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click
import msgspec
from rich.console import Console

from tickets.factory.comparison import compare_runs
from tickets.factory.numbers import at, texts
from tickets.factory.record import Listing, RecordError, RunRecord, find_folder, find_record, read_listing
from tickets.factory.runs_tables import comparison_tables, listing_table, shown
from tickets.factory.tracker import TrackerError, sink

P = ParamSpec("P")
WIDE = 150
"""Columns where the output is no terminal: tables that are read by programs or kept in files are not folded."""


@click.group(
    invoke_without_command=True, epilog="Example: tombola runs compare find-banking-1a2b find-banking-9f8e",
    short_help="List, show and compare the factory's runs.",
)  # fmt: skip
@click.option("--runs", "runs_dir", type=click.Path(file_okay=False, path_type=Path), default=Path(".runs"),
              show_default=True, help="The folder of runs that holds the records.")  # fmt: skip
@click.option("--kind", help="Only runs of this kind: find, lottery, transfer, patterns.")
@click.option("--domain", help="Only runs about this domain.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.pass_context
def runs(context: click.Context, runs_dir: Path, kind: str | None, domain: str | None, as_json: bool) -> None:
    """List, show and compare the factory's runs. Without a command: list.

    A run is named by its id, or by enough of it to be the only one meant.
    """
    context.obj = runs_dir
    if context.invoked_subcommand is None:
        _list(runs_dir, kind, domain, as_json)


def telling(function: Callable[Concatenate[Path, P], None]) -> Callable[P, None]:
    """Give the folder of runs to a command, and tell what goes wrong in one sentence."""

    @click.pass_obj
    def inner(runs_dir: Path, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(runs_dir, *args, **kwargs)
        except (RecordError, TrackerError, ValueError) as error:
            raise click.ClickException(str(error)) from error

    return update_wrapper(inner, function)


@runs.command("list", epilog="Example: tombola runs list --kind find --domain banking")
@click.option("--kind", help="Only runs of this kind: find, lottery, transfer, patterns.")
@click.option("--domain", help="Only runs about this domain.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@telling
def list_(runs_dir: Path, kind: str | None, domain: str | None, as_json: bool) -> None:
    """What has been run, the latest first: when, whether it ended, what it found."""
    _list(runs_dir, kind, domain, as_json)


@runs.command(epilog="Example: tombola runs show find-banking")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print the whole record as JSON.")
@telling
def show(runs_dir: Path, run: str, as_json: bool) -> None:
    """One run: its description, its stages and its numbers."""
    record = find_record(runs_dir, run)
    if as_json:
        _print_json(msgspec.to_builtins(record))
        return
    console = _console()
    for part in shown(record):
        console.print(part)


@runs.command(epilog="Example: tombola runs compare find-banking-1a2b find-banking-9f8e")
@click.argument("names", metavar="RUN RUN...", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Numbers that are the same everywhere too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@telling
def compare(runs_dir: Path, names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """What differs between runs: what they were asked, what they ran on, what they found.

    The first run is what the others are compared with. Intervals that leave a gap between them are marked apart.
    """
    comparison = compare_runs([find_record(runs_dir, name) for name in names])
    if as_json:
        _print_json(comparison.document())
        return
    console = _console()
    for part in comparison_tables(comparison, everything=everything):
        console.print(part)


@runs.command(epilog="Example: tombola runs send find-banking --tracker mlflow:http://127.0.0.1:5000")
@click.argument("run")
@click.option("--tracker", required=True, help="Where to: mlflow:URI.")
@telling
def send(runs_dir: Path, run: str, tracker: str) -> None:
    """Log a run's description, numbers, record and report to a tracker."""
    folder = find_folder(runs_dir, run)
    click.echo(sink(tracker).log(folder))


def _list(runs_dir: Path, kind: str | None, domain: str | None, as_json: bool) -> None:
    found = read_listing(runs_dir)
    chosen = [record for record in found.records if _is_wanted(record, kind, domain)]
    if as_json:
        _print_json([msgspec.to_builtins(msgspec.structs.replace(record, result={})) for record in chosen])
    elif chosen:
        _console().print(listing_table(chosen))
    else:
        click.echo(_nothing(found, runs_dir), err=True)
    for sentence in found.unreadable:
        click.echo(sentence, err=True)


def _is_wanted(record: RunRecord, kind: str | None, domain: str | None) -> bool:
    asked, found = record.description, record.result
    about = [at(asked, "domain"), at(found, "domain"), *texts(at(asked, "domains")), *texts(at(found, "domains"))]
    return (kind is None or record.kind == kind) and (domain is None or domain in about)


def _nothing(found: Listing, runs_dir: Path) -> str:
    if found.records:
        return f"none of the {len(found.records)} runs in {runs_dir} is of that kind and domain"
    return f"no runs in {runs_dir}; `tombola find`, `lottery` and `transfer` record theirs there, --runs names another"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def _print_json(document: Any) -> None:  # noqa: ANN401 - any JSON
    click.echo(json.dumps(document, ensure_ascii=False, indent=1))
