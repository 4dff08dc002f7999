"""What looking costs: one gateway and one worker with everything on, against the same with everything off.

Both run at once and are loaded in turns in one run, thousands of answers a turn, first the one and then the other, then
the other way round; a ratio is taken of each turn, so that what else runs on the machine counts on both. "On": the
request log as by default, one request in a hundred traced and sent by OTLP to a collector that takes everything, and
the metrics page scraped every five seconds. "Off": no log, no traces, no scrape; counting itself cannot be switched off
and is in both.
"""

import contextlib
import http.server
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.family import STARTER
from bench.up import Customer, Serving, report_of, saturate, serving, start_load
from tickets import bundle as bundles

TURNS = 10
SECONDS = 3.0
RATE_PER_S = 300.0
SCRAPE_EVERY_S = 5.0
DEADLINE_MS = 1000.0
OFF = {"TOMBOLA_REQUEST_LOG": "off"}
COLUMNS = ("", "off", "on", "on / off, median", "middle half of the turns")


def measure_observability(
    announce: Callable[[str], None], *, turns: int = TURNS, seconds: float = SECONDS
) -> dict[str, Any]:
    """Answers/s of a closed loop, and p50 and p99 of an open one, by turn, on and off; and their ratios."""
    ticket = bundles.read(STARTER / "banking-fast.ticket")
    customers = {"bank": Customer([ticket], deadline_ms=DEADLINE_MS)}
    turned: list[dict[str, dict[str, float]]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        collector = stack.enter_context(_collector())
        on = {"TOMBOLA_OTLP_ENDPOINT": collector.url, "TOMBOLA_TRACE_RATIO": "0.01"}
        sides = {
            "off": stack.enter_context(serving(folder / "off", customers, environ=OFF)),
            "on": stack.enter_context(serving(folder / "on", customers, environ=on)),
        }
        for turn in range(turns):
            order = ("off", "on") if turn % 2 == 0 else ("on", "off")
            measured = {}
            for side in order:
                announce(f"observability: {side}, turn {turn + 1} of {turns}, load {os.getloadavg()[0]:.1f}")
                with _scraped(sides[side]) if side == "on" else contextlib.nullcontext():
                    measured[side] = _turn(sides[side], folder / f"{side}-{turn}.json", seconds, turn)
            turned.append(measured)
        return {
            "turns": turned, "ratio": {key: _ratios(turned, key) for key in turned[0]["on"]},
            "spans_bytes": collector.taken_bytes, "batches": collector.batches,
        }  # fmt: skip


def _turn(tombola: Serving, report: Path, seconds: float, seed: int) -> dict[str, float]:
    before = tombola.cpu_s()
    began = time.perf_counter()
    answers_per_s = saturate(tombola, "bank", connections=32, seconds=seconds)
    took_s = time.perf_counter() - began
    gateway_s = tombola.cpu_s()["gateway"] - before["gateway"]
    load = start_load(
        tombola, "bank", report, "--rate", f"{RATE_PER_S:g}", "--duration", f"{seconds:g}", "--warmup", "1",
        "--seed", str(seed),
    )  # fmt: skip
    total = report_of(load, report)["total"]
    assert not total["errors"], total["errors"]
    return {
        "answers_per_s": answers_per_s,
        "gateway_us_per_answer": 1e6 * gateway_s / (answers_per_s * took_s),
        "p50_ms": total["from_send"]["p50_ms"],
        "p99_ms": total["from_send"]["p99_ms"],
    }


def _ratios(turned: list[dict[str, dict[str, float]]], key: str) -> dict[str, float]:
    ratios = [one["on"][key] / one["off"][key] for one in turned]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {"median": median, "low": low, "high": high, "lowest": min(ratios), "highest": max(ratios)}


class _Collector:
    """Takes what is posted to it, and counts."""

    def __init__(self, url: str) -> None:
        self.url, self.taken_bytes, self.batches = url, 0, 0


@contextlib.contextmanager
def _collector() -> Iterator[_Collector]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.taken_bytes += len(self.rfile.read(int(self.headers["content-length"])))
            collector.batches += 1
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = _Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def _scraped(tombola: Serving) -> Iterator[None]:
    """Its metrics page is read every few seconds while the block runs, as Prometheus would."""
    stop = threading.Event()

    def scrape() -> None:
        request = urllib.request.Request(  # noqa: S310 - our own http address
            tombola.metrics_url, headers={"accept": "application/openmetrics-text;version=1.0.0"}
        )
        while True:
            with urllib.request.urlopen(request, timeout=30) as page:  # noqa: S310 - as above
                page.read()
            if stop.wait(SCRAPE_EVERY_S):
                return

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows for people, under COLUMNS."""
    rows: list[tuple[str, ...]] = []
    for key, ratio in results["ratio"].items():
        off, on = (statistics.median(turn[side][key] for turn in results["turns"]) for side in ("off", "on"))
        spread = f"{ratio['low']:.3f} to {ratio['high']:.3f}"
        rows.append((key, f"{off:.2f}", f"{on:.2f}", f"{ratio['median']:.3f}", spread))
    return rows


if __name__ == "__main__":
    found = measure_observability(print)
    for row in [COLUMNS, *table(found)]:
        print(*(f"{cell:>24}" for cell in row))
    print({key: found[key] for key in ("spans_bytes", "batches")})
