"""`tombola gateway` and `tombola worker` as real processes: the whole path, and the end on SIGTERM."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from server.listen import listen, url
from server.tensor import Tensor, to_array
from tests.server.fake_worker import tiny_outputs
from tests.server.gateways import ACME_KEY, publish, tiny_table, wait_until
from tests.server.peers import WorkerProcess
from tests.tiny import LABELS, tiny_bundle
from tickets.registry import Registry

pytestmark = [pytest.mark.redis, pytest.mark.e2e]
ACME = {"Authorization": f"Bearer {ACME_KEY}"}


@pytest.fixture
def processes(registry: Registry, run_dir: Path, redis_url: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A gateway's URL and process, with one real worker. They share Redis's default namespace."""
    table = tiny_table(registry.put(tiny_bundle("accurate", 0.95)), registry.put(tiny_bundle("fast", 0.9)))
    asyncio.run(publish(redis_url, "tombola", table))
    worker = WorkerProcess(registry.root, run_dir, redis_url)
    sockets = listen("127.0.0.1", 0, "--port"), listen("127.0.0.1", 0, "--ops-port")
    data, ops = (sock.fileno() for sock in sockets)
    arguments = ["--registry", str(registry.root), "--run-dir", str(run_dir), "--redis-url", redis_url, "--name", "g1"]
    gateway = subprocess.Popen(
        [sys.executable, "-m", "server", "gateway", *arguments, "--fd", str(data), "--ops-fd", str(ops)],
        pass_fds=(data, ops), cwd=Path(__file__).parents[2], stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        address = url(sockets[0])
        for sock in sockets:
            sock.close()  # the gateway has its own; ours would keep the port open after its end
        wait_until(lambda: is_ready(address))
        yield address, gateway
    finally:
        if gateway.poll() is None:
            gateway.kill()
        gateway.communicate(timeout=30)
        worker.stop()


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/v2/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_a_real_worker_answers_as_the_fake_one_does(processes: tuple[str, subprocess.Popen[bytes]]) -> None:
    """So what the other tests show with the fake worker holds for the real one."""
    address, _ = processes
    texts = ["rain sun", "song lamp lamp", "tax law", "unheard words", "Band"]
    ask = {"domain": "home", "text": texts, "top_k": 3}
    response = httpx.post(f"{address}/v1/classify", json=ask, headers=ACME, timeout=30)
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    expected = {tensor.name: tensor for tensor in tiny_outputs(texts)}
    for name in ("probability", "in_scope_score"):
        assert [r[name] for r in results] == pytest.approx(to_array(expected[name]).tolist(), abs=1e-5)
    assert [r["in_scope"] for r in results] == to_array(expected["in_scope"]).tolist()
    for result, row in zip(results, _rows(expected["probabilities"]), strict=True):
        assert {entry["label"]: entry["probability"] for entry in result["top"]} == pytest.approx(row, abs=1e-5)


def test_sigterm_ends_a_gateway_with_exit_code_0(processes: tuple[str, subprocess.Popen[bytes]]) -> None:
    address, gateway = processes
    assert httpx.get(f"{address}/v2/health/live").status_code == 200
    gateway.send_signal(signal.SIGTERM)
    _, log = gateway.communicate(timeout=60)
    assert gateway.returncode == 0
    assert b'"event":"ready"' in log
    assert b'"event":"stopped"' in log
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{address}/v2/health/live")


def _rows(tensor: Tensor) -> list[dict[str, float]]:
    return [dict(zip(LABELS, row, strict=True)) for row in np.asarray(to_array(tensor)).tolist()]
