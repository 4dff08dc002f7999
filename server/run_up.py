"""`tombola up`: the options, and what is said to the person who typed it.

Owns the click command and its messages; the work is done by `server.up`.
"""

import asyncio
import contextlib
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from routing.redis.url import redacted
from server.listen import ListenError, listen, url
from server.machine import available_cores, default_gateways, default_workers
from server.parts import Ports
from server.state import State, StateError
from server.up import Running, Settings, Up, UpError

if TYPE_CHECKING:
    from server.beginning import Example


DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_KEY_FILE = ".tombola/operator.key"
"""Where the commands that speak to the admin API look by themselves."""


@click.command("up", epilog="Example: tombola up --workers 4 --port 9000 --state ./demo")
@click.option(
    "--gateways",
    type=click.IntRange(1, 64),
    envvar="TOMBOLA_GATEWAYS",
    help="Gateway processes, which share one port; `tombola doctor` measures how many suit this machine.  "
    "[default: one for every four cores]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    envvar="TOMBOLA_WORKERS",
    help="Worker processes; each runs one session on one core.  [default: the cores that gateways leave]",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="TOMBOLA_HOST",
    help="Address to listen on. 0.0.0.0 serves other machines too; put TLS in front then.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    envvar="TOMBOLA_PORT",
    help="Port of the API; 0 takes any free one.",
)
@click.option(
    "--ops-host",
    envvar="TOMBOLA_OPS_HOST",
    help="Address of metrics and health, which name tenants: keep it private.  [default: as --host]",
)
@click.option(
    "--ops-port",
    type=click.IntRange(0, 65535),
    default=8081,
    show_default=True,
    envvar="TOMBOLA_OPS_PORT",
    help="Port of metrics and health; 0 takes any free one.",
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    envvar="TOMBOLA_ADMIN_PORT",
    help="A port of its own for the admin API; --port then answers inference only.  [default: none; it is on --port]",
)
@click.option("--admin-host", envvar="TOMBOLA_ADMIN_HOST", help="Address of the admin port.  [default: 127.0.0.1]")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=Path(".tombola"),
    show_default=True,
    envvar="TOMBOLA_STATE",
    help="Directory of all that lasts: tickets, Redis's data, the demo key. One `up` at a time uses it.",
)
@click.option(
    "--redis-url",
    envvar="TOMBOLA_REDIS_URL",
    help="A Redis to use instead of starting one, for example when several machines work together.",
)
@click.option(
    "--starter",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="TOMBOLA_STARTER",
    help="Folder of tickets to begin with (it holds family.json).  [default: the tickets in the package]",
)
@click.option(
    "--empty", "is_empty", is_flag=True, help="Begin with no tickets and no tenant; publish a table of your own."
)
@click.option(
    "--drain-s",
    type=click.FloatRange(0, 3600),
    default=10.0,
    show_default=True,
    envvar="TOMBOLA_DRAIN_S",
    help="How long requests in flight may take to finish when you stop.",
)
@click.option(
    "--probe-patience-s",
    type=click.FloatRange(0, 3600),
    default=5.0,
    show_default=True,
    envvar="TOMBOLA_PROBE_PATIENCE_S",
    help="A process that owes the answer to a probe for so long is killed and replaced. Longer than any batch "
    "takes; 0: never.",
)
def command(
    gateways: int | None,
    workers: int | None,
    host: str,
    port: int,
    ops_host: str | None,
    ops_port: int,
    admin_port: int | None,
    admin_host: str | None,
    state: Path,
    redis_url: str | None,
    starter: Path | None,
    is_empty: bool,
    drain_s: float,
    probe_patience_s: float,
) -> None:
    """Start everything on this machine and print a curl line that works. Ctrl-C stops it.

    The first start fills the state directory: it copies the starter tickets, makes a tenant
    `demo` with a fresh key, and publishes a table. Later starts serve what is there.
    """
    gateways = gateways or default_gateways(available_cores())
    settings = Settings(
        gateways=gateways,
        workers=workers or default_workers(available_cores(), gateways),
        redis_url=redis_url,
        starter=starter,
        is_empty=is_empty,
        drain_s=drain_s,
        patience_s=probe_patience_s,
    )
    try:
        with contextlib.ExitStack() as stack:
            place = State(state)
            stack.callback(place.close)
            api = stack.enter_context(listen(host, port, "--port"))
            ops = stack.enter_context(listen(ops_host or host, ops_port, "--ops-port"))
            admin = None
            if admin_port is not None:
                admin = stack.enter_context(listen(admin_host or "127.0.0.1", admin_port, "--admin-port"))
            addresses = Addresses(url(api), url(ops), url(admin or api))

            async def up() -> None:
                await Up(settings, place, Ports(api, ops, admin)).run(
                    lambda running: click.echo(banner(running, settings, place, addresses))
                )

            asyncio.run(up())
    except (StateError, ListenError, UpError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


class Addresses(NamedTuple):
    """Where the installation answers."""

    api: str
    ops: str
    admin: str


def banner(running: Running, settings: Settings, state: State, addresses: Addresses) -> str:
    """What is said when everything is up."""
    processes = f"{settings.gateways} gateway(s), {settings.workers} worker(s)"
    lines = [
        "",
        f"Tombola is up after {running.took_s:.1f} s: {processes}, table version {running.table_version}",
        "",
        f"  API        {addresses.api}  (documentation: {addresses.admin}/docs)",
        f"  dashboard  {addresses.admin}/dashboard  (log in with a key, such as that in {state.operator_key_file})",
        f"  metrics    {addresses.ops}/metrics",
        f"  Redis      {redacted(running.redis_url)}",
        f"  state      {state.root}",
        "",
    ]
    if running.example is not None:
        lines += [
            f"Ask it something (the key is in {state.key_file}):",
            "",
            "  " + curl(addresses.api, running.example),
            "",
        ]
    else:
        lines += [
            "No tenant of this table has a key that is known here: ask with one of your own, or publish a table",
            f"with `tombola route publish FILE --redis-url {redacted(running.redis_url)}`.",
            "",
        ]
    where = [f"--url {addresses.admin}"] if addresses.admin != DEFAULT_URL else []
    if state.operator_key_file != Path(DEFAULT_KEY_FILE).absolute():
        where.append(f"--key {state.operator_key_file}")
    lines += [
        f"Register a ticket or an ONNX model of your own (the operators' key is in {state.operator_key_file}):",
        "",
        " ".join(["  tombola register FILE --tenant demo", *where]),
        "",
    ]
    lines += [f"Stop it with Ctrl-C, or kill {os.getpid()}; once more to stop without waiting.", ""]
    return "\n".join(lines)


def curl(api_url: str, example: "Example") -> str:
    """A command line that asks the example, quoted for a shell."""
    body = json.dumps({"domain": example.domain, "text": example.text}, ensure_ascii=False)
    arguments = [
        "curl", "-sS", f"{api_url}/v1/classify", "-H", f"Authorization: Bearer {example.key}",
        "-H", "Content-Type: application/json", "-d", body,
    ]  # fmt: skip
    return shlex.join(arguments)
