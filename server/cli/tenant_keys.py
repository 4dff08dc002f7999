"""`tombola tenants key`: make, list, rotate and revoke API keys, a tenant's or the operators' own.

Owns how a fresh key reaches the person: on the terminal, once, or in a file that only they can read. Keys that sign
tickets are something else: `tombola keys`.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from server.cli import words
from server.cli.client import Api, Failure, segment
from server.cli.options import connected, json_option, sure, yes_option

OPERATOR = "@operator"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_WHOSE = "TENANT"

key_file_option = click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the key to this new file, readable by you alone, instead of showing it.",
)


class Span(click.ParamType):  # type: ignore[type-arg] # generic from click 8.3 on only
    """A stretch of time in seconds, or with a unit: 90, 15m, 12h, 30d, 4w."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", str(value).strip().lower())
        if found is None:
            self.fail(f"{value!r} is no stretch of time; write 90, 15m, 12h, 30d or 4w", param, ctx)
        return float(found[1]) * _UNITS_S[found[2] or "s"]


@click.group("key")
def key() -> None:
    """Make, list, rotate and revoke API keys. TENANT `@operator` means the operators' own."""


@key.command(epilog="Example: tombola tenants key new acme --role register --label ci --expires-in 90d")
@click.argument("tenant", metavar=_WHOSE)
@click.option(
    "--role",
    type=click.Choice(["call", "register", "admin"]),
    default="call",
    show_default=True,
    help="What it may do: call the API; also register tickets; also promote them and manage keys. Give no more than "
    "is needed. (An operator's key may do everything but call.)",
)
@click.option("--label", default="", help="What it is for, so that you know which one to revoke.")
@click.option("--expires-in", type=Span(), help="How long it holds: 12h, 90d.  [default: until it is revoked]")
@key_file_option
@json_option
@connected
def new(
    api: Api, tenant: str, role: str, label: str, expires_in: float | None, key_file: Path | None, as_json: bool
) -> None:
    """Make a key for TENANT. It is shown this once."""
    document: dict[str, object] = {"label": label} if label else {}
    if tenant != OPERATOR:
        document["role"] = role
    if expires_in is not None:
        document["expires_in_s"] = expires_in
    made = hand_over(lambda: api.send("POST", _path(tenant), document), key_file)
    _show_made(made, key_file, as_json=as_json)


@key.command("list", epilog="Example: tombola tenants key list acme")
@click.argument("tenant", metavar=_WHOSE)
@json_option
@connected
def list_command(api: Api, tenant: str, as_json: bool) -> None:
    """Show the keys of TENANT: ids, roles, labels, ends. The keys themselves are kept nowhere."""
    found = api.get(_path(tenant))
    if as_json:
        words.as_json(found)
        return
    words.table(
        ["id", "role", "label", "made (UTC)", "expires (UTC)"],
        [
            (row["id"], row["role"], row["label"] or "-", words.moment(row["created_at"]),
             words.moment(row.get("expires_at")))
            for row in found["keys"]
        ],
    )  # fmt: skip


@key.command(epilog="Example: tombola tenants key rotate acme 3f9a0c12de45 --grace 1h")
@click.argument("tenant", metavar=_WHOSE)
@click.argument("key_id")
@click.option("--grace", type=Span(), default="0", help="How long the old key goes on working: 10m, 1h.  [default: 0]")
@key_file_option
@json_option
@connected
def rotate(api: Api, tenant: str, key_id: str, grace: float, key_file: Path | None, as_json: bool) -> None:
    """Make a key in the place of another one, with its role, label and lifetime."""
    path = f"{_path(tenant)}/{segment(key_id)}/rotate"
    made = hand_over(lambda: api.send("POST", path, {"grace_s": grace}), key_file)
    _show_made(made, key_file, as_json=as_json)
    if not as_json:
        click.echo(f"the old key {key_id} ends " + (f"in {grace:g} s" if grace else "now"))


@key.command(epilog="Example: tombola tenants key revoke acme 3f9a0c12de45")
@click.argument("tenant", metavar=_WHOSE)
@click.argument("key_id")
@yes_option
@connected
def revoke(api: Api, tenant: str, key_id: str, yes: bool) -> None:
    """End a key of TENANT for good; who uses it is refused within a second."""
    sure(f"Revoke key {key_id} of {tenant}?", yes=yes)
    api.send("DELETE", f"{_path(tenant)}/{segment(key_id)}")
    click.echo(f"key {key_id} of {tenant} is revoked")


def hand_over(make: Callable[[], dict[str, Any]], key_file: Path | None) -> dict[str, Any]:
    """What ``make`` answers; its ``key`` is written to ``key_file`` where there is one, and is out of the answer then.

    The file is made before the key is, so that no key is lost because it cannot be written. Raises Failure.
    """
    if key_file is None:
        return make()
    try:
        handle = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Failure(f"{key_file} exists, and is not replaced; nothing was made") from error
    except OSError as error:
        raise Failure(f"{key_file} cannot be written ({error.strerror}); nothing was made") from error
    try:
        with open(handle, "w", encoding="ascii") as file:
            made = make()
            file.write(made["key"] + "\n")
    except BaseException:
        key_file.unlink(missing_ok=True)
        raise
    return {name: value for name, value in made.items() if name != "key"} | {"key_file": str(key_file)}


def _show_made(made: dict[str, Any], key_file: Path | None, *, as_json: bool) -> None:
    if as_json:
        words.as_json(made)
        return
    ends = f", until {words.moment(made['expires_at'])} UTC" if made.get("expires_at") else ""
    click.echo(f"key {made['id']} ({made['role']}{ends})")
    if key_file is None:
        click.echo(f"shown this once:  {made['key']}")
    else:
        click.echo(f"it is in {key_file}, which only you can read")


def _path(tenant: str) -> str:
    return "/v1/operators/keys" if tenant == OPERATOR else f"/v1/tenants/{segment(tenant)}/keys"
