"""`tombola quarantine`: shows the tickets that may not run because their workers crashed, and clears them.

Owns the click command; keeping count is `server.quarantine`'s.
"""

import sys
from datetime import datetime
from pathlib import Path

import click

from server.quarantine import Quarantine, quarantine_file
from server.state import run_directory


@click.command("quarantine", epilog="Example: tombola quarantine --clear 3f2a9c01")
@click.option(
    "--state", type=click.Path(path_type=Path), default=Path(".tombola"), show_default=True, envvar="TOMBOLA_STATE",
    help="The state directory of `tombola up`.",
)  # fmt: skip
@click.option(
    "--run-dir", type=click.Path(path_type=Path), envvar="TOMBOLA_RUN_DIR",
    help="The --run-dir of workers that were not started by `up`, instead of a state directory.",
)  # fmt: skip
@click.option("--clear", metavar="ID", help="Let this ticket run again: its id, or the beginning of it.")
def command(state: Path, run_dir: Path | None, clear: str | None) -> None:
    """List the tickets whose workers have crashed of late, or let one of them run again.

    A ticket goes into quarantine when workers crash with it twice within ten minutes: they refuse it
    from then on, and routing steps down to the next ticket of its family.
    """
    quarantine = Quarantine(quarantine_file(run_dir or run_directory(state)))
    entries = quarantine.entries()
    if clear is not None:
        found = [ticket for ticket in entries if ticket.startswith(clear)]
        if len(found) != 1:
            click.echo(f"Error: {len(found)} tickets with crashes have an id that begins with {clear}", err=True)
            sys.exit(1)
        quarantine.clear(found[0])
        click.echo(f"{found[0]} may run again: workers try it when it is next asked for.")
        return
    if not entries:
        click.echo("No worker has crashed with a ticket.")
    for ticket, entry in sorted(entries.items()):
        last = entry.crashes[-1]
        when = datetime.fromtimestamp(last.at).astimezone().isoformat(timespec="seconds")
        standing = "in quarantine" if entry.since is not None else "may run"
        click.echo(f"{ticket}  {standing}  crashes: {len(entry.crashes)}, the last {when}, {last.how}")
