"""Chaos: a worker, a gateway or Redis is killed every second under load, and every request is accounted for.

Two tenants ask the same domain name of different families, so that an answer meant for the other one is
noticed by its ticket and its labels; the request's id must come back with it. Two workers, two gateways,
one embedded Redis; `kill -9` goes to one of a kind drawn anew each second. What the outcomes mean is in
`bench.chaos_client`. `python -m bench.chaos --seconds 60` runs it alone.
"""

import asyncio
import itertools
import json
import random
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import psutil

from bench.chaos_client import Ask, ChaosClient, Family, Outcome, attribute_resets, settled
from bench.up import DOMAIN, Customer, Serving, serving
from loadtest.sentences import BANKING, TRAVEL
from tickets import bundle as bundles
from tickets.bundle import Bundle

STARTER = Path(__file__).resolve().parent.parent / "tickets" / "starter"
SECONDS = 300.0
RATE_PER_S = 200.0
DEADLINE_MS = 1000.0
KILL_EVERY_S = 1.0
QUIET_S = 5.0
"""Before the first kill and after the last one."""
KINDS = ("worker", "gateway", "redis")
COLUMNS = (
    "kills (worker, gateway, Redis)", "sent", "answered", "refused", "deadline", "reset by a dying gateway", "late",
    "lost", "wrong", "p50 / p99 ms", "back to work after: median / longest s",
)  # fmt: skip


def measure_chaos(
    announce: Callable[[str], None], *, seconds: float = SECONDS, rate_per_s: float = RATE_PER_S, seed: int = 1
) -> dict[str, Any]:
    """Kill for ``seconds`` under load; what became of every request."""
    tickets = {name: _tickets(name) for name in ("banking", "travel")}
    customers = {name: Customer(found, DEADLINE_MS) for name, found in tickets.items()}
    with tempfile.TemporaryDirectory() as name, serving(Path(name), customers, workers=2, gateways=2) as tombola:
        announce(f"chaos: {seconds:g} s of kills, {rate_per_s:g} requests/s")
        return asyncio.run(_chaos(tombola, tickets, Path(name) / "up.log", seconds, rate_per_s, seed, announce))


