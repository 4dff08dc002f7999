"""`tombola gateway`: the options of a gateway process, and its signals.

Owns the click command and what is said when an option cannot be used. The process itself is
composed and run by `server.gateway_process`.
"""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import click
import uvloop

from server.address import AddressError
from server.gateway_process import Settings, run
from server.listen import ListenError, listen
from server.logs import configure_logging
from server.machine import raise_file_limit
from server.observing import DEFAULT_RATIO, Observing
from server.otlp import OtelMissing
from server.request_log import DEFAULT_MODE, MODES, Mode


def _inherited(fd: int, option: str) -> socket.socket:
    try:
        return socket.socket(fileno=fd)
    except OSError as error:
        raise click.UsageError(f"{option} {fd} is not an open socket: {error.strerror}") from error


@click.command(
    "gateway", epilog="Example: tombola gateway --name gw-1 --redis-url redis://localhost --registry ./tickets"
)
@click.option("--name", default=f"gateway-{os.getpid()}", envvar="TOMBOLA_NAME", help="Unique among gateways.")
@click.option("--redis-url", required=True, envvar="TOMBOLA_REDIS_URL", help="redis://, rediss:// or unix:///path.")
@click.option("--registry", required=True, envvar="TOMBOLA_REGISTRY", type=click.Path(path_type=Path), help="Tickets.")
@click.option(
    "--run-dir",
    default=".tombola/run",
    show_default=True,
    envvar="TOMBOLA_RUN_DIR",
    type=click.Path(path_type=Path),
    help="Directory of Unix sockets, shared with the workers of this machine.",
)
@click.option("--host", default="127.0.0.1", show_default=True, envvar="TOMBOLA_HOST", help="Address of the API.")
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    envvar="TOMBOLA_PORT",
    help="Port of the API; 0: any.",
)
@click.option("--ops-host", envvar="TOMBOLA_OPS_HOST", help="Address of metrics and health.  [default: as --host]")
@click.option(
    "--ops-port",
    default=8081,
    show_default=True,
    type=click.IntRange(0, 65535),
    envvar="TOMBOLA_OPS_PORT",
    help="Port of metrics and health.",
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    envvar="TOMBOLA_ADMIN_PORT",
    help="A port of its own for the admin API; --port then answers inference only.  [default: none; it is on --port]",
)
@click.option("--admin-host", envvar="TOMBOLA_ADMIN_HOST", help="Address of the admin port.  [default: 127.0.0.1]")
@click.option("--fd", type=int, help="An inherited listening socket for the API, instead of host and port.")
@click.option("--ops-fd", type=int, help="The same for metrics and health.")
@click.option("--admin-fd", type=int, help="The same for the admin API.")
@click.option(
    "--max-in-flight",
    default=1024,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    envvar="TOMBOLA_MAX_IN_FLIGHT",
    help="Requests beyond this many are refused at once (503). Raise it for many slow, large requests.",
)
@click.option(
    "--max-body-bytes",
    default=1 << 20,
    show_default=True,
    type=click.IntRange(1, 32 << 20),
    envvar="TOMBOLA_MAX_BODY_BYTES",
    help="A larger body is refused (413). 128 texts of 16 KiB need 2 MiB and a little.",
)
@click.option(
    "--table-cache",
    envvar="TOMBOLA_TABLE_CACHE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the last good table (and FILE.workers), so that a gateway can start while Redis is away.",
)
@click.option(
    "--drain-s",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0, 3600),
    envvar="TOMBOLA_DRAIN_S",
    help="How long requests in flight may take to finish after SIGTERM.",
)
@click.option(
    "--otlp-endpoint",
    metavar="URL",
    envvar="TOMBOLA_OTLP_ENDPOINT",
    help="Where traces go, as OTLP over HTTP (http://collector:4318). Needs tombola[otel].  [default: no traces]",
)
@click.option(
    "--trace-ratio",
    default=DEFAULT_RATIO,
    show_default=True,
    type=click.FloatRange(0, 1),
    envvar="TOMBOLA_TRACE_RATIO",
    help="Of the requests that come without a traceparent, the part that is traced.",
)
@click.option(
    "--request-log",
    default=DEFAULT_MODE,
    show_default=True,
    type=click.Choice(MODES),
    envvar="TOMBOLA_REQUEST_LOG",
    help="Which requests get a line: none, those that failed or were late, besides these one in a hundred and every "
    "traced one, or all.",
)
def command(
    name: str, redis_url: str, registry: Path, run_dir: Path, host: str, port: int, ops_host: str | None, ops_port: int,
    admin_port: int | None, admin_host: str | None, fd: int | None, ops_fd: int | None, admin_fd: int | None,
    max_in_flight: int, max_body_bytes: int, table_cache: Path | None,
    drain_s: float, otlp_endpoint: str | None, trace_ratio: float, request_log: Mode,
) -> None:  # fmt: skip
    """Serve the HTTP API: route each request to a worker, and say which ticket answered."""
    configure_logging()
    try:
        data = listen(host, port, "--port") if fd is None else _inherited(fd, "--fd")
        ops = listen(ops_host or host, ops_port, "--ops-port") if ops_fd is None else _inherited(ops_fd, "--ops-fd")
        admin = None if admin_fd is None else _inherited(admin_fd, "--admin-fd")
        if admin is None and admin_port is not None:
            admin = listen(admin_host or "127.0.0.1", admin_port, "--admin-port")
    except ListenError as error:
        raise click.ClickException(str(error)) from error
    settings = Settings(
        name=name, redis_url=redis_url, registry=registry, run_dir=run_dir, data=data, ops=ops, admin=admin,
        max_in_flight=max_in_flight, max_body_bytes=max_body_bytes, table_cache=table_cache, drain_s=drain_s,
        observing=Observing(otlp_endpoint=otlp_endpoint, trace_ratio=trace_ratio, request_log=request_log),
        max_connections=raise_file_limit() * 3 // 4,  # the rest is for workers, Redis, tickets and the ops port
    )  # fmt: skip
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(settings))
    except (AddressError, OtelMissing, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(0)


async def _main(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(settings, stop)
