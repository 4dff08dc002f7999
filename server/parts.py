"""The command lines of the processes that `tombola up` keeps alive.

Owns how this installation starts its own gateways and workers, as `Part`s for the
supervisor. The options themselves belong to `server.run_gateway` and `server.run_worker`.
"""

import os
import socket
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from server.supervisor import Part

REDIS, WORKER, GATEWAY = "redis", "worker", "gateway"


@dataclass(frozen=True, slots=True)
class Common:
    """What all gateways and workers of an installation are told."""

    redis_url: str
    registry: Path
    run_dir: Path
    drain_s: float


class Ports(NamedTuple):
    """The listening sockets that gateways inherit; they outlive each of them."""

    api: socket.socket
    ops: socket.socket
    admin: socket.socket | None = None
    """None: the admin API is on ``api``."""


def worker(name: str, common: Common) -> Part:
    """One worker process."""
    return Part(name, WORKER, _command_line(WORKER, *_options(name, common)), environ=_environ(common))


def gateway(name: str, common: Common, ports: Ports, table_cache: Path) -> Part:
    """One gateway process, which inherits the sockets it listens on."""
    named = {"--fd": ports.api, "--ops-fd": ports.ops, "--admin-fd": ports.admin}
    sockets = {option: port.fileno() for option, port in named.items() if port is not None}
    own = [word for option, number in sockets.items() for word in (option, str(number))]
    command = _command_line(GATEWAY, *_options(name, common), *own, "--table-cache", str(table_cache))
    return Part(name, GATEWAY, command, tuple(sockets.values()), _environ(common))


def _options(name: str, common: Common) -> tuple[str, ...]:
    return (
        "--name", name, "--registry", str(common.registry), "--run-dir", str(common.run_dir),
        "--drain-s", f"{common.drain_s:g}",
    )  # fmt: skip


def _command_line(name: str, *options: str) -> tuple[str, ...]:
    # -P: a folder called `server` in the current directory must not be taken for ours.
    return (sys.executable, "-P", "-m", "server", name, *options)


def _environ(common: Common) -> dict[str, str]:
    """What is told by environment: the URL may hold a password, which everybody could read on a command line."""
    return {"TOMBOLA_REDIS_URL": common.redis_url} | _import_path()


def _import_path() -> dict[str, str]:
    """The environment in which `-P -m server` finds our packages, installed or not."""
    root = str(Path(__file__).resolve().parent.parent)
    if root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return {}
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{root}{os.pathsep}{known}" if known else root}
