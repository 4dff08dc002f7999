"""What serving costs: requests/s over HTTP beside a bare loop over the same ticket, in one run.

One gateway, one worker, Tombola's own open-loop load generator on the same cores; the bare loop
tokenizes and runs the same kind of texts in batches of 16 with no server at all. The two are
measured in turns, and the ratio is given per turn.
"""

import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadtest.sentences import BANKING
from tickets import bundle as bundles
from tickets.reference import Reference

PORT, OPS_PORT = 18080, 18081
TURNS = 3
LIMIT_MS = 25
SEARCH_SECONDS = 3
BARE_SECONDS = 3.0
BATCH_TEXTS = 16


def measure_served(tier: str, announce: Callable[[str], None]) -> dict[str, Any]:
    """Highest rate with p99 <= 25 ms from the intended time, and the bare loop's rate, in turns."""
    reference = Reference(bundles.read(Path(f"tickets/starter/banking-{tier}.ticket")))
    turns = []
    with tempfile.TemporaryDirectory() as folder, _serving(Path(folder)) as key:
        for turn in range(TURNS):
            announce(f"served: {tier}, turn {turn + 1} of {TURNS}")
            bare = _bare_rate(reference)
            found = _search(key, tier, Path(folder) / f"search-{turn}.json", start=int(bare / 2))
            saturated = _saturate(key, tier, Path(folder))
            turns.append({"bare_texts_per_s": bare, "served_per_s": found, "ratio": found / bare} | saturated)
    ratios = sorted(t["ratio"] for t in turns)
    return {
        "tier": tier, "limit_ms": LIMIT_MS, "turns": turns,
        "ratio": {"median": statistics.median(ratios), "lowest": ratios[0], "highest": ratios[-1]},
    }  # fmt: skip


def _bare_rate(reference: Reference) -> float:
    """Texts/s of one core: tokenize and run, batches of 16, no server."""
    batches = [[BANKING[(16 * b + i) % len(BANKING)] for i in range(BATCH_TEXTS)] for b in range(8)]
    reference.run(reference.tokens(batches[0]))
    start, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < BARE_SECONDS:
        reference.run(reference.tokens(batches[done % len(batches)]))
        done += 1
    return done * BATCH_TEXTS / elapsed


def _search(key: str, tier: str, out: Path, start: int) -> float:
    command = [
        sys.executable, "-m", "loadtest", "--url", f"http://127.0.0.1:{PORT}", "--key", key, "--tier", tier,
        "--rate", str(start), "--max-rate-p99", str(LIMIT_MS), "--duration", str(SEARCH_SECONDS),
        "--max-lateness-ms", "10", "--json", str(out),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if not out.is_file():
        raise RuntimeError(f"the load test gave no report:\n{result.stdout}{result.stderr}")
    document = json.loads(out.read_text())
    return float(document["search"]["best"]["rate_per_s"]) if document["search"]["best"] else 0.0


def _saturate(key: str, tier: str, folder: Path) -> dict[str, Any]:
    """Closed loop with wrk (64 connections), where wrk is installed: the most that comes through."""
    script = folder / "post.lua"
    body = json.dumps({"domain": "banking", "tier": tier, "text": BANKING[0]})
    script.write_text(
        'wrk.method = "POST"\n'
        f"wrk.body = [[{body}]]\n"
        f'wrk.headers["Authorization"] = "Bearer {key}"\nwrk.headers["Content-Type"] = "application/json"\n'
    )
    command = ["wrk", "-t1", "-c64", "-d4s", "--latency", "-s", str(script), f"http://127.0.0.1:{PORT}/v1/classify"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        return {}
    rate, p99 = re.search(r"Requests/sec:\s+([\d.]+)", text), re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    assert rate is not None
    assert p99 is not None
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return {
        "wrk_per_s": float(rate[1]), "wrk_p99_ms": float(p99[1]) * scale, "wrk_errors": int(errors[1]) if errors else 0,
    }  # fmt: skip


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """`tombola up` with one gateway and one worker; yields the demo key."""
    command = [
        sys.executable, "-m", "server", "up", "--gateways", "1", "--workers", "1",
        "--port", str(PORT), "--ops-port", str(OPS_PORT), "--state", str(folder / "state"),
    ]  # fmt: skip
    with (
        open(folder / "up.log", "wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                found = re.search(r"tk_[A-Za-z0-9_-]+", line)
                if found:
                    break
            else:
                raise RuntimeError(f"tombola up ended:\n{(folder / 'up.log').read_text()}")
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
