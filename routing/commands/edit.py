"""`tombola route edit`: the table in your editor, published over the version that you were shown.

Owns the loop of editing and checking, and that nobody's text is ever lost: it stays in a file whenever it is not
published, and the last line says where.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from routing.commands.common import (
    RouteError,
    agreed,
    load,
    published,
    put,
    reason_option,
    redis_url_option,
    run,
    yes_option,
)
from routing.diff import diff
from routing.document import DocumentError, parse_toml
from routing.store import Store, VersionConflict
from routing.table import Table
from routing.toml import dump_toml

_COMMENT = "#: "
"""How the lines begin that this program writes into the text, and takes out again."""
_HEAD = (
    "This is version {version} of the routing table. Save it and leave the editor to go on; you are shown what",
    "changes before anything happens. Leave it as it is, or empty it, to change nothing.",
)


@click.command(epilog="Example: tombola route edit --reason 'banking needs a floor'")
@click.option("--editor", help="The editor.  [default: $VISUAL, $EDITOR, or what is here]")
@reason_option
@yes_option
@redis_url_option
def edit(editor: str | None, reason: str, yes: bool, redis_url: str) -> None:
    """Edit the routing table in your editor, as TOML; what is wrong with it is written into it as comments.

    Keys stand there as their hashes. Where somebody else publishes meanwhile nothing happens, and your text is kept.
    """
    standing = run(redis_url, load)
    path = _write(dump_toml(standing), standing.version)
    try:
        new = _edited(path, standing, editor)
        differences = [] if new is None else diff(standing, new)
        if new is None or not differences:
            path.unlink()
            click.echo("nothing is changed")
            return
        agreed(differences, f"Publish this over version {standing.version}?", yes=yes)
        table = run(redis_url, lambda store: _publish(store, new, standing, reason))
    except click.Abort:
        click.echo(f"\nNothing is published; your text is in {path}", err=True)
        raise
    except RouteError as error:
        raise RouteError(f"{error.message}\nYour text is in {path}") from error
    path.unlink()
    click.echo(published(table))


async def _publish(store: Store, new: Table, standing: Table, reason: str) -> Table:
    try:
        return await put(store, new, standing, action="table.edit", reason=reason, facts={})
    except VersionConflict as error:
        raise RouteError(
            f"Somebody has published version {error.current} while you edited version {standing.version}: nothing of "
            "yours is published. See what they changed with "
            f"`tombola route diff --from {standing.version} --to {error.current}`, then edit again."
        ) from error


def _edited(path: Path, standing: Table, editor: str | None) -> Table | None:
    """The table that the person has made of the text; None where it is empty. Raises Abort, RouteError."""
    while True:
        before = path.read_bytes()
        click.edit(filename=str(path), editor=editor)
        after = path.read_bytes()
        text = _without_comments(after.decode(errors="replace"))
        if not text.strip():
            return None
        try:
            return parse_toml(text.encode())
        except DocumentError as error:
            if after == before:
                problems = "\n".join(f"  {problem}" for problem in error.problems)
                raise RouteError(f"This cannot be published:\n{problems}") from error
            path.write_text(_commented(standing.version, error.problems) + text)
            click.echo(f"{len(error.problems)} problem(s), the first: {error.problems[0]}", err=True)
            click.confirm("Edit it again?", default=True, abort=True, err=True)


def _write(text: str, version: int) -> Path:
    """A file that only this user may read."""
    handle, name = tempfile.mkstemp(prefix=f"tombola-table-{version}-", suffix=".toml")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(_commented(version) + text)
    return Path(name)


def _commented(version: int, problems: Sequence[str] = ()) -> str:
    head = [line.format(version=version) for line in _HEAD]
    wrong = ["", "What is wrong with it:", *(f"  {problem}" for problem in problems)] if problems else []
    lines = [part for line in (*head, *wrong) for part in line.splitlines() or [""]]
    return "\n".join(f"{_COMMENT}{line}".rstrip() for line in lines) + "\n\n"


def _without_comments(text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith(_COMMENT.rstrip())]
    return "\n".join(lines).lstrip("\n") + "\n"
