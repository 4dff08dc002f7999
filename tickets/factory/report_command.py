"""`tombola report`: a run's record becomes a page that people look at. A composition root."""

import json
import webbrowser
from pathlib import Path

import click

from tickets.factory.pages.report import write_report
from tickets.factory.record import RecordError, find_record


@click.command(epilog="Example: tombola report find-banking --out report/", short_help="Draw a run as one web page.")
@click.argument("run")
@click.option("--runs", "runs_dir", type=click.Path(file_okay=False, path_type=Path), default=Path(".runs"),
              show_default=True, help="The folder of runs that holds the record.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for report.html and the plots as PNG. Default: a folder named after the run.")  # fmt: skip
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def report(run: str, runs_dir: Path, out: Path | None, show: bool, as_json: bool) -> None:
    """Write one self-contained HTML page about RUN, and its plots as PNG files beside it.

    RUN is the id of a run, or enough of it to be the only one meant; `tombola runs` lists them. The page loads nothing
    from anywhere, so it can be mailed. A run that has not ended gets a page that says so.
    """
    try:
        record = find_record(runs_dir, run)
        written = write_report(record, out or Path(f"report-{record.id}"))
    except RecordError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"cannot write the report: {error.strerror or error}: {error.filename or out}"
        ) from error
    if as_json:
        click.echo(json.dumps({"run": record.id, "status": record.status, "files": [str(path) for path in written]}))
    else:
        click.echo(written[0])
        click.echo(f"{len(written) - 1} plots beside it, from {record.id} ({record.status})", err=True)
    if show:
        webbrowser.open(written[0].resolve().as_uri())
