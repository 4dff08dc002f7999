"""Registration in a real installation that is killed at every step of it: registered whole, or nothing is left.

The lines that a registration answers with say which step it has reached, so that they are what kills are timed by;
others come at moments drawn at random. Each registers a ticket of its own, and all are looked at in the end.
"""

import asyncio
import hashlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
import pytest

from routing.store import Store
from tests.e2e.installation import WAIT_S, Installation, Start, patient, until
from tests.tiny import tiny_bundle

pytestmark = pytest.mark.e2e

STEPS = ("size", "integrity", "signature", "manifest", "graph", "samples", "profile", "evidence", "policy", "commit")
ASK = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["rain sun"]}]}
RANDOM_KILLS = 4
"""Of each kind."""
SEED = 7


@dataclass
class Try:
    """One registration, and where it was killed."""

    name: str
    data: bytes
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ticket(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def is_answered(self) -> bool:
        """Whether the caller was told that it is registered."""
        return bool(self.lines) and "state" in self.lines[-1]


class Killer:
    """Registers tickets in an installation and kills its gateway meanwhile."""

    def __init__(self, installation: Installation) -> None:
        self.up = installation
        self.tries: list[Try] = []
        self.registry = installation.state / "registry"

    async def kill_at(self, step: str, delay_s: float = 0.0) -> None:
        """Kill the gateway as soon as the line of ``step`` has been seen (``upload``: in the midst of it), or a moment
        later."""
        one = self._new(f"line {step} + {delay_s * 1000:.1f} ms")
        old = self.up.pid("gateway-0")
        async for line in self._lines(one, stop_after=len(one.data) // 2 if step == "upload" else None):
            if line is None or line.get("name") == step:
                await asyncio.sleep(delay_s)
                await self.up.kill("gateway-0")
        await self._back(old)

    async def kill_after(self, delay_s: float) -> None:
        """Kill the gateway so long after the upload began."""
        one = self._new(f"after {delay_s * 1000:.0f} ms")
        old = self.up.pid("gateway-0")
        assert old is not None
        asyncio.get_running_loop().call_later(delay_s, os.kill, old, signal.SIGKILL)
        async for _ in self._lines(one):
            pass
        await self._back(old)

    async def kill_gate_at(self, step: str) -> None:
        """Kill the process of the gate: the gateway lives, and says what happened."""
        one = self._new(f"gate at {step}")
        async for line in self._lines(one):
            if line is not None and line.get("name") == step:
                for process in self.gates():
                    with suppress(psutil.NoSuchProcess):  # it has just ended by itself
                        process.kill()
        assert one.is_answered or one.lines[-1]["code"] in ("refused", "overloaded"), one.lines[-1]

    def gates(self) -> list[psutil.Process]:
        """The gate's processes below the installation, and those that have lost their gateway."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                parents = {parent.pid for parent in process.parents()}
                if "server.gate" in process.cmdline() and (self.up.process.pid in parents or process.ppid() == 1):
                    found.append(process)
        return found

    def _new(self, name: str) -> Try:
        number = len(self.tries)
        self.tries.append(Try(name, tiny_bundle(f"t{number}", 0.96, scale=0.5 + number / 64)))
        return self.tries[-1]

    async def _lines(self, one: Try, stop_after: int | None = None) -> AsyncIterator[dict[str, Any] | None]:
        """The lines of a registration as they come; None once ``stop_after`` bytes have been sent, and no more come."""
        sent = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield one.data[:stop_after]
            if stop_after is not None:
                sent.set()
                await asyncio.Event().wait()

        headers = self.headers | {"Accept": "application/x-ndjson"}
        async with httpx.AsyncClient(base_url=self.up.api, headers=headers, timeout=WAIT_S) as client:
            if stop_after is not None:
                posting = asyncio.create_task(client.post("/v1/tenants/demo/tickets?domain=home", content=body()))
                await sent.wait()
                await until(lambda: list((self.registry / ".incoming").glob("*.part")))
                yield None
                posting.cancel()
                with suppress(httpx.HTTPError, asyncio.CancelledError):
                    await posting
                return
            with suppress(httpx.HTTPError):
                async with client.stream("POST", "/v1/tenants/demo/tickets?domain=home", content=body()) as response:
                    async for line in response.aiter_lines():
                        one.lines.append(json.loads(line))
                        yield one.lines[-1]

    @property
    def headers(self) -> dict[str, str]:
        key = (self.up.state / "operator.key").read_text().strip()
        return {"Authorization": f"Bearer {key}"}

    async def _back(self, old: int | None) -> None:
        assert old is not None
        await self.up.is_replaced("gateway-0", old)
        async with httpx.AsyncClient(base_url=self.up.api, timeout=WAIT_S) as client, asyncio.timeout(WAIT_S):
            while True:
                with suppress(httpx.HTTPError):
                    if (await client.get("/v2/health/ready")).status_code == 200:
                        return
                await asyncio.sleep(0.02)


async def check_all(killer: Killer, client: httpx.AsyncClient) -> tuple[int, int]:
    """Every ticket is registered whole or not at all; how many of each."""
    incoming = killer.registry / ".incoming"
    await until(lambda: [path.name for path in incoming.iterdir() if path.name != ".lock"] == [])
    store = Store.connect(killer.up.redis_url)
    try:
        table = await store.load_table()
        assert table is not None
        family = table.families[table.tenants["demo"].domains["home"].family]
        named = {row.id: row for row in family}
        events = [e.subject for e in await store.events("demo", count=1000) if e.action == "ticket.register"]
        registered = 0
        for one in killer.tries:
            report = await store.load_report("demo", one.ticket)
            there = (killer.registry / f"{one.ticket}.ticket").exists()
            stands = (one.ticket in named, there, report is not None, events.count(one.ticket) == 1)
            assert len(set(stands)) == 1, (one.name, stands)
            if one.is_answered:
                assert all(stands), (one.name, stands)
            answer = await client.post(f"/v2/models/home/versions/{one.ticket}/infer", json=ASK)
            if all(stands):
                registered += 1
                assert answer.status_code == 200, (one.name, answer.text)
                assert answer.json()["parameters"]["ticket"] == one.ticket
            else:
                assert answer.json()["code"] == "unknown_version", (one.name, answer.text)
        marks = {path.name for path in (killer.registry / ".registered").iterdir()}
        assert marks == {one.ticket for one in killer.tries if one.ticket in named}
        return registered, len(killer.tries) - registered
    finally:
        await store.close()


@pytest.mark.timeout(240)
async def test_a_gateway_killed_at_any_step_leaves_a_ticket_whole_or_nothing(start: Start) -> None:
    up = start("--gateways", "1", "--workers", "1").wait_until_up()
    await up.uses(await up.publish(patient))
    killer, draw = Killer(up), random.Random(SEED)
    for step in ("upload", *STEPS):
        await killer.kill_at(step)
    for _ in range(RANDOM_KILLS):
        await killer.kill_after(draw.uniform(0.0, 0.4))
        await killer.kill_at("policy", draw.uniform(0.0, 0.01))  # in the midst of the commit
    for step in ("integrity", "graph", "profile"):
        await killer.kill_gate_at(step)
    async with up.client() as client:
        registered, gone = await check_all(killer, client)
    assert registered >= 1  # the one whose last step had been told
    assert gone >= 1  # and the one whose upload had not ended
    await until(lambda: not killer.gates())


async def test_registering_while_redis_is_away_is_refused_and_leaves_nothing(start: Start) -> None:
    up = start("--gateways", "1", "--workers", "1").wait_until_up()
    killer = Killer(up)
    data = tiny_bundle("late", 0.9, scale=0.7)
    redis = up.pid("redis")
    assert redis is not None
    os.kill(redis, signal.SIGSTOP)
    try:
        async with httpx.AsyncClient(base_url=up.api, headers=killer.headers, timeout=WAIT_S) as client:
            response = await client.post("/v1/tenants/demo/tickets?domain=home", content=data)
    finally:
        os.kill(redis, signal.SIGCONT)
    assert (response.status_code, response.json()["code"]) == (503, "control_plane_unavailable")
    async with httpx.AsyncClient(base_url=up.api, headers=killer.headers, timeout=WAIT_S) as client:
        response = await client.post("/v1/tenants/demo/tickets?domain=home", content=data)
    assert response.status_code == 201, response.text
    assert response.json()["ticket"] in [path.stem for path in killer.registry.glob("*.ticket")]
