"""The command line: ``tombola load`` (or ``python -m loadtest``) and its sub-commands run, report, compare.

Reads options, builds plan and workload, prints and writes what comes out. Exit status: 0 a valid run,
1 a run whose figures must not be used, 2 a load that could not begin, 130 Ctrl-C.
"""

import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from loadtest import plot as picture
from loadtest import show
from loadtest.options import FILE, build_plan, build_sla, build_workload, reduce_options, run_options
from loadtest.record import RawFileError, read_raw
from loadtest.report import Report, reduce_run
from loadtest.session import EXIT_CANNOT_BEGIN, EXIT_INVALID, Session

EXAMPLE = """
\b
Examples:
  tombola load --key tk_... --rate 200 --duration 30
  tombola load --tier fast=3 --tier accurate --sla fast=10 --sla accurate=50 --json run.json
  tombola load --rate 100,200,400,800 --duration 10 --plot sweep.png
  tombola load --max-rate-p99 25 --duration 5
  tombola load run --mix mix.toml --raw run.jsonl && tombola load report run.jsonl
"""


class _DefaultRun(click.Group):
    """A group that runs ``run`` when no sub-command is named, and shows its options in its own help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in self.get_help_option_names(ctx)):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        with formatter.section("Options of run (which may be left out: tombola load --rate 200)"):
            rows = [param.get_help_record(ctx) for param in self.commands["run"].get_params(ctx)]
            formatter.write_dl([row for row in rows if row and not row[0].startswith("--help")])


@click.group(
    "load",
    cls=_DefaultRun,
    help="Load a running Tombola, open-loop, and report honestly.\n\nRequests are sent when they are due, whether or "
    "not earlier ones were answered, and latency counts from that intended time.\n" + EXAMPLE,
)
def command() -> None:
    """Group of run, report and compare."""


@command.command("run", epilog=EXAMPLE)
@run_options
def run_command(**given: Any) -> None:  # noqa: ANN401 - each option is typed above
    """Send a load and report it. Exit status 1: the run is INVALID; 2: it could not begin."""
    try:
        plan = build_plan(given)
        workload = build_workload(given)
        sla = build_sla(given["sla"])
        if given["plot_path"]:
            picture.figure_class()
    except picture.PlotUnavailable as error:
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    session = Session(plan, workload, sla, max_lateness_ms=given["max_lateness_ms"], raw_path=given["raw_path"])
    session.json_path, session.plot_path = given["json_path"], given["plot_path"]
    limit_ms = given["max_rate_p99"]
    sys.exit(session.load() if limit_ms is None else session.search(limit_ms))


@command.command("report", epilog="Example: tombola load report run.jsonl --sla fast=5 --plot run.png")
@click.argument("raw", type=FILE)
@reduce_options
def report_command(
    raw: Path, sla: tuple[str, ...], max_lateness_ms: float, json_path: Path | None, plot_path: Path | None
) -> None:
    """Reduce a raw file again, perhaps with another SLA: no request is sent."""
    try:
        run, records = read_raw(raw)
        report = reduce_run(run, records, build_sla(sla), max_lateness_ms=max_lateness_ms)
        show.show_report(Console(), report)
        if json_path:
            json_path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
        if plot_path:
            picture.plot(report, records, plot_path)
    except (RawFileError, picture.PlotUnavailable, OSError, ValueError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_CANNOT_BEGIN)
    sys.exit(0 if report.valid else EXIT_INVALID)


@command.command("compare", epilog="Example: tombola load compare before.json after.json")
@click.argument("reports", type=FILE, nargs=-1, required=True)
def compare_command(reports: tuple[Path, ...]) -> None:
    """Show the totals of reports (written by --json) side by side."""
    decoded = []
    for path in reports:
        try:
            decoded.append(msgspec.json.decode(path.read_bytes(), type=Report))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            click.echo(f"Error: {path}: not a report of `tombola load --json`: {error}", err=True)
            sys.exit(EXIT_CANNOT_BEGIN)
    show.show_comparison(Console(), [path.stem for path in reports], decoded)


if __name__ == "__main__":
    command(prog_name="tombola load")
