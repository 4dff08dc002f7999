"""What the tests of deploy/ share: its files, what promtool says, and the metrics that an expression names."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not here")

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not here (Debian's package prometheus brings it)"
)

_NAME = re.compile(r"(?<![\w:$])(?:\w+:)?tombola_\w+(?::\w+)?")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def read_yaml(path: Path) -> Any:
    """A YAML file's content."""
    return yaml.safe_load(path.read_text())


def read_json(path: Path) -> Any:
    """A JSON file's content."""
    return json.loads(path.read_text())


@cache
def rules() -> list[dict[str, Any]]:
    """All rules of all groups."""
    return [rule for path in RULES for group in read_yaml(path)["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """Alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


@cache
def recorded() -> set[str]:
    """Names of the series that rules record."""
    return {rule["record"] for rule in rules() if "record" in rule}


def promtool(*arguments: str | Path) -> str:
    """What promtool says; it must be content."""
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def metrics_in(expr: str) -> set[str]:
    """The metrics of ours that an expression asks for: histograms without suffix, recorded ones with all colons."""
    without_texts = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)
    return {name if ":" in name else _SUFFIX.sub("", name) for name in _NAME.findall(without_texts)}


@cache
def documented() -> set[str]:
    """The metrics that docs/metrics.md names, as they stand on the page."""
    return {_SUFFIX.sub("", name) for name in re.findall(r"\btombola_\w+", (ROOT / "docs" / "metrics.md").read_text())}


def unknown(expr: str) -> set[str]:
    """Of the metrics of an expression, those that neither the documentation nor a recording rule knows."""
    return metrics_in(expr) - documented() - recorded()
