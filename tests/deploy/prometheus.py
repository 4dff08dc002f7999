"""A real Prometheus beside a real installation, with the configuration of deploy/ and its days made seconds.

Owns the process and its questions and answers over HTTP. It holds no assertions but that it lives.
"""

import asyncio
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.promql import PROMETHEUS

WAIT_S = 40.0
"""How long a test waits for something to be seen. Long, because the machine may be busy."""
SECONDS = {"5m": "5s", "15m": "8s", "30m": "8s", "1h": "10s", "6h": "12s", "1d": "15s", "3d": "20s"}
"""What windows become. In between their order stays."""


def shorten(text: str) -> str:
    """The same expressions with windows of seconds."""
    return re.sub(r"(\[|offset )(\w+)\b", lambda found: found[1] + SECONDS.get(found[2], found[2]), text)


def hasten(folder: Path, target: str) -> Path:
    """A copy of deploy/prometheus in ``folder`` that looks at ``target`` every second; returns its configuration."""
    shutil.copytree(PROMETHEUS, folder)
    for path in (folder / "prometheus.yml", *(folder / "rules").glob("*.yml")):
        text = re.sub(
            r"(\[|offset )(\w+)\b", lambda found: found[1] + SECONDS.get(found[2], found[2]), path.read_text()
        )
        text = re.sub(
            r"(?m)^(\s*(?:for|(?:scrape_|evaluation_)?interval|scrape_timeout): )\w+$",
            r"\g<1>1s",
            shorten(path.read_text()),
        )
        path.write_text(text)
    (folder / "targets.yml").write_text(json.dumps([{"targets": [target], "labels": {"installation": "test"}}]))
    return folder / "prometheus.yml"


class Prometheus:
    """One that runs until `close`."""

    def __init__(self, config: Path, data: Path) -> None:
        self._log = data.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}",
                 "--web.listen-address=127.0.0.1:0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.url = ""

    async def is_ready(self) -> None:
        """Wait until it answers; its address is known from then on."""
        async with asyncio.timeout(WAIT_S):
            while not self.url:
                assert self._process.poll() is None, self._log.read_text()
                if found := re.search(r"Listening on\" .*?address=([\d.:]+)", self._log.read_text()):
                    self.url = f"http://{found[1]}"
                await asyncio.sleep(0.02)
            while await self._get("/-/ready") is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def ask(self, expr: str) -> list[dict[str, Any]]:
        """The samples that an expression has now."""
        answer = await self._get("/api/v1/query", query=expr)
        assert answer is not None
        body = answer.json()
        assert body["status"] == "success", f"{expr}: {body}"
        found: list[dict[str, Any]] = body["data"]["result"]
        return found

    async def rules(self) -> list[dict[str, Any]]:
        """All rules with their health."""
        answer = await self._get("/api/v1/rules")
        assert answer is not None
        return [rule for group in answer.json()["data"]["groups"] for rule in group["rules"]]

    async def firing(self) -> dict[str, dict[str, str]]:
        """The labels of what fires now, by the alert's name."""
        answer = await self._get("/api/v1/alerts")
        assert answer is not None
        return {
            a["labels"]["alertname"]: a["labels"] for a in answer.json()["data"]["alerts"] if a["state"] == "firing"
        }

    async def fires(self, name: str) -> dict[str, str]:
        """Wait until an alert fires; returns its labels."""
        async with asyncio.timeout(WAIT_S):
            while name not in (found := await self.firing()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return found[name]

    async def comes_true(self, condition: Callable[[list[dict[str, Any]]], bool], expr: str) -> list[dict[str, Any]]:
        """Wait until an expression's samples meet a condition; returns them."""
        async with asyncio.timeout(WAIT_S):
            while not condition(found := await self.ask(expr)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return found

    def close(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    async def _get(self, path: str, **query: str) -> httpx.Response | None:
        async with httpx.AsyncClient(base_url=self.url, timeout=WAIT_S) as client:
            try:
                return await client.get(path, params=query)
            except httpx.ConnectError:
                return None
