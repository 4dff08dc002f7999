"""Saturation: so many connections, each sending its next request when the last was answered.

With wrk where it is installed (it costs a tenth of what a Python client does, on cores that the server needs),
else with the load generator's own client. The same one for all systems of a run; the result says which.
Closed loops flatter latency, so only throughput is compared; the percentile stands beside it.
"""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.client import Client, Endpoint
from loadtest.peers.dialects import PeerWorkload
from loadtest.peers.environments import PeerFailed
from loadtest.report import percentile
from loadtest.run import run_on_loop

TIMEOUT_S = 10.0


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """What one closed loop found. ``per_s`` counts good answers; with wrk those of status 2xx."""

    client: str
    connections: int
    per_s: float
    p50_ms: float | None
    p99_ms: float | None
    errors: int


def client_name() -> str:
    """Which client `saturate` uses."""
    return "wrk" if shutil.which("wrk") else "own"


def saturate(url: str, workload: PeerWorkload, *, connections: int, seconds: float, scratch: Path) -> Closed:
    """Keep ``connections`` busy for so long. Raises PeerFailed when nothing is answered."""
    if client_name() == "wrk":
        found = _with_wrk(url, workload, connections, seconds, scratch)
    else:
        found = run_on_loop(lambda: _with_client(url, workload, connections, seconds))
    if not found.per_s:
        raise PeerFailed(f"no good answer with {connections} connections ({found.errors} errors)")
    return found


def lua_script(payloads: Sequence[bytes]) -> str:
    """A wrk script that sends ``payloads`` (whole HTTP requests) in turn and prints its figures as JSON."""
    listed = ",\n".join(_lua_string(payload) for payload in payloads)
    return (
        f"local requests = {{\n{listed}\n}}\nlocal index = 0\n"
        "request = function()\n  index = index % #requests + 1\n  return requests[index]\nend\n"
        "done = function(summary, latency, requests)\n"
        "  local e = summary.errors\n"
        '  io.write(string.format(\'FOUND {"requests": %d, "us": %d, "p50_us": %f, "p99_us": %f, '
        '"status": %d, "others": %d}\\n\',\n'
        "    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),\n"
        "    e.status, e.connect + e.read + e.write + e.timeout))\nend\n"
    )


def _lua_string(data: bytes) -> str:
    """Bytes as a Lua string: every byte that is not a plain character as a decimal escape."""
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03d}" for b in data) + '"'


def _with_wrk(url: str, workload: PeerWorkload, connections: int, seconds: float, scratch: Path) -> Closed:
    script = scratch / "closed.lua"
    script.write_text(lua_script([request.payload for request in workload.all()]))
    # One thread is enough to saturate any of these, and takes least from them.
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_S:g}s"]
    output = subprocess.run([*command, "-s", str(script), url], capture_output=True, text=True, check=False).stdout
    lines = [line for line in output.splitlines() if line.startswith("FOUND ")]
    if not lines:
        raise PeerFailed(f"wrk gave no result: {output[-300:]}")
    found = json.loads(lines[-1].removeprefix("FOUND "))
    return Closed(
        client="wrk",
        connections=connections,
        per_s=(found["requests"] - found["status"]) / (found["us"] / 1e6),
        p50_ms=found["p50_us"] / 1000,
        p99_ms=found["p99_us"] / 1000,
        errors=found["status"] + found["others"],
    )


async def _with_client(url: str, workload: PeerWorkload, connections: int, seconds: float) -> Closed:
    client = Client(Endpoint.parse(url), max_connections=connections, timeout_s=TIMEOUT_S)
    took: list[float] = []
    errors, start = 0, time.perf_counter()

    async def keep_busy(seed: int) -> None:
        nonlocal errors
        for request in workload.requests(seed):
            began = time.perf_counter()
            if began - start >= seconds:
                return
            reply = await client.request(request.payload)
            if workload.read(request, reply)[0]:
                errors += 1
            else:
                took.append(1000 * (time.perf_counter() - began))

    try:
        await asyncio.gather(*map(keep_busy, range(connections)))
    finally:
        await client.close()
    took.sort()
    return Closed(
        client="own",
        connections=connections,
        per_s=len(took) / (time.perf_counter() - start),
        p50_ms=percentile(took, 0.5),
        p99_ms=percentile(took, 0.99),
        errors=errors,
    )
