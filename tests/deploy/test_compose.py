"""The Compose file: what it promises holds, and the parts that need no container engine run here for real."""

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from routing.embedded import find_server
from tests.deploy.promql import DEPLOY, ROOT, read_yaml

COMPOSE = DEPLOY / "compose.yaml"
FILE = read_yaml(COMPOSE)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_compose(), reason="`docker compose` is not here")
def test_docker_compose_accepts_it() -> None:
    done = subprocess.run(["docker", "compose", "-f", str(COMPOSE), "config", "-q"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_image_is_pinned_and_ours_is_built_from_the_dockerfile() -> None:
    for name, service in SERVICES.items():
        if name == "tombola":
            assert (COMPOSE.parent / service["build"]["context"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
            assert f" AS {service['build']['target']}\n" in (ROOT / "Dockerfile").read_text()
            version = re.search(r'(?m)^version = "(.*)"$', (ROOT / "pyproject.toml").read_text())
            assert version is not None
            assert service["image"] == f"tombola:{version[1]}"
        else:
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", service["image"]), name


def test_only_the_loopback_is_published_and_metrics_and_redis_are_not() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert sorted(published) == ["127.0.0.1:3000:3000", "127.0.0.1:8080:8080", "127.0.0.1:9090:9090"]
    assert FILE["networks"]["control"]["internal"] is True
    assert SERVICES["redis"]["networks"] == ["control"]
    assert all("control" not in SERVICES[name]["networks"] for name in ("prometheus", "grafana"))


def test_no_password_stands_in_the_file() -> None:
    text = COMPOSE.read_text()
    assert not re.search(
        r"(?i)(password|passwd|secret|token)\w*\s*[:=]\s*[\"']?[\w-]{4,}[\"']?\s*$", text, re.MULTILINE
    )
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or variable.endswith("__FILE"), (name, value)


def test_every_service_is_watched_bounded_and_starts_after_what_it_needs() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        if name == "secrets":
            continue
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["restart"] == "unless-stopped"
        assert service["logging"]["options"]["max-size"]
    needs = {name: set(service.get("depends_on", ())) for name, service in SERVICES.items()}
    assert needs["tombola"] == {"redis"}
    assert needs["redis"] == {"secrets"}
    assert needs["prometheus"] == {"tombola"}


def test_what_is_mounted_is_there_and_cannot_be_written() -> None:
    volumes = set(FILE["volumes"])
    for service in SERVICES.values():
        for source, _, *options in (volume.split(":") for volume in service.get("volumes", ())):
            if source.startswith("."):
                assert (COMPOSE.parent / source).exists()
                assert options == ["ro"]
            else:
                assert source in volumes


def test_prometheus_finds_what_its_configuration_names() -> None:
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["prometheus"]["volumes"])
    assert mounts["./prometheus/rules"] == "/etc/prometheus/rules"
    (target,) = read_yaml(DEPLOY / "prometheus" / "targets.compose.yml")
    assert target["targets"] == ["tombola:8081"]
    assert SERVICES["tombola"]["expose"] == ["8081"]
    assert set(SERVICES["tombola"]["networks"]) & set(SERVICES["prometheus"]["networks"])


def secrets(folder: Path) -> list[Path]:
    """Passwords made by the script, in two files."""
    files = [folder / "redis", folder / "grafana"]
    subprocess.run(["sh", str(DEPLOY / "secrets.sh"), *map(str, files)], check=True, timeout=30)
    return files


def test_passwords_are_random_and_stay_what_they_are(tmp_path: Path) -> None:
    redis, grafana = [file.read_text() for file in secrets(tmp_path)]
    assert re.fullmatch("[0-9a-f]{48}", redis)
    assert re.fullmatch("[0-9a-f]{48}", grafana)
    assert redis != grafana
    assert [file.read_text() for file in secrets(tmp_path)] == [redis, grafana]
    assert {file.name for file in tmp_path.iterdir()} == {"redis", "grafana"}


def script(service: str, **paths: str) -> str:
    """What a service's shell runs, with Compose's own escapes undone and paths in another place."""
    text = str(SERVICES[service]["entrypoint"][-1]).replace("$$", "$")
    for old, new in paths.items():
        text = text.replace(
            {"secret": "/run/secrets/redis/password", "conf": "/tmp/redis.conf", "data": "/data"}[old], new
        )
    return text


@pytest.mark.redis
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not here")
def test_redis_starts_with_the_password_and_lets_nobody_else_in(tmp_path: Path) -> None:
    password = secrets(tmp_path)[0]
    socket = tmp_path / "s"
    words = script("redis", secret=str(password), conf=str(tmp_path / "conf"), data=str(tmp_path))
    assert find_server() is not None
    redis = subprocess.Popen(
        ["sh", "-euc", f"{words.rstrip()} --port 0 --unixsocket {socket}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not socket.exists():
            assert redis.poll() is None
            time.sleep(0.02)
        check = ["redis-cli", "-s", str(socket), "ping"]
        refused = subprocess.run(check, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}, timeout=30)
        assert "NOAUTH" in refused.stdout + refused.stderr
        environ = {"PATH": "/usr/bin:/bin", "REDISCLI_AUTH": password.read_text()}
        welcome = subprocess.run(check, capture_output=True, text=True, env=environ, timeout=30)
        assert welcome.stdout == "PONG\n"
        assert password.read_text() not in " ".join(Path(f"/proc/{redis.pid}/cmdline").read_text().split("\0"))
        assert (tmp_path / "conf").stat().st_mode & 0o077 == 0
    finally:
        redis.terminate()
        assert redis.wait(30) == 0, "the shell has handed over to Redis, which stops when it is asked to"


def test_tombola_is_given_the_address_with_the_password(tmp_path: Path) -> None:
    password = secrets(tmp_path)[0]
    words = script("tombola", secret=str(password)).replace("exec tombola up --host 0.0.0.0", "exec env")
    done = subprocess.run(["sh", "-euc", words], capture_output=True, text=True, check=True, timeout=30)
    assert f"TOMBOLA_REDIS_URL=redis://:{password.read_text()}@redis:6379/0\n" in done.stdout
