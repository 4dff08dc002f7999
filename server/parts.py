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

from server.supervisor import Part

REDIS, WORKER, GATEWAY = "redis", "worker", "gateway"


@dataclass(frozen=True, slots=True)
class Common:
    """What all gateways and workers of an installation are told."""

    redis_url: str
    registry: Path
    run_dir: Path
    drain_s: float


def worker(name: str, common: Common) -> Part:
    """One worker process."""
    return Part(name, WORKER, _command_line(WORKER, *_options(name, common)), environ=_import_path())


def gateway(name: str, common: Common, api: socket.socket, ops: socket.socket, table_cache: Path) -> Part:
    """One gateway process, which inherits the sockets it listens on."""
    sockets = (api.fileno(), ops.fileno())
    own = ("--fd", str(sockets[0]), "--ops-fd", str(sockets[1]), "--table-cache", str(table_cache))
    return Part(name, GATEWAY, _command_line(GATEWAY, *_options(name, common), *own), sockets, _import_path())


def _options(name: str, common: Common) -> tuple[str, ...]:
    return (
        "--name", name, "--redis-url", common.redis_url, "--registry", str(common.registry),
        "--run-dir", str(common.run_dir), "--drain-s", f"{common.drain_s:g}",
    )  # fmt: skip


def _command_line(name: str, *options: str) -> tuple[str, ...]:
    # -P: a folder called `server` in the current directory must not be taken for ours.
    return (sys.executable, "-P", "-m", "server", name, *options)


def _import_path() -> dict[str, str]:
    """The environment in which `-P -m server` finds our packages, installed or not."""
    root = str(Path(__file__).resolve().parent.parent)
    if root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return {}
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{root}{os.pathsep}{known}" if known else root}