async def _chaos(
    tombola: Serving, tickets: Mapping[str, list[Bundle]], log: Path, seconds: float, rate_per_s: float, seed: int,
    announce: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    families = {
        name: Family(frozenset(b.id for b in found), frozenset(found[0].manifest.labels))
        for name, found in tickets.items()
    }
    texts = {"banking": BANKING, "travel": TRAVEL}
    place = urlsplit(tombola.url)
    client = ChaosClient(place.hostname or "127.0.0.1", place.port or 80, families)
    kills: list[tuple[float, str]] = []

    def ask(number: int) -> Ask:
        tenant = ("banking", "travel")[number % 2]
        text = texts[tenant][number // 2 % len(texts[tenant])]
        return Ask(tenant, tombola.keys[tenant], DOMAIN, text, DEADLINE_MS)

    killing = asyncio.create_task(_kill(tombola.up, kills, seconds, random.Random(seed), announce))
    await client.send_all(ask, rate_per_s, seconds + 2 * QUIET_S)
    await settled([killing])
    client.close()
    said = await asyncio.to_thread(log.read_text)
    return _summary(client.outcomes, kills, said, rate_per_s, seconds)


async def _kill(
    up: psutil.Process, kills: list[tuple[float, str]], seconds: float, dice: random.Random,
    announce: Callable[[str], None],
) -> None:  # fmt: skip
    await asyncio.sleep(QUIET_S)
    begin = time.perf_counter()
    for number in range(int(seconds / KILL_EVERY_S)):
        await asyncio.sleep(max(0.0, begin + number * KILL_EVERY_S - time.perf_counter()))
        kind = dice.choice(KINDS)
        living = [child for child in up.children() if _kind(child) == kind]
        if not living:
            continue  # the only one of its kind, and still on its way back
        victim = dice.choice(sorted(living, key=lambda child: child.pid))
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
        kills.append((time.perf_counter(), kind))
        if len(kills) % 30 == 0:
            announce(f"chaos: {len(kills)} kills so far")


def _kind(process: psutil.Process) -> str:
    try:
        words = process.cmdline()
        if process.status() == psutil.STATUS_ZOMBIE or not words:
            return ""
    except psutil.Error:
        return ""
    return "redis" if "redis-server" in words[0] or "valkey-server" in words[0] else words[4] if len(words) > 4 else ""


def _summary(
    outcomes: list[Outcome], kills: list[tuple[float, str]], log: str, rate_per_s: float, seconds: float
) -> dict[str, Any]:
    attribute_resets(outcomes, [when for when, kind in kills if kind == "gateway"])
    by_kind = Counter(outcome.kind for outcome in outcomes)
    answered = sorted((o.done_s - o.sent_s) * 1000 for o in outcomes if o.kind == "answered")
    ends = sorted(o.done_s for o in outcomes if o.kind == "answered")
    back = recoveries(log)
    late = [outcome for outcome in outcomes if outcome.late]
    gaps = without_gateway(log, time.time() - time.perf_counter())
    return {
        "seconds": seconds, "rate_per_s": rate_per_s, "deadline_ms": DEADLINE_MS,
        "kills": {kind: sum(killed == kind for _, killed in kills) for kind in KINDS},
        "sent": len(outcomes), "by_kind": dict(by_kind),
        "reset_by_dying_gateway": sum(bool(o.resets) and o.kind != "lost" for o in outcomes),
        "reset_twice": by_kind["reset"],
        "connections_not_made": sum(o.not_accepted for o in outcomes),
        "late": len(late), "late_with_a_gateway": sum(not _overlaps(o, gaps) for o in late),
        "lost": by_kind["lost"], "wrong": by_kind["wrong"],
        "refused_by_code": dict(Counter(o.detail for o in outcomes if o.kind in ("refused", "deadline"))),
        "faults": [f"{o.kind}: {o.detail}" for o in outcomes if o.kind in ("lost", "wrong")][:20],
        "p50_ms": _percentile(answered, 0.5), "p99_ms": _percentile(answered, 0.99),
        "longest_without_an_answer_s": max((b - a for a, b in itertools.pairwise(ends)), default=0.0),
        "recovery_s": {kind: _spread(found) for kind, found in back.items()},
        "quarantined": log.count('"event":"ticket_quarantined"'),
    }  # fmt: skip


def events(log: str) -> Iterator[tuple[str, str, str, float]]:
    """Deaths and first works: which part, its kind, what happened, when (seconds since 1970)."""
    pattern = r'"part":"((worker|gateway)-[^"]*)".*"event":"(process_died|process_works)".*"timestamp":"([^"]+)"'
    for match in re.finditer(pattern, log):
        yield match[1], match[2], match[3], datetime.fromisoformat(match[4]).timestamp()


def recoveries(log: str) -> dict[str, list[float]]:
    """Seconds between the death of a gateway or worker and the moment its successor was seen to work."""
    died: dict[str, float] = {}
    found: dict[str, list[float]] = {"worker": [], "gateway": []}
    for part, kind, event, at in events(log):
        if event == "process_died":
            died.setdefault(part, at)
        elif part in died:
            found[kind].append(at - died.pop(part))
    return found


def without_gateway(log: str, clock_offset_s: float) -> list[tuple[float, float]]:
    """When no gateway was seen to work, by the monotonic clock: requests wait for one in the kernel's queue then."""
    alive, gaps = {"gateway-0", "gateway-1"}, list[tuple[float, float]]()
    since = 0.0
    for part, _, event, at in events(log):
        if not part.startswith("gateway"):
            continue
        if event == "process_died":
            since = since if not alive else at
            alive.discard(part)
        else:
            if not alive:
                gaps.append((since - clock_offset_s, at - clock_offset_s))
            alive.add(part)
    return gaps


def _overlaps(outcome: Outcome, gaps: list[tuple[float, float]]) -> bool:
    return any(begin <= outcome.done_s and outcome.sent_s <= end for begin, end in gaps)


def _spread(values: list[float]) -> dict[str, float] | None:
    return {"median": statistics.median(values), "longest": max(values)} if values else None


def _percentile(ordered: list[float], fraction: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else None


def _tickets(family: str) -> list[Bundle]:
    return [bundles.read(STARTER / f"{family}-{tier}.ticket") for tier in ("accurate", "balanced", "fast")]


def table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row under COLUMNS."""
    kinds, back = results["by_kind"], [one for one in results["recovery_s"].values() if one]
    recovery = " / ".join(f"{max(one[which] for one in back):.1f}" for which in ("median", "longest")) if back else "-"
    latency = f"{results['p50_ms']:.1f} / {results['p99_ms']:.1f}" if results["p50_ms"] else "-"
    numbers = (
        results["sent"], kinds.get("answered", 0), kinds.get("refused", 0), kinds.get("deadline", 0),
        results["reset_by_dying_gateway"], results["late_with_a_gateway"], results["lost"], results["wrong"],
    )  # fmt: skip
    kills = ", ".join(str(results["kills"][kind]) for kind in KINDS)
    return [(f"{sum(results['kills'].values())} ({kills})", *(f"{number:,}" for number in numbers), latency, recovery)]


@click.command(epilog="Example: python -m bench.chaos --seconds 60")
@click.option("--seconds", default=SECONDS, show_default=True, type=click.FloatRange(min=1.0), help="How long to kill.")
@click.option("--rate", default=RATE_PER_S, show_default=True, type=click.FloatRange(min=1.0), help="Requests/s.")
@click.option("--seed", default=1, show_default=True, help="Which processes are killed, in which order.")
def main(seconds: float, rate: float, seed: int) -> None:
    """Kill a process every second under load; exits 1 where a request was lost or an answer was wrong."""
    results = measure_chaos(lambda text: click.echo(text, err=True), seconds=seconds, rate_per_s=rate, seed=seed)
    click.echo(json.dumps(results, indent=1))
    if results["lost"] or results["wrong"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
