"""How long it takes to register a starter ticket, and what that does to everybody else's latency meanwhile.

Over real HTTP into a `tombola up` of its own: upload, every step of the gate in its process, commit; then the ticket is
retired, so that the next registration is as new. Then a steady load is measured alone, beside registrations one after
the other, and beside uploads that are refused at once (the gateway's own part: bytes to disk, hashed).

    python -m bench.register [--rounds 25] [--seconds 12] [--json FILE]
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from bench.family import STARTER
from bench.up import Customer, Serving, report_of, serving, start_load
from tickets import bundle as bundles

TENANT = "steady"
DEADLINE_MS = 250.0
RATE_PER_S = 200.0
ROUNDS = 25
SECONDS = 12.0
WARMUP_S = 3.0
JUNK_BYTES = 32 << 20
UPLOAD_PAUSE_S = 1.0
TICKETS = ("banking-fast", "banking-accurate")


def measure_register(
    announce: Callable[[str], None], *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[str, Any]:
    """Milliseconds of a registration by ticket, and the load's latency by what goes on beside it."""
    served = bundles.read(STARTER / "banking-fast.ticket")
    customers = {TENANT: Customer([served], DEADLINE_MS)}
    with tempfile.TemporaryDirectory() as name, serving(Path(name), customers) as tombola:
        key = (Path(name) / "state" / "operator.key").read_text().strip()
        out: dict[str, Any] = {"tickets": {}, "beside": {}}
        for ticket in TICKETS:
            announce(f"register: {ticket}, {rounds} times")
            out["tickets"][ticket] = asyncio.run(_time(tombola.url, key, ticket, rounds))
        for case, work in (("alone", None), ("registrations", _register_on), ("refused uploads", _upload_on)):
            announce(f"register: a load of {RATE_PER_S:g}/s beside {case}")
            out["beside"][case] = asyncio.run(_beside(tombola, Path(name), key, case, work, seconds))
        return out


async def _time(url: str, key: str, ticket: str, rounds: int) -> dict[str, Any]:
    data = (STARTER / f"{ticket}.ticket").read_bytes()
    took: list[float] = []
    steps: dict[str, list[float]] = {}
    async with _client(url, key) as client:
        for _ in range(rounds):
            began = time.perf_counter()
            report = await _register(client, data)
            took.append((time.perf_counter() - began) * 1000)
            for step in report["steps"]:
                steps.setdefault(step["name"], []).append(step["ms"])
    took.sort()
    return {
        "bytes": len(data), "rounds": rounds, "p50_ms": round(statistics.median(took), 1), "max_ms": round(took[-1], 1),
        "steps_p50_ms": {name: round(statistics.median(found), 2) for name, found in steps.items()},
    }  # fmt: skip


async def _register(client: httpx.AsyncClient, data: bytes) -> dict[str, Any]:
    """Register and retire; the report."""
    done = await client.post(f"/v1/tenants/{TENANT}/tickets?domain=trial", content=data)
    if done.status_code != 201:
        raise RuntimeError(f"it was not registered: {done.status_code} {done.text}")
    retired = await client.post(
        f"/v1/tenants/{TENANT}/tickets/{done.json()['ticket']}/retire", json={"is_last": True, "domain": "trial"}
    )
    retired.raise_for_status()
    report: dict[str, Any] = done.json()["report"]
    return report


async def _beside(
    tombola: Serving, folder: Path, key: str, case: str, work: Callable[[httpx.AsyncClient], Any] | None, seconds: float
) -> dict[str, Any]:
    out = folder / f"{case.replace(' ', '-')}.json"
    load = start_load(
        tombola, TENANT, out, "--rate", f"{RATE_PER_S:g}", "--duration", f"{seconds:g}", "--warmup", f"{WARMUP_S:g}",
        "--timeout", "5", "--max-lateness-ms", "20",
    )  # fmt: skip
    rounds = 0
    async with _client(tombola.url, key) as client:
        while work is not None and load.poll() is None:
            await work(client)
            rounds += 1
    total = (await asyncio.to_thread(report_of, load, out))["total"]
    latency = total["from_intended"]
    return {
        "requests": total["requests"], "good": total["good"], "rounds": rounds, "p50_ms": latency["p50_ms"],
        "p99_ms": latency["p99_ms"],
    }  # fmt: skip


async def _register_on(client: httpx.AsyncClient) -> None:
    await _register(client, (STARTER / "banking-fast.ticket").read_bytes())


async def _upload_on(client: httpx.AsyncClient) -> None:
    done = await client.post(f"/v1/tenants/{TENANT}/tickets", content=bytes(JUNK_BYTES))
    assert done.status_code == 422, done.text
    await asyncio.sleep(UPLOAD_PAUSE_S)  # the sender's own work would be measured else: it shares these cores


def _client(url: str, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120.0)


def main() -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = json.dumps(measure_register(print, rounds=options.rounds, seconds=options.seconds), indent=2)
    print(found)
    if options.json is not None:
        options.json.write_text(found)


if __name__ == "__main__":
    main()
