"""`tombola events`: who changed what, and when, from the audit log.

Owns how events are read in pages, followed, and shown. The log itself is written by whoever makes a change, in the
same step.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from server.cli import words
from server.cli.client import Api, segment
from server.cli.options import connected

PAGE = 100
FOLLOW_S = 1.0


@click.command("events", epilog="Example: tombola events --tenant acme --count 50   |   tombola events --follow")
@click.option("--tenant", help="Only this tenant's.  [default: the key's own, an operator's all]")
@click.option("--count", type=click.IntRange(1, 100_000), default=20, show_default=True, help="The last so many.")
@click.option("--follow", is_flag=True, help="Go on and show new events as they come, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@connected
def command(api: Api, tenant: str | None, count: int, follow: bool, as_json: bool) -> None:
    """Show the last changes: when, who, what, of whom, and why. The newest is at the end."""
    path = _path(api, tenant)
    last = ""
    for event in reversed(list(_newest(api, path, count))):
        _print(event, as_json=as_json)
        last = event["id"]
    while follow:
        time.sleep(FOLLOW_S)
        for event in reversed(list(_since(api, path, last))):
            _print(event, as_json=as_json)
            last = event["id"]


def _path(api: Api, tenant: str | None) -> str:
    """Where the events are that this key may see."""
    if tenant is None:
        tenant = api.tenant_of_key()
    return "/v1/events" if tenant is None else f"/v1/tenants/{segment(tenant)}/events"


def _newest(api: Api, path: str, count: int) -> Iterator[dict[str, Any]]:
    """The last ``count`` events, the newest first."""
    before: str | None = None
    while count > 0:
        page = api.get(path, count=min(count, PAGE), before=before)
        yield from page["events"]
        count -= len(page["events"])
        before = page.get("next")
        if before is None or not page["events"]:
            return


def _since(api: Api, path: str, last: str) -> Iterator[dict[str, Any]]:
    """The events after the one with id ``last``, the newest first."""
    for event in _newest(api, path, 10 * PAGE):
        if _order(event["id"]) <= _order(last):
            return
        yield event


def _order(event_id: str) -> tuple[int, int]:
    """Ids of a stream are two numbers."""
    at, _, number = event_id.partition("-")
    return int(at or 0), int(number or 0)


def _print(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps(event, ensure_ascii=False))
        return
    subject = event["subject"][: words.SHORT] if len(event["subject"]) == 64 else event["subject"]
    whose = f" ({event['tenant']})" if event.get("tenant") else ""
    made = f", table version {event['table_version']}" if event.get("table_version") else ""
    lines = [f"{words.moment(event['at'])}  {event['actor']}  {event['action']} {subject}{whose}{made}"]
    lines += [f"    {name}: {change}" for name, change in _changes(event)]
    if event.get("reason"):
        lines.append(f"    because: {event['reason']}")
    click.echo(words.visible("\n".join(lines)))


def _changes(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is otherwise than before, member by member; what was not there before and says nothing is left out."""
    before, after = dict(_flat(event.get("before") or {})), dict(_flat(event.get("after") or {}))
    for name in [*after, *(name for name in before if name not in after)]:
        was, is_now = before.get(name), after.get(name)
        if was == is_now or (name not in before and is_now in (None, False, [])):
            continue
        yield name, _short(is_now) if name not in before else f"{_short(was)} -> {_short(is_now)}"


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value: object) -> str:
    if value is None:
        return "none"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
