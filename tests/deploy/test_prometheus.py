"""A real Prometheus with the configuration of deploy/ beside a real installation under real traffic."""

import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.deploy.prometheus import Prometheus, hasten, shorten
from tests.deploy.promql import DASHBOARDS, read_json, recorded
from tests.e2e.installation import Installation, Start, patient, until, with_tiers

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.redis,
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is not here (Debian: apt install prometheus)"
    ),
]
QUIET = {
    "Alerts firing", "Cascades and trials", "Drift against the baseline", "Dropped unrun", "Refused by limits",
    "Refused by limits, by tenant", "Uploads and trials", "Uploads within an hour, by how they ended",
    "Why a lesser ticket answered",
}  # fmt: skip
"""Panels that have nothing to show where there are no limits, uploads, trials, drift or trouble."""

Watch = Callable[[Installation], AbstractAsyncContextManager[Prometheus]]


@pytest.fixture
def watch(folder: Path) -> Watch:
    """Start a Prometheus that looks at an installation, with windows of seconds."""

    @asynccontextmanager
    async def watching(up: Installation) -> AsyncIterator[Prometheus]:
        prometheus = Prometheus(hasten(folder / "prometheus", up.ops.removeprefix("http://")), folder / "data")
        try:
            await prometheus.is_ready()
            yield prometheus
        finally:
            prometheus.close()

    return watching


async def test_rules_hold_what_real_traffic_does_and_dashboards_show_it(start: Start, watch: Watch) -> None:
    up = start("--workers", "2").wait_until_up()
    await up.uses(await up.publish(patient))
    async with up.load(concurrency=4), watch(up) as prometheus:
        for name in sorted(recorded()):
            found = await prometheus.comes_true(lambda samples: any(s["value"][1] != "NaN" for s in samples), name)
            assert all("process" not in sample["metric"] for sample in found) or name.startswith("worker:")
        rules = await prometheus.rules()
        assert {rule["name"]: rule["lastError"] for rule in rules if rule["health"] != "ok"} == {}
        (attained,) = await prometheus.ask("tier:tombola_sla:attainment1h")
        assert attained["metric"]["tenant"] == "demo"
        assert attained["metric"]["installation"] == "test"
        assert float(attained["value"][1]) == 1.0
        assert await prometheus.ask("up{job='tombola'} == 1")
        assert {name for name, labels in (await prometheus.firing()).items() if labels["severity"] == "page"} == set()
        shown = [(title, [await prometheus.ask(expr) for expr in asked]) for title, asked in panels()]
        assert {title for title, found in shown if not any(found)} <= QUIET


def panels() -> list[tuple[str, list[str]]]:
    """Every panel's title and expressions, with Grafana's choices made and windows of seconds."""
    found = []
    for path in DASHBOARDS:
        for panel in (panel for panel in read_json(path)["panels"] if panel["type"] != "row"):
            asked = [target["expr"].replace("$__rate_interval", "5s") for target in panel["targets"]]
            found.append((panel["title"], [shorten(re.sub(r'"\$\w+"', '".*"', expr)) for expr in asked]))
    return found


async def test_a_promise_that_cannot_be_kept_wakes_somebody(start: Start, watch: Watch) -> None:
    up = start("--workers", "1").wait_until_up()
    await up.uses(await up.publish(patient))
    async with up.load(concurrency=2), watch(up) as prometheus:
        await prometheus.comes_true(bool, "tier:tombola_sla:burn1h == 0")
        await up.publish(lambda table: with_tiers(table, deadline_ms=0.01))
        labels = await prometheus.fires("TombolaSlaBurnFast")
        assert (labels["tenant"], labels["domain"], labels["tier"]) == ("demo", "home", "accurate")
        assert labels["severity"] == "page"


async def test_a_worker_that_is_stopped_is_seen(start: Start, watch: Watch) -> None:
    up = start("--workers", "2", "--probe-patience-s", "0").wait_until_up()
    async with watch(up) as prometheus:
        await prometheus.comes_true(bool, "count_over_time((tombola_workers == 2)[10s:1s]) >= 8")
        stopped = psutil.Process(up.pid("worker-0"))
        stopped.suspend()
        try:
            assert (await prometheus.fires("TombolaWorkerMissing"))["process"] == "gateway-0"
        finally:
            stopped.resume()


async def test_nobody_answering_is_seen(start: Start, watch: Watch) -> None:
    up = start("--workers", "1").wait_until_up()
    async with watch(up) as prometheus:
        await prometheus.comes_true(bool, "up{job='tombola'} == 1")
        up.stop()
        await until(lambda: up.process.poll() is not None)
        await prometheus.fires("TombolaDown")
