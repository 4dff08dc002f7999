"""`make bench`: run the benchmarks, print what they found, keep the raw numbers.

Results go to bench/out/<date>-<commit>.json with the machine they were measured on. Machines are
shared and noisy: read ratios and their spread, not single figures.
"""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench import cascade, chaos, hop, many, neighbour, overload
from bench.family import measure_family
from bench.served import measure_served
from bench.startup import measure_startup

Measure = Callable[[Callable[[str], None]], Any]
PARTS: dict[str, Measure] = {
    "family": measure_family,
    "served": lambda announce: [measure_served(tier, announce) for tier in ("accurate", "balanced", "fast")],
    "startup": measure_startup,
    "cascade": cascade.measure_cascades,
    "hop": hop.measure_hop,
    "overload": overload.measure_overload,
    "neighbour": neighbour.measure_neighbour,
    "many": many.measure_many,
    "chaos": chaos.measure_chaos,
}
QUICK: dict[str, Measure] = {
    "hop": lambda announce: hop.measure_hop(announce, turns=1, seconds=4),
    "overload": lambda announce: overload.measure_overload(announce, seconds=4),
    "neighbour": lambda announce: neighbour.measure_neighbour(announce, seconds=4),
    "many": lambda announce: many.measure_many(announce, tickets=100),
    "chaos": lambda announce: chaos.measure_chaos(announce, seconds=20.0),
}
TABLES = {"cascade": cascade, "hop": hop, "overload": overload, "neighbour": neighbour, "many": many, "chaos": chaos}
"""Parts whose module says how to show them: COLUMNS, and table(results)."""


@click.command(epilog="Example: python -m bench.run family served")
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("bench/out"), show_default=True)
@click.option("--quick", is_flag=True, help="Shorter loads where there are such: to try things, not to report.")
def main(parts: tuple[str, ...], out: Path, quick: bool) -> None:
    """Run the named benchmarks, or all of them."""
    console = Console()
    results: dict[str, Any] = {"machine": machine(), "commit": commit(), "at": datetime.now(UTC).isoformat()}
    for part in parts or tuple(PARTS):
        start = time.perf_counter()
        measure = QUICK.get(part, PARTS[part]) if quick else PARTS[part]
        results[part] = measure(lambda text: console.print(text, style="dim"))
        console.print(f"{part}: {time.perf_counter() - start:.0f} s", style="dim")
    _show(console, results)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}-{results['commit']}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    console.print(f"raw numbers: {path}")


def _show(console: Console, results: dict[str, Any]) -> None:
    if "family" in results:
        table = Table("model", "texts/s, one core", "against dense fp32 (median, lowest, highest)", "one text, ms")
        for name, entry in results["family"].items():
            speed = entry["speed"]
            spread = "{:.1f}x [{:.1f}, {:.1f}]".format(*speed["speedup"])
            table.add_row(name, f"{speed['texts_per_s']:,.0f}", spread, f"{speed['alone_ms']:.3f}")
        console.print(table)
    if "served" in results:
        table = Table(
            "tier", "bare loop, texts/s", "served at p99 <= 25 ms, requests/s", "ratio", "wrk, requests/s (p99)"
        )
        for entry in results["served"]:
            for turn in entry["turns"]:
                wrk = (
                    f"{turn['wrk_per_s']:,.0f} ({turn['wrk_p99_ms']:.1f} ms)" if "wrk_per_s" in turn else "no wrk here"
                )
                table.add_row(
                    entry["tier"], f"{turn['bare_texts_per_s']:,.0f}", f"{turn['served_per_s']:,.0f}",
                    f"{turn['ratio']:.2f}", wrk,
                )  # fmt: skip
        console.print(table)
    for part, module in TABLES.items():
        if results.get(part):
            table = Table(*module.COLUMNS, title=part)
            for row in module.table(results[part]):
                table.add_row(*row)
            console.print(table)
    if "startup" in results:
        console.print(results["startup"])


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import os

    model = ""
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {"python": platform.python_version(), "cpu": model, "cores": os.cpu_count(), "system": platform.platform()}


def commit() -> str:
    """The short hash of the checked-out commit."""
    result = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
