"""What every command of `tombola route` needs: the option that names Redis, a store for a while, errors in sentences.

Owns how an action on the store becomes a command's end: whatever is wrong with an input or an installation is exit
status 2 and says what to do. It also owns how a table is published from a shell: over the version that was looked at,
with an event that says who did it and what changed.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from routing.actor import shell_actor
from routing.change import Change
from routing.diff import Difference, diff
from routing.document import DocumentError, check, read_document
from routing.event import Event
from routing.store import Store, StoreCorrupt, StoreUnavailable, VersionConflict
from routing.table import Table

SHORT = 12
"""Hex digits of a ticket id or key hash that people see."""
EVENT_CHANGES = 20
"""Differences that an event lists; of more it says how many there are."""

_T = TypeVar("_T")

redis_url_option = click.option(
    "--redis-url",
    envvar="TOMBOLA_REDIS_URL",
    show_envvar=True,
    required=True,
    help="The control plane: redis://, rediss:// or unix:///path, or of a Sentinel or Cluster (docs/redis.md). "
    "`tombola up` prints its own.",
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask; at a terminal you are asked otherwise.")
reason_option = click.option("--reason", default="", metavar="TEXT", help="Why, for the audit log.")


class RouteError(click.ClickException):
    """An error of the caller's or of the installation, not of this program."""

    exit_code = 2


def run(redis_url: str, action: Callable[[Store], Awaitable[_T]]) -> _T:
    """``action`` on the store at ``redis_url``. Raises RouteError."""

    async def connected() -> _T:
        store = Store.connect(redis_url)
        try:
            return await action(store)
        finally:
            await store.close()

    try:
        return asyncio.run(connected())
    except VersionConflict as error:
        raise RouteError(f"{error}. Look at it with `tombola route show`, then publish over it.") from error
    except StoreUnavailable as error:
        raise RouteError(f"{str(error).rstrip('.')}. Is --redis-url right, and does Redis run?") from error
    except (StoreCorrupt, DocumentError, ValueError) as error:
        raise RouteError(str(error)) from error


async def load(store: Store, version: int | None = None) -> Table:
    """The table that stands, or an earlier one. Raises RouteError where there is none."""
    table = await store.load_table(version)
    if table is not None:
        return table
    if version is None:
        raise RouteError("no table has been published yet: `tombola route publish FILE`")
    kept = ", ".join(map(str, await store.versions())) or "none"
    raise RouteError(f"version {version} is not kept; kept versions: {kept}")


def read(file: Path, what: str) -> Table:
    """The table authored in a file. Raises RouteError with every problem; ``what`` does not happen then."""
    try:
        return read_document(file)
    except DocumentError as error:
        raise RouteError(f"{file} is not {what}:\n" + indented(error.problems)) from error
    except OSError as error:
        raise RouteError(str(error)) from error


async def put(
    store: Store, new: Table, standing: Table | None, *, action: str, reason: str = "", facts: dict[str, object]
) -> Table:
    """Make ``new`` the table where ``standing`` stands. Raises VersionConflict, DocumentError, StoreUnavailable."""
    base = 0 if standing is None else standing.version
    changes = [str(item) for item in diff(standing, new)]
    shown = changes[:EVENT_CHANGES] + (["..."] if len(changes) > EVENT_CHANGES else [])
    event = Event(
        action=action,
        actor=shell_actor(),
        subject="table",
        before={"version": base},
        after={"version": base + 1, "differences": len(changes), "changes": shown, **facts},
        reason=reason[:2000],
    )
    change = Change(event=event, table=check(msgspec.structs.replace(new, version=base)))
    committed = await store.commit(change)
    assert committed.table is not None
    return committed.table


def agreed(differences: Sequence[Difference], question: str, *, yes: bool) -> None:
    """Show what would change; at a terminal, ask. Ends the command where the answer is no.

    A program that runs the command without a terminal is taken at its word: it has named the file or the version.
    """
    for difference in differences:
        click.echo(f"  {difference}")
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True)


def published(table: Table) -> str:
    """What is said of a table that has just been published."""
    return f"published version {table.version}: {counts(table)}"


def counts(table: Table) -> str:
    """How large a table is, in words."""
    tickets = sum(map(len, table.families.values()))
    return f"{len(table.tenants)} tenants, {len(table.families)} families, {tickets} tickets"


def indented(lines: Sequence[str]) -> str:
    """Lines under a heading."""
    return "\n".join(f"  {line}" for line in lines)
