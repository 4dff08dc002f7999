"""Hot swaps under load: register, promote, roll back, promote again, retire, while callers keep asking.

Every ticket answers the same text with a probability of its own, so that an answer which names one ticket and comes
from another is found out. Owns the course of it and the numbers; requests and moves are those of the tests
(tests/e2e/test_swap.py), which hold them to zero failed and zero mixed.
"""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from tests.e2e.installation import Installation, make_starter, with_tiers
from tests.e2e.moves import Mover
from tests.e2e.traffic import Traffic
from tests.tiny import tiny_bundle

SWAPS = 100
RATE_PER_S = 150.0
DEADLINE_MS = 1000.0
BETWEEN = 5
"""So many answers of the ticket that has just been swapped in are waited for before the next move."""


def measure_swaps(
    *, swaps: int = SWAPS, rate_per_s: float = RATE_PER_S, deadline_ms: float = DEADLINE_MS
) -> dict[str, Any]:
    """What became of every request while tickets were exchanged under it: two gateways, two workers."""
    with tempfile.TemporaryDirectory(prefix="tombola-swap-") as name:
        folder = Path(name)
        starter = make_starter(folder / "starter")
        up = Installation(folder / "one", "--starter", str(starter), "--workers", "2", "--gateways", "2")
        try:
            return asyncio.run(_measure(up.wait_until_up(), swaps, rate_per_s, deadline_ms))
        finally:
            up.stop()
            up.close()


async def _measure(up: Installation, swaps: int, rate_per_s: float, deadline_ms: float) -> dict[str, Any]:
    await up.uses(await up.publish(lambda table: with_tiers(table, deadline_ms=deadline_ms)))
    mover = Mover(up, gateways=2)
    states = await mover.states()
    traffic = Traffic(up, dict(zip(states, (1.0, 0.5), strict=True)))
    old, took = next(iter(states)), list[float]()

    async def swapped(move: Any, ticket: str) -> None:  # noqa: ANN401 - a coroutine
        began = time.perf_counter()
        await move
        took.append((time.perf_counter() - began) * 1000)
        await traffic.more(BETWEEN, ticket)

    began = time.perf_counter()
    async with traffic.steady(rate_per_s):
        await traffic.more(BETWEEN, old)
        for number in range(swaps // 3):
            scale = 0.05 + 0.5 * number / swaps
            bundle = tiny_bundle("accurate", 0.98, scale=scale)
            new = await mover.register(bundle, tier="accurate", quality=0.98)
            traffic.scales[new] = scale
            await swapped(mover.promote(new), new)
            await swapped(mover.roll_back(), old)
            await swapped(mover.promote(new), new)
            await mover.retire(old)
            old = new
    seconds = time.perf_counter() - began
    await mover.store.close()
    return {
        "swaps": len(took), "tickets": len(traffic.by_ticket), "seconds": round(seconds, 1), "sent": traffic.sent,
        "failed": len(traffic.failed), "mixed": len(traffic.mixed), "deadline_ms": deadline_ms,
        "swap_ms_p50": round(statistics.median(took), 1), "swap_ms_max": round(max(took), 1),
        "faults": [*traffic.failed, *traffic.mixed][:10],
    }  # fmt: skip


@click.command(epilog="Example: python -m bench.swap --swaps 30")
@click.option("--swaps", default=SWAPS, show_default=True, type=click.IntRange(3), help="How many.")
@click.option("--rate", default=RATE_PER_S, show_default=True, type=click.FloatRange(1.0), help="Requests/s.")
@click.option("--deadline-ms", default=DEADLINE_MS, show_default=True, help="What the tiers promise.")
def main(swaps: int, rate: float, deadline_ms: float) -> None:
    """Exchange tickets under load; exits 1 where a request failed or an answer was mixed up."""
    results = measure_swaps(swaps=swaps, rate_per_s=rate, deadline_ms=deadline_ms)
    click.echo(json.dumps(results, indent=1))
    if results["failed"] or results["mixed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
