"""`tombola route history`: who changed the table, when, and how.

Owns how events of the table are shown. They are read from the audit log (`routing.store`), which keeps more versions
than there are tables to restore.
"""

import datetime

import click
import msgspec

from routing.commands.common import redis_url_option, run
from routing.event import Event
from routing.store import Store

_PAGE = 200


@click.command(epilog="Example: tombola route history --count 5")
@click.option("--count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="The last so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@redis_url_option
def history(count: int, as_json: bool, redis_url: str) -> None:
    """Show the changes of the table, the newest first: version, when, who, what. `*`: it can still be restored."""

    async def read(store: Store) -> tuple[list[Event], list[int]]:
        return await _changes(store, count), await store.versions()

    events, kept = run(redis_url, read)
    for event in events:
        click.echo(msgspec.json.encode(event).decode() if as_json else _line(event, kept))
    if not events and not as_json:
        click.echo("no change of the table has been recorded yet")


async def _changes(store: Store, count: int) -> list[Event]:
    """The last ``count`` events that made a version of the table."""
    found: list[Event] = []
    before: str | None = None
    while len(found) < count:
        page = await store.events(count=_PAGE, before=before)
        found += [event for event in page if event.table_version is not None]
        if len(page) < _PAGE:
            break
        before = page[-1].id
    return found[:count]


def _line(event: Event, kept: list[int]) -> str:
    assert event.table_version is not None
    mark = "*" if event.table_version in kept else " "
    when = datetime.datetime.fromtimestamp(event.at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    whose = f" of {event.tenant}" if event.tenant is not None else ""
    what = f"{event.action} {event.subject[:12]}{whose}".rstrip()
    reason = f": {_visible(event.reason)}" if event.reason else ""
    changes = event.after.get("changes")
    lines = [f"      {_visible(str(change))}" for change in changes] if isinstance(changes, list) else []
    return "\n".join([f"{mark} {event.table_version:>4}  {when}  {_visible(event.actor)}  {what}{reason}", *lines])


def _visible(text: str) -> str:
    """Control characters as escapes: a reason may have been written by a stranger."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
