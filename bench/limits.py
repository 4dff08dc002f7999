"""How exactly a rate holds over three gateways, and what admission costs one of them.

Starts `tombola up` with three gateways, gives the demo tenant a rate, and asks for several times as much over HTTP for
some seconds at each of a few rates. Reported: what was admitted beside what an ideal single bucket of the same rate and
burst would have admitted, and the bound of docs/limits.md. The cost of admission is measured in this process.

    python -m bench.limits [--seconds 5]
"""

import argparse
import asyncio
import json
import tempfile
import time
import timeit
from pathlib import Path
from typing import Any

import httpx
import msgspec

from routing.account import Account, Limits
from routing.change import Change
from routing.event import Event
from routing.limits import HORIZON_S, Grant, Now, burst_of, credit_of
from routing.store import Store
from server.errors import RateLimited
from server.limits import Limiter
from server.meter import Meter
from tests.e2e.installation import Installation, make_starter, patient

GATEWAYS = 3
RATES = (20.0, 100.0, 300.0)
CALLERS = 16
_RUNS = 200_000


async def measure_rates(seconds: float) -> list[dict[str, Any]]:
    """Per rate: admitted, ideal, bound, and the error of the rate in percent."""
    with tempfile.TemporaryDirectory(prefix="tombola-bench-") as name:
        starter = make_starter(Path(name) / "starter")
        up = Installation(
            Path(name) / "one", "--starter", str(starter), "--gateways", str(GATEWAYS), "--workers", "1"
        )  # fmt: skip
        try:
            up.wait_until_up()
            await up.uses(await up.publish(patient))
            return [await _measure(up, rate, seconds) for rate in RATES]
        finally:
            up.close()


async def _measure(up: Installation, rate: float, seconds: float) -> dict[str, Any]:
    limits = Limits(rate_per_s=rate)
    store = Store.connect(up.redis_url)
    standing = (await store.load_accounts()).get("demo", Account(name="demo"))
    account = msgspec.structs.replace(standing, limits=limits)
    event = Event(action="tenant.limits", actor="shell/bench", tenant="demo", subject="demo")
    await store.commit(Change(event=event, accounts=(account,)))
    await store.close()
    await asyncio.sleep(2.0)  # every gateway holds to it
    counts: dict[int, int] = {}
    began = time.monotonic()
    ends = began + seconds

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=up.api, headers=up.headers, timeout=30.0) as client:
            while time.monotonic() < ends:
                status = (await client.post("/v1/classify", json={"domain": "home", "text": "rain sun"})).status_code
                counts[status] = counts.get(status, 0) + 1

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(ask())
    took_s = time.monotonic() - began
    ideal = burst_of(limits) + rate * took_s
    bound = ideal + rate * HORIZON_S + GATEWAYS * credit_of(limits) + 1
    return {
        "rate_per_s": rate, "asked_per_s": round(sum(counts.values()) / took_s), "seconds": round(took_s, 2),
        "statuses": counts, "ideal": round(ideal), "bound": round(bound),
        "error_percent": round(100 * (counts.get(200, 0) - ideal) / ideal, 2),
    }  # fmt: skip


def measure_cost() -> dict[str, float]:
    """Microseconds that one request's admission takes, by what its tenant has."""
    limits = Limits(rate_per_s=1e6, burst=1_000_000, concurrency=1000, daily_requests=1 << 40)
    accounts = {
        "much": Account(name="much", limits=limits),
        "none": Account(name="none", limits=Limits(rate_per_s=1.0)),
    }
    limiter = Limiter(None, "bench", lambda: accounts)
    now = time.perf_counter()
    for tenant, account in accounts.items():
        meter = Meter(tenant, account.limits, now)
        amount = 1 << 40 if tenant == "much" else 0
        answer = Grant(
            rate=amount, rate_left=float(amount), places=1000, places_aim=1000, places_free=0, day=amount,
            day_left=amount,
        )  # fmt: skip
        meter.share.take(now)
        report = meter.share.report(tenant, now)
        meter.share.settle(report, answer, Now(gateways=GATEWAYS, day=1, day_left_s=3600.0), now)
        limiter._meters[tenant] = meter

    def one(tenant: str) -> None:
        permit = limiter.admit(tenant, now)
        assert permit is not None
        permit.headers()
        permit.release()

    def refused() -> None:
        try:
            limiter.admit("none", now)
        except RateLimited:
            return

    cases = {"tenant without limits": lambda: one("other"), "all three limits": lambda: one("much"), "refused": refused}
    return {
        name: round(min(timeit.repeat(case, number=_RUNS, repeat=5)) / _RUNS * 1e6, 2) for name, case in cases.items()
    }


def main() -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    rates = asyncio.run(measure_rates(options.seconds))
    print(json.dumps({"rates": rates, "cost_us": measure_cost()}, indent=2))


if __name__ == "__main__":
    main()
