"""A running `tombola up` under test: started as a user would, observed from outside.

Owns the process, what it printed, and a load that keeps asking. It holds no assertions.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil

from routing.store import Store
from routing.table import Domain, Table
from tests.tiny import tiny_bundle

ROOT = Path(__file__).resolve().parent.parent.parent
WAIT_S = 60.0
"""How long a test waits for an event. Long, because the machine may be busy; nothing is asserted about it."""
PATIENT_MS = 10_000.0
"""A deadline that a busy machine can keep."""


def make_starter(folder: Path) -> Path:
    """A starter folder with one family, `home`, of two tiny tickets."""
    folder.mkdir(parents=True)
    (folder / "a.ticket").write_bytes(tiny_bundle("accurate", quality=0.97))
    (folder / "f.ticket").write_bytes(tiny_bundle("fast", quality=0.95, scale=0.5))
    entries = [{"file": "a.ticket", "tier": "accurate"}, {"file": "f.ticket", "tier": "fast"}]
    (folder / "family.json").write_text(json.dumps({"families": {"home": entries}}))
    return folder


@dataclass
class Reply:
    """What one request of a load got."""

    status: int | None
    """None: no reply at all."""
    body: dict[str, Any]
    took_s: float

    @property
    def is_settled(self) -> bool:
        """Whether it was answered: with a result, or with an error that names its code."""
        return self.status == 200 or (self.status is not None and "code" in self.body and "error" in self.body)


@dataclass
class Load:
    """The replies of a load so far, and a way to wait for more."""

    replies: list[Reply] = field(default_factory=list)

    async def more(self, count: int, matching: Callable[[Reply], bool] = lambda reply: True) -> None:
        """Wait for ``count`` further replies that match."""
        start = len(self.replies)
        await until(lambda: sum(map(matching, self.replies[start:])) >= count)

    @property
    def failed(self) -> list[Reply]:
        """The replies other than 200."""
        return [reply for reply in self.replies if reply.status != 200]


class Installation:
    """One `tombola up` with its own state directory."""

    def __init__(self, folder: Path, *options: str, environ: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.state = folder / "state"
        self.log = folder / "log"
        self.output = ""
        self._log_file = self.log.open("ab")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TOMBOLA_")}
        self.process = subprocess.Popen(
            command(self.state, *options), cwd=ROOT, env={**clean, "PYTHONUNBUFFERED": "1", **(environ or {})},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log_file, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._spoken = threading.Event()
        self._reader.start()

    def wait_until_up(self) -> "Installation":
        """Wait for the page that `up` prints when everything answers."""
        if not self._spoken.wait(WAIT_S) or self.process.poll() is not None:
            raise AssertionError(f"it did not come up:\n{self.output}\n{self.log.read_text()}")
        return self

    @property
    def api(self) -> str:
        return self._said(r"API +(\S+)")

    @property
    def ops(self) -> str:
        return self._said(r"metrics +(\S+)/metrics")

    @property
    def redis_url(self) -> str:
        return self._said(r"Redis +(\S+)")

    @property
    def curl(self) -> str:
        return self._said(r"(?m)^ +(curl .*)$")

    @property
    def key(self) -> str:
        return (self.state / "demo.key").read_text().strip()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def children(self) -> list[psutil.Process]:
        """Every process that `up` has started and that is alive."""
        with suppress(psutil.NoSuchProcess):
            return list(psutil.Process(self.process.pid).children(recursive=True))
        return []

    def pid(self, part: str) -> int | None:
        """The process of ``worker-0``, ``gateway-1``, ``redis``; None while there is none."""
        for child in self.children():
            with suppress(psutil.Error):
                words = child.cmdline()
                is_redis = part == "redis" and bool(words) and "redis-server" in words[0]
                if is_redis or (part in words and child.status() != psutil.STATUS_ZOMBIE):
                    return int(child.pid)
        return None

    async def kill(self, part: str) -> int:
        """Kill -9 a part; returns the pid it had."""
        pid = self.pid(part)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    async def is_replaced(self, part: str, old: int) -> None:
        """Wait for a new process in the place of the one that had pid ``old``."""
        await until(lambda: self.pid(part) not in (None, old))

    async def ask(self, client: httpx.AsyncClient, text: str = "rain sun", tier: str = "accurate") -> Reply:
        """One classification, with its outcome; a lost connection is an outcome too."""
        began = time.monotonic()
        try:
            response = await client.post("/v1/classify", json={"domain": "home", "text": text, "tier": tier})
            return Reply(response.status_code, response.json(), time.monotonic() - began)
        except (httpx.HTTPError, ValueError) as error:
            return Reply(None, {"exception": repr(error)}, time.monotonic() - began)

    def client(self) -> httpx.AsyncClient:
        """A client of the demo tenant."""
        return httpx.AsyncClient(base_url=self.api, headers=self.headers, timeout=WAIT_S)

    @asynccontextmanager
    async def load(self, concurrency: int = 4, **ask: str) -> AsyncIterator[Load]:
        """Keep asking while the block runs; leaving it waits for the last replies."""
        load, stop = Load(), asyncio.Event()

        async def keep_asking(client: httpx.AsyncClient) -> None:
            while not stop.is_set():
                load.replies.append(await self.ask(client, **ask))
                await asyncio.sleep(0.002)

        async with self.client() as client, asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(keep_asking(client))
            try:
                yield load
            finally:
                stop.set()

    async def publish(self, edit: Callable[[Table], Table]) -> Table:
        """Publish an edited table, as another process would."""
        store = Store.connect(self.redis_url)
        try:
            table = await store.load_table()
            assert table is not None
            return await store.publish(edit(table), expect_version=table.version)
        finally:
            await store.close()

    async def shows(self, *wanted: str) -> None:
        """Wait until the page of metrics holds all of ``wanted``."""
        async with asyncio.timeout(WAIT_S), httpx.AsyncClient(timeout=WAIT_S) as client:
            while True:
                page = (await client.get(f"{self.ops}/metrics")).text
                if all(text in page for text in wanted):
                    return
                await asyncio.sleep(0.02)

    async def uses(self, table: Table) -> None:
        """Wait until the first gateway works with a table."""
        await self.shows(f'tombola_table_version{{process="gateway-0"}} {float(table.version)}')

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        """Make sure that nothing is left, however the test ended."""
        children = self.children()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        for child in children:
            with suppress(psutil.Error):
                child.kill()
        self._reader.join(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log_file.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if line.startswith("Stop it"):
                self._spoken.set()
        self._spoken.set()

    def _said(self, pattern: str) -> str:
        found = re.search(pattern, self.output)
        assert found, f"{pattern} is not in:\n{self.output}"
        return found[1]


Start = Callable[..., Installation]
"""What the fixture ``start`` gives: options of `tombola up` in, a starting installation out."""


def command(state: Path, *options: str) -> list[str]:
    """The command line of `tombola up` on free ports."""
    return [sys.executable, "-m", "server", "up", "--state", str(state), "--port", "0", "--ops-port", "0", *options]


def with_tiers(table: Table, **changes: float) -> Table:
    """The same table with ``deadline_ms`` or ``quality_floor`` of every tier changed."""
    replace = msgspec.structs.replace

    def change(domain: Domain) -> Domain:
        return replace(domain, tiers={name: replace(tier, **changes) for name, tier in domain.tiers.items()})

    tenants = {
        name: replace(tenant, domains={name: change(domain) for name, domain in tenant.domains.items()})
        for name, tenant in table.tenants.items()
    }
    return replace(table, tenants=tenants)


def patient(table: Table) -> Table:
    """The same table with deadlines that a busy machine can keep."""
    return with_tiers(table, deadline_ms=PATIENT_MS)


async def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` holds; it looks at other processes, so it is asked again and again."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
