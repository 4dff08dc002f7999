"""What is shipped: the wheel, the images, the Makefile, the serving environment. No container engine needed."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("server", "tickets", "routing", "loadtest")
SHIPPED = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", *PACKAGES)
SERVING_PYTHON = ROOT / ".venv" / "bin" / "python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The distribution, built from a copy so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "src").mkdir()
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "src" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / "src" / name)
    isolation = ["--no-build-isolation"] if _has_setuptools(77) else []
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *isolation, "--wheel-dir", ".", "./src"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("tombola-*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.mark.timeout(330)
def test_the_wheel_contains_every_module_of_the_packages(wheel: zipfile.ZipFile) -> None:
    shipped = set(wheel.namelist())
    missing = [
        name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (name := str(path.relative_to(ROOT))) not in shipped
    ]
    assert missing == []


@pytest.mark.timeout(330)
def test_the_wheel_contains_the_starter_family(wheel: zipfile.ZipFile) -> None:
    data = [path for path in (ROOT / "tickets" / "starter").iterdir() if path.suffix in (".ticket", ".json")]
    if not data:
        pytest.skip("this checkout has no starter tickets; the factory makes them")
    shipped = set(wheel.namelist())
    assert [path.name for path in data if str(path.relative_to(ROOT)) not in shipped] == []


@pytest.mark.timeout(330)
def test_the_wheel_names_the_licence_and_the_command(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = HeaderParser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("License-File", [])) == {"LICENSE", "NOTICE"}
    assert "tombola = server.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_only_the_factory_extra_asks_for_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    with_torch = {name for name, needs in extras.items() if any(need.startswith("torch") for need in needs)}
    assert with_torch == {"factory"}
    assert not any(need.startswith("torch") for need in project["dependencies"])


def test_the_serving_environment_has_no_torch() -> None:
    if not SERVING_PYTHON.exists():
        pytest.skip("there is no .venv; `make test` and `make serve` make it")
    code = "import importlib.util, server, sys; sys.exit(importlib.util.find_spec('torch') is not None)"
    done = subprocess.run([SERVING_PYTHON, "-P", "-c", code], cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr or "torch can be imported"


class Stage:
    """One FROM of the Dockerfile."""

    def __init__(self, base: str, name: str) -> None:
        self.base, self.name = base, name
        self.lines: list[str] = []

    def of(self, instruction: str) -> list[str]:
        return [line.partition(" ")[2].strip() for line in self.lines if line.split(" ", 1)[0] == instruction]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    """The Dockerfile's stages by name, continuation lines joined, comments dropped."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    found: dict[str, Stage] = {}
    current: Stage | None = None
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            current = found[match[2]] = Stage(match[1], match[2])
        elif current is not None and line:
            current.lines.append(line)
    return found


def test_the_dockerfile_has_its_three_targets_and_serves_by_default(stages: dict[str, Stage]) -> None:
    assert {"serve", "gpu", "factory"} <= set(stages)
    assert list(stages)[-1] == "serve"


@pytest.mark.parametrize("name", ["serve", "gpu", "factory"])
def test_images_do_not_run_as_root(stages: dict[str, Stage], name: str) -> None:
    assert stages[name].of("USER") == ["tombola"]
    last_run = max(i for i, line in enumerate(stages[name].lines) if line.startswith("RUN"))
    assert stages[name].lines.index("USER tombola") > last_run


@pytest.mark.parametrize(
    ("name", "extras"), [("serve", "[cpu,redis]"), ("gpu", "[gpu,redis]"), ("factory", "[cpu,factory]")]
)
def test_images_install_the_extras_of_their_purpose(stages: dict[str, Stage], name: str, extras: str) -> None:
    assert re.findall(r"'/src(\[[a-z,]+\])'", stages[name].text) == [extras]


@pytest.mark.parametrize("name", ["serve", "gpu"])
def test_serving_images_are_checked_exposed_and_torch_free(stages: dict[str, Stage], name: str) -> None:
    stage = stages[name]
    (check,) = stage.of("HEALTHCHECK")
    assert "/v2/health/ready" in check
    assert stage.of("EXPOSE") == ["8080 8081"]
    assert stage.of("CMD") == ['["tombola", "up", "--host", "0.0.0.0"]']
    assert "factory" not in stage.text
    assert "torch" not in stage.text


def test_the_build_context_holds_what_the_wheel_needs_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    assert {line.strip("!/") for line in lines if line.startswith("!")} == set(SHIPPED)


def test_continuous_integration_runs_all_tests_and_stops_at_the_first_error() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "set -euo pipefail"
    assert lines[-1] == "make test"


def test_make_installs_nothing_twice(tmp_path: Path) -> None:
    """With both environments in place, no target would install again until pyproject.toml changes."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    for environment in (".venv", ".venv-dev"):
        (tmp_path / environment).mkdir()
        (tmp_path / environment / ".installed").touch()
    assert "pip install" not in _make(tmp_path, "--dry-run", "test", "serve").stdout
    os.utime(tmp_path / "pyproject.toml", (2e9, 2e9))
    assert _make(tmp_path, "--dry-run", "test", "serve").stdout.count("pip install") == 3  # torch comes first, alone


@pytest.mark.parametrize("python", ["no-such-python", "old-python"])
def test_make_says_which_python_it_needs(tmp_path: Path, python: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    old = tmp_path / "old-python"
    pretend = "import sys; sys.version_info, sys.version = (3, 9), '3.9.1'; exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{pretend}" "$@"\n')
    old.chmod(0o755)
    done = _make(tmp_path, "serve", f"PYTHON={python if python.startswith('no') else old}")
    assert done.returncode != 0
    assert "Tombola needs Python 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


def _make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make here")
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run([make, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, env=environ)


def _has_setuptools(major: int) -> bool:
    try:
        return int(importlib.metadata.version("setuptools").partition(".")[0]) >= major
    except importlib.metadata.PackageNotFoundError:
        return False
