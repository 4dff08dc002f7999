"""What serving costs: requests/s over HTTP beside a bare loop over the same ticket, in one run.

One gateway, one worker, Tombola's own open-loop load generator on the same cores; the bare loop
tokenizes and runs the same kind of texts in batches of 16 with no server at all. The two are
measured in turns, and the ratio is given per turn.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.up import DOMAIN, Customer, Serving, environment, serving
from loadtest.sentences import BANKING
from tickets import bundle as bundles
from tickets.reference import Reference

TURNS = 3
LIMIT_MS = 25
DEADLINE_MS = 1000.0
"""So that nothing is refused: the search looks for the rate at which p99 passes the limit by itself."""
SEARCH_SECONDS = 3
BARE_SECONDS = 3.0
BATCH_TEXTS = 16


def measure_served(tier: str, announce: Callable[[str], None]) -> dict[str, Any]:
    """Highest rate with p99 <= 25 ms from the intended time, and the bare loop's rate, in turns."""
    ticket = bundles.read(Path(f"tickets/starter/banking-{tier}.ticket"))
    reference = Reference(ticket)
    turns = []
    customers = {tier: Customer([ticket], deadline_ms=DEADLINE_MS)}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), customers) as tombola:
        for turn in range(TURNS):
            announce(f"served: {tier}, turn {turn + 1} of {TURNS}")
            bare = _bare_rate(reference)
            found = _search(tombola, tier, Path(folder) / f"search-{turn}.json", start=int(bare / 2))
            saturated = _saturate(tombola, tier, Path(folder))
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


def _search(tombola: Serving, tier: str, out: Path, start: int) -> float:
    command = [
        sys.executable, "-m", "loadtest", "--url", tombola.url, "--key", tombola.keys[tier], "--domain", DOMAIN,
        "--rate", str(start), "--max-rate-p99", str(LIMIT_MS), "--duration", str(SEARCH_SECONDS),
        "--max-lateness-ms", "10", "--json", str(out),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if not out.is_file():
        raise RuntimeError(f"the load test gave no report:\n{result.stdout}{result.stderr}")
    document = json.loads(out.read_text())
    return float(document["search"]["best"]["rate_per_s"]) if document["search"]["best"] else 0.0


def _saturate(tombola: Serving, tier: str, folder: Path) -> dict[str, Any]:
    """Closed loop with wrk (64 connections), where wrk is installed: the most that comes through."""
    script = folder / "post.lua"
    body = json.dumps({"domain": DOMAIN, "text": BANKING[0]})
    script.write_text(
        'wrk.method = "POST"\n'
        f"wrk.body = [[{body}]]\n"
        f'wrk.headers["Authorization"] = "Bearer {tombola.keys[tier]}"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
    )
    command = ["wrk", "-t1", "-c64", "-d4s", "--latency", "-s", str(script), f"{tombola.url}/v1/classify"]
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
