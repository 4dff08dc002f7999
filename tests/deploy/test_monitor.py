"""`make monitor`: Prometheus on the user's own machine, with the rules of deploy/, or a word about how to get one."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.promql import DEPLOY, RULES, alerts, read_yaml, recorded

WAIT_S = 40.0
SCRIPT = DEPLOY / "monitor.sh"


def test_without_prometheus_it_says_how_to_install_it(tmp_path: Path) -> None:
    for tool in ("sh", "dirname"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    done = subprocess.run(
        [str(tmp_path / "sh"), str(SCRIPT)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "apt install prometheus" in done.stderr
    assert "docker compose -f deploy/compose.yaml" in done.stderr


def test_it_looks_where_tombola_up_shows_its_metrics() -> None:
    (target,) = read_yaml(DEPLOY / "prometheus" / "targets.yml")
    assert target["targets"] == ["127.0.0.1:8081"]


@pytest.mark.e2e
@pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not here (Debian: apt install prometheus)"
)
def test_it_runs_prometheus_with_every_rule(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    environ = {**os.environ, "MONITOR_LISTEN": listen, "MONITOR_DATA": str(tmp_path / "data")}
    with subprocess.Popen(
        ["sh", str(SCRIPT)], env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        try:
            assert running.stdout is not None
            assert f"http://{listen}/alerts" in running.stdout.readline()
            groups = rules_of(f"http://{listen}", running)
        finally:
            running.terminate()
        assert running.wait(30) == 0, "the shell has handed over to Prometheus, which stops when it is asked to"
    assert {Path(group["file"]).name for group in groups} == {path.name for path in RULES}
    assert {rule["name"] for group in groups for rule in group["rules"]} == recorded() | set(alerts())


def rules_of(url: str, running: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """The groups of rules of a Prometheus that is starting."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        assert running.poll() is None
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{url}/api/v1/rules", timeout=WAIT_S)
            if answer.status_code == 200 and (groups := answer.json()["data"]["groups"]):
                return list(groups)
        time.sleep(0.05)
    raise AssertionError(f"no rules within {WAIT_S} s")
