"""`tombola restart`: replaces the processes of a running `tombola up`, one after another.

Owns the click command; the restart itself is `server.roll`'s, and runs inside `up`.
"""

import asyncio
import sys
from pathlib import Path

import click

from server.control import OrderFailed, control_file, give
from server.state import run_directory


@click.command("restart", epilog="Example: tombola restart --state ./demo")
@click.option(
    "--state", type=click.Path(path_type=Path), default=Path(".tombola"), show_default=True, envvar="TOMBOLA_STATE",
    help="The state directory of the running `tombola up`.",
)  # fmt: skip
def command(state: Path) -> None:
    """Replace every worker and gateway of a running `tombola up` by a fresh process, without losing a request.

    Use it after an upgrade of the package, or to get rid of a process that behaves oddly. Redis and
    `up` itself stay. Each new process works before the old one is asked to end.
    """
    try:
        asyncio.run(give(control_file(run_directory(state)), "restart", click.echo))
    except OrderFailed as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError:
        click.echo(f"Error: no `tombola up` is running on the state directory {state.absolute()}", err=True)
        sys.exit(2)
