"""`tombola tenants`: make tenants, bound them, suspend them, delete them; their keys are `server.cli.tenant_keys`'s.

Owns the command line only: every command is one or two requests to the admin API, which decides and records.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from server.cli import words
from server.cli.client import Api, segment
from server.cli.options import Bound, chosen, connected, json_option, sure, yes_option
from server.cli.policy import policy
from server.cli.tenant_keys import hand_over, key, key_file_option

F = TypeVar("F", bound=Callable[..., Any])

_LIMITS = (
    click.option("--rate", "rate_per_s", type=Bound(float), help="Requests per second, over all gateways together."),
    click.option("--burst", type=Bound(int), help="Requests that may come at once after a quiet while."),
    click.option("--concurrency", type=Bound(int), help="Requests in flight at the same time."),
    click.option("--daily", "daily_requests", type=Bound(int), help="Requests of one day (UTC)."),
    click.option("--ticket-bytes", type=Bound(int), help="Bytes of all its tickets together, like 4GB."),
    click.option("--tickets", type=click.IntRange(0), help="How many tickets it may have registered."),
)
_SHARES = (
    click.option("--weight", type=click.FloatRange(0.01, 1000), help="Its share of a busy worker, beside the others'."),
    click.option("--reserved-bytes", type=Bound(int), help="Memory of each worker that is kept for its tickets."),
)


def _with(options: tuple[Callable[[F], F], ...]) -> Callable[[F], F]:
    """Several options at once, shown in this order."""
    return lambda function: functools.reduce(lambda made, option: option(made), reversed(options), function)


@click.group("tenants", help="Create, limit, suspend and delete tenants, and make their keys.")
def command() -> None:
    """The group `tombola tenants`."""


@command.command(epilog="Example: tombola tenants create acme --rate 200 --concurrency 50 --key-file acme.key")
@click.argument("name")
@_with(_LIMITS)
@_with(_SHARES)
@key_file_option
@json_option
@connected
def create(
    api: Api,
    name: str,
    weight: float | None,
    reserved_bytes: object,
    key_file: Path | None,
    as_json: bool,
    **limits: object,
) -> None:
    """Make the tenant NAME and its first key, an admin key, which is shown this once."""
    document = {"name": name, "limits": chosen(limits)} | chosen({"weight": weight, "reserved_bytes": reserved_bytes})
    made = hand_over(lambda: api.send("POST", "/v1/tenants", document), key_file)
    if as_json:
        words.as_json(made)
        return
    click.echo(f"tenant {name} is there; limits: {words.settings(made.get('limits') or {})}")
    _next_steps(api, name, made, key_file)


@command.command("list", epilog="Example: tombola tenants list")
@json_option
@connected
def list_command(api: Api, as_json: bool) -> None:
    """Show all tenants; a tenant's own key shows itself."""
    found = api.get("/v1/tenants")
    if as_json:
        words.as_json(found)
        return
    words.table(
        ["tenant", "state", "domains", "tickets", "bytes", "keys", "limits"],
        [
            (
                row["tenant"], _state(row), ", ".join(row["domains"]) or "-", row["tickets"],
                words.size(row["ticket_bytes"]), row["keys"], words.settings(_traffic(row["limits"])),
            )
            for row in found["tenants"]
        ],
    )  # fmt: skip


@command.command(epilog="Example: tombola tenants show acme")
@click.argument("name")
@json_option
@connected
def show(api: Api, name: str, as_json: bool) -> None:
    """Show one tenant: limits, policy, domains, what it has registered."""
    row = api.get(f"/v1/tenants/{segment(name)}")
    if as_json:
        words.as_json(row)
        return
    words.facts(
        [
            ("tenant", row["tenant"]),
            ("state", f"{_state(row)}, version {row['version']} of its account"),
            ("made", words.moment(row["created_at"])),
            ("domains", ", ".join(row["domains"]) or "none"),
            ("tickets", f"{row['tickets']}, {words.size(row['ticket_bytes'])} together"),
            ("keys", row["keys"]),
            ("limits", words.settings(row["limits"])),
            ("policy", words.settings(row["policy"])),
            ("share", f"weight {row['weight']:g}, {words.size(row['reserved_bytes'])} reserved on each worker"),
        ]
    )


@command.command(epilog="Example: tombola tenants suspend acme")
@click.argument("name")
@yes_option
@connected
def suspend(api: Api, name: str, yes: bool) -> None:
    """Answer none of a tenant's keys any more, until it is resumed. Nothing of it is deleted."""
    sure(f"Every request of {name} will be refused. Suspend it?", yes=yes)
    api.send("PATCH", f"/v1/tenants/{segment(name)}", {"is_suspended": True})
    click.echo(f"tenant {name} is suspended; `tombola tenants resume {name}` ends that")


@command.command(epilog="Example: tombola tenants resume acme")
@click.argument("name")
@connected
def resume(api: Api, name: str) -> None:
    """Answer a suspended tenant again."""
    api.send("PATCH", f"/v1/tenants/{segment(name)}", {"is_suspended": False})
    click.echo(f"tenant {name} is answered again")


@command.command(epilog="Example: tombola tenants limits acme --rate 500 --daily none")
@click.argument("name")
@_with(_LIMITS)
@_with(_SHARES)
@json_option
@connected
def limits(api: Api, name: str, weight: float | None, reserved_bytes: object, as_json: bool, **options: object) -> None:
    """Show a tenant's limits, or set those that are named; `none` takes a limit away.

    They hold over all gateways together, within a second of being set.
    """
    path = f"/v1/tenants/{segment(name)}"
    row = api.get(path)
    shares = chosen({"weight": weight, "reserved_bytes": 0 if reserved_bytes == Bound.NONE else reserved_bytes})
    changed = chosen(options)
    if changed or shares:
        document = ({"limits": row["limits"] | changed} if changed else {}) | shares
        row = api.send("PATCH", path, document, version=row["version"])
    if as_json:
        words.as_json({name: row[name] for name in ("limits", "weight", "reserved_bytes")})
        return
    words.facts([*((limit, _bound(value)) for limit, value in row["limits"].items()), ("weight", row["weight"]),
                 ("reserved_bytes", row["reserved_bytes"])])  # fmt: skip


@command.command(epilog="Example: tombola tenants delete acme")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also where it still has promoted tickets, which answer no more then.")
@yes_option
@connected
def delete(api: Api, name: str, force: bool, yes: bool) -> None:
    """Delete a tenant for good: its keys, its routes, and the tickets that it has registered."""
    sure(f"Delete tenant {name} with its keys, routes and registered tickets? This cannot be undone.", yes=yes)
    api.send("DELETE", f"/v1/tenants/{segment(name)}", query={"force": "true" if force else None})
    click.echo(f"tenant {name} is deleted")


command.add_command(policy)
command.add_command(key)


def _next_steps(api: Api, name: str, made: Mapping[str, Any], key_file: Path | None) -> None:
    if key_file is not None:
        click.echo(f"its admin key is in {key_file}, which only you can read")
    else:
        click.echo(f"its admin key, shown this once:  {made['key']}")
    given = str(key_file) if key_file is not None else "KEY"
    click.echo(f"\nRegister a ticket with it:  tombola register FILE --key {given} --url {api.url}")


def _state(row: Mapping[str, Any]) -> str:
    return "suspended" if row["is_suspended"] else "active"


def _traffic(limits: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in limits.items() if name not in ("ticket_bytes", "tickets")}


def _bound(value: object) -> object:
    return "no limit" if value is None else value
