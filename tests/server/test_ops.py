"""The operations side: metrics of all processes on one page, health, table cache, staleness, draining."""

import asyncio
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from routing.embedded import EmbeddedRedis
from server.ops import scrape
from tests.server.fake_worker import answer, hang
from tests.server.gateways import (
    ACME_KEY,
    GatewayThread,
    Installation,
    add_worker,
    installation,
    publish,
    tiny_table,
    wait_until,
)
from tests.tiny import tiny_bundle
from tickets.registry import Registry

pytestmark = pytest.mark.redis
ACME = {"Authorization": f"Bearer {ACME_KEY}"}
ASK = {"domain": "home", "text": "song"}


@pytest.fixture
def house(redis_url: str, namespace: str) -> Iterator[Installation]:
    with installation(redis_url, namespace) as house:
        yield house


def ask(house: Installation) -> httpx.Response:
    return httpx.post(f"{house.url}/v1/classify", json=ASK, headers=ACME, timeout=30)


def test_one_page_shows_every_process_and_what_it_did(house: Installation) -> None:
    assert ask(house).status_code == 200
    httpx.post(f"{house.url}/v1/classify", json=ASK)
    response = httpx.get(f"{house.ops_url}/metrics")
    page = response.text
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'tombola_up{process="gw"} 1' in page
    assert 'tombola_up{process="w1"} 1' in page
    assert 'tombola_requests_total{tenant="acme",domain="home",tier="fast",outcome="ok",process="gw"} 1' in page
    assert 'outcome="unauthorized",process="gw"} 1' in page
    assert 'tombola_workers{process="gw"} 1' in page
    assert 'tombola_table_stale_seconds{process="gw"} 0' in page


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_wrong_with_the_page(house: Installation) -> None:
    ask(house)
    page = httpx.get(f"{house.ops_url}/metrics").content
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_a_process_that_does_not_answer_shows_as_down(house: Installation) -> None:
    house.gateway.do(house.worker.die())
    assert 'tombola_up{process="w1"} 0' in httpx.get(f"{house.ops_url}/metrics").text


def test_tenants_cannot_read_metrics_on_the_data_port(house: Installation) -> None:
    assert httpx.get(f"{house.url}/metrics", headers=ACME).status_code == 404


def test_the_operations_port_tells_health_and_nothing_else(house: Installation) -> None:
    assert httpx.get(f"{house.ops_url}/v2/health/live").json() == {"live": True}
    assert httpx.get(f"{house.ops_url}/v2/health/ready").status_code == 200
    for path in ("/docs", "/openapi.json", "/v1/models"):
        assert httpx.get(f"{house.ops_url}{path}", headers=ACME).json()["code"] == "not_found"


def test_any_process_can_scrape_a_gateway_on_its_wire_address(house: Installation) -> None:
    assert asyncio.run(scrape(f"unix:{house.gateway.folder}/gw.sock"))
    assert asyncio.run(scrape("unix:/nonexistent/socket")) == b""


def test_stopping_finishes_what_is_in_flight_and_refuses_new_readiness_checks(house: Installation) -> None:
    """As on SIGTERM: the accepted request is answered, then the gateway ends."""
    house.worker.behave = hang
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(ask(house)))
    asking.start()
    wait_until(lambda: len(house.worker.asks) == 1)
    house.gateway.begin_stop()
    wait_until(lambda: httpx.get(f"{house.ops_url}/v2/health/ready").status_code == 503)

    async def reply() -> None:
        for connection in house.worker.connections:
            connection.send(answer(house.worker.asks[0]))

    house.gateway.do(reply())
    asking.join(30)
    assert [a.status_code for a in answers] == [200]


def test_a_gateway_serves_without_redis_and_starts_without_it(namespace: str) -> None:
    """Redis dies: requests go on. A gateway that starts while it is away serves what the last one knew."""
    with _Redis() as server, installation(server.url, namespace) as house:
        wait_until(lambda: (house.gateway.folder / "table.json.workers").exists())
        wait_until(lambda: (house.gateway.folder / "table.json").exists())
        server.stop()
        assert ask(house).status_code == 200
        wait_until(lambda: _stale_seconds(house) > 0)
        assert ask(house).status_code == 200
        again = GatewayThread(server.url, namespace, house.gateway.folder, name="gw2")
        again.start()
        try:
            again.wait_ready()
            answer = httpx.post(f"{again.url}/v1/classify", json=ASK, headers=ACME, timeout=30)
            assert answer.status_code == 200
        finally:
            again.stop()


def test_damaged_caches_are_not_used(namespace: str, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_bytes(b"{damaged")
    (tmp_path / "table.json.workers").write_bytes(b"\xff")
    gateway = GatewayThread("unix:///nonexistent/redis", namespace, tmp_path)
    gateway.start()
    try:
        response = httpx.post(f"{gateway.url}/v1/classify", json=ASK, headers=ACME, timeout=30)
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert httpx.get(f"{gateway.url}/v2/health/live").status_code == 200
    finally:
        gateway.stop()


def test_a_ticket_that_reaches_the_registry_late_is_found(redis_url: str, namespace: str, tmp_path: Path) -> None:
    other = Registry(tmp_path / "elsewhere")
    ids = [other.put(tiny_bundle("accurate", 0.95)), other.put(tiny_bundle("fast", 0.9))]
    asyncio.run(publish(redis_url, namespace, tiny_table(ids[0], ids[1])))
    gateway = GatewayThread(redis_url, namespace, tmp_path)
    gateway.start()
    try:
        worker = gateway.do(add_worker(gateway, "w1", []))
        try:
            gateway.wait_ready()
            early = httpx.get(f"{gateway.url}/v2/models/home/ready", headers=ACME)
            assert (early.status_code, early.json()["code"]) == (503, "not_ready")
            for id_ in ids:
                Registry(tmp_path / "registry").put_file(other.path(id_))
            wait_until(lambda: httpx.get(f"{gateway.url}/v2/models/home/ready", headers=ACME).status_code == 200)
        finally:
            gateway.do(worker.die())
    finally:
        gateway.stop()


class _Redis:
    """A Redis that the test may stop."""

    def __enter__(self) -> EmbeddedRedis:
        self._folder = tempfile.TemporaryDirectory(prefix="tombola-redis-")
        self._server = EmbeddedRedis(Path(self._folder.name))
        self._server.start(timeout_s=60)
        return self._server

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._folder.cleanup()


def _stale_seconds(house: Installation) -> float:
    for line in httpx.get(f"{house.ops_url}/metrics", timeout=30).text.splitlines():
        if line.startswith("tombola_table_stale_seconds"):
            return float(line.split()[-1])
    raise AssertionError("the metric is missing")
