"""A Tombola of a benchmark's own: tickets, a table, `tombola up` as anybody starts it, and loads on it.

Owns the processes and what they cost; every figure of latency comes from `tombola load`. Ports are
whatever is free. The state lives in a folder that goes away with the benchmark.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from loadtest.client import Client, Endpoint
from loadtest.run import run_on_loop
from loadtest.send import read_reply
from loadtest.workload import Target, Workload
from routing.document import dump_json
from routing.keys import key_hash, new_key
from routing.table import Domain, FamilyTicket, Policy, Table, Tenant, Tier
from tickets.bundle import Bundle, pack, ticket_id
from tickets.files import write_whole

READY_S = 60.0
DOMAIN = "banking"
FOREVER_MS = 600_000.0
"""A deadline that never passes: for warming up and for finding out what a worker can do."""


@dataclass(frozen=True, slots=True)
class Customer:
    """A tenant of a benchmark's table: asks one domain under one tier."""

    tickets: Sequence[Bundle]
    deadline_ms: float
    policy: Policy = "best"
    domain: Mapping[str, Any] | None = None
    """Further fields of its `Domain`, such as a cascade."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A running installation. ``keys`` by customer."""

    url: str
    keys: Mapping[str, str]
    up: psutil.Process
    metrics_url: str = ""

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds that each kind of process has used so far."""
        used = {"gateway": 0.0, "worker": 0.0}
        for child in self.up.children():
            kind = next((kind for kind in used if kind in child.cmdline()), None)
            if kind:
                used[kind] += sum(child.cpu_times()[:2])
        return used


@contextmanager
def serving(
    folder: Path,
    customers: Mapping[str, Customer],
    *,
    qualities: Mapping[str, float] | None = None,
    workers: int = 1,
    gateways: int = 1,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Serving]:
    """`tombola up` with a table of ``customers``; every one of them has been answered once.

    ``qualities`` replaces what tickets say of themselves, by ticket id.
    """
    keys = {name: new_key() for name in customers}
    table = _table(customers, keys, qualities or {})
    starter = _starter(folder / "starter", customers)
    command = [
        sys.executable, "-m", "server", "up", "--gateways", str(gateways), "--workers", str(workers), "--port", "0",
        "--ops-port", "0", "--state", str(folder / "state"), "--starter", str(starter),
    ]  # fmt: skip
    with (
        open(folder / "up.log", "ab") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(environ)) as process,
    ):
        try:
            said = _banner(process, folder / "up.log")
            _publish(folder / "table.json", table, said["Redis"])
            for name in customers:
                _wait_for_answer(said["API"], keys[name])
            yield Serving(said["API"], keys, psutil.Process(process.pid), said["metrics"])
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for Tombola's commands: theirs would refuse a variable of the benchmarks."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TOMBOLA_")} | dict(more or {})


def start_load(serving: Serving, customer: str, out: Path, *options: str, as_tenant: str = "") -> subprocess.Popen[str]:
    """Begin `tombola load` as a process of its own; `report_of` waits for it. ``as_tenant``: whose key it uses."""
    command = [
        sys.executable, "-m", "loadtest", "run", "--url", serving.url, "--domain", DOMAIN,
        "--tenant", f"{customer}={serving.keys[as_tenant or customer]}",
        "--json", str(out), "--raw", str(out.with_suffix(".jsonl")), *options,
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())


def report_of(load: subprocess.Popen[str], out: Path) -> dict[str, Any]:
    """The report of a load. Raises RuntimeError with what it said where there is none."""
    said, _ = load.communicate(timeout=300)
    if not out.is_file():
        raise RuntimeError(f"the load test gave no report:\n{said}")
    document: dict[str, Any] = json.loads(out.read_text())
    (step,) = document["steps"]
    return dict(step)


def saturate(serving: Serving, customer: str, *, connections: int = 64, seconds: float = 5.0) -> float:
    """Answers/s of a closed loop: so many callers, each asking again as soon as it has its answer.

    Sent with a deadline that never passes, by the client that sends the open loads, from this process.
    """
    target = Target(tenant=customer, key=serving.keys[customer], domain=DOMAIN)
    workload = Workload([target], deadline_ms=FOREVER_MS)
    return run_on_loop(lambda: _closed_loop(serving.url, workload, connections, seconds))


async def _closed_loop(url: str, workload: Workload, connections: int, seconds: float) -> float:
    client = Client(Endpoint.parse(url), max_connections=connections, timeout_s=30.0)
    begin = time.perf_counter() + 1.0  # the first second fills queues and is not counted
    end = begin + seconds
    done = 0

    async def caller(number: int) -> None:
        nonlocal done
        requests = workload.requests(f"closed/{number}")
        while time.perf_counter() < end:
            reply = await client.request(next(requests).payload)
            code = read_reply(reply)[0]
            if code:
                raise RuntimeError(f"a closed loop was answered {reply.status} {code}")
            done += begin <= reply.done_s <= end

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(connections):
                group.create_task(caller(number))
    finally:
        await client.close()
    return done / seconds


def _table(customers: Mapping[str, Customer], keys: Mapping[str, str], qualities: Mapping[str, float]) -> Table:
    families, tenants = {}, {}
    for name, customer in customers.items():
        families[name] = [
            FamilyTicket(
                id=bundle.id, tier=bundle.manifest.tier or "only",
                quality=qualities.get(bundle.id, bundle.manifest.evidence.quality),
                service_ms=bundle.manifest.evidence.service_ms or 1.0,
            )
            for bundle in customer.tickets
        ]  # fmt: skip
        tier = customer.tickets[0].manifest.tier or "only"
        domain = Domain(
            family=name, default_tier=tier, tiers={tier: Tier(deadline_ms=customer.deadline_ms)},
            policy=customer.policy, **(customer.domain or {}),
        )  # fmt: skip
        tenants[name] = Tenant(key_hashes=[key_hash(keys[name])], domains={DOMAIN: domain})
    return Table(families=families, tenants=tenants)


def _starter(folder: Path, customers: Mapping[str, Customer]) -> Path:
    """A folder of tickets as `tombola up --starter` takes it. Its own table is replaced at once."""
    folder.mkdir(parents=True, exist_ok=True)
    bundles = {bundle.id: bundle for customer in customers.values() for bundle in customer.tickets}
    entries = []
    for bundle in bundles.values():
        data = pack(bundle.manifest, {name: bytes(member) for name, member in bundle.members.items()})
        assert ticket_id(data) == bundle.id
        write_whole(folder / f"{bundle.id}.ticket", data)
        entries.append({"file": f"{bundle.id}.ticket", "tier": bundle.manifest.tier or "only"})
    (folder / "family.json").write_text(json.dumps({"families": {DOMAIN: entries}}))
    return folder


def _banner(process: subprocess.Popen[str], log: Path) -> dict[str, str]:
    said: dict[str, str] = {}
    assert process.stdout is not None
    for line in process.stdout:
        found = re.match(r"\s+(API|metrics|Redis)\s+(\S+)", line)
        if found:
            said[found[1]] = found[2]
        if line.startswith("Stop it with"):
            return said
    raise RuntimeError(f"tombola up ended:\n{log.read_text()}")


def _publish(file: Path, table: Table, redis_url: str) -> None:
    file.write_bytes(dump_json(table))
    command = [sys.executable, "-m", "server", "route", "publish", str(file), "--yes", "--redis-url", redis_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        raise RuntimeError(f"the table was not published:\n{done.stdout}{done.stderr}")


def _wait_for_answer(url: str, key: str) -> None:
    """Ask until the new table is in use and the ticket is loaded."""
    body = msgspec.json.encode({"domain": DOMAIN, "text": "hello", "deadline_ms": FOREVER_MS})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    give_up = time.monotonic() + READY_S
    while True:
        request = urllib.request.Request(f"{url}/v1/classify", body, headers)  # noqa: S310 - our own http address
        try:
            with urllib.request.urlopen(request, timeout=READY_S):  # noqa: S310 - as above
                return
        except urllib.error.HTTPError as error:
            if time.monotonic() > give_up:
                raise RuntimeError(f"no answer before the benchmark: {error.read().decode()}") from error
        time.sleep(0.1)
