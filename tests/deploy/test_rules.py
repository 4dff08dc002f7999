"""The rules: they load, every alert is tested on both sides of its threshold, and says what to do."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.promql import (
    DASHBOARDS,
    PROMETHEUS,
    ROOT,
    RULES,
    TESTS,
    alerts,
    needs_promtool,
    promtool,
    read_json,
    read_yaml,
    recorded,
    rules,
    unknown,
    yaml,
)


@needs_promtool
def test_prometheus_accepts_the_configuration_and_the_rules() -> None:
    said = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert f"{len(RULES)} rule files found" in said
    promtool("check", "rules", *RULES)


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path)


def make_eager(alert: dict[str, Any]) -> None:
    """Let it fire at two thirds of its thresholds, and at once."""
    threshold = r"(>=?) ([1-9][\d.]*|0\.\d+)"
    alert["expr"] = re.sub(threshold, lambda found: f"{found[1]} {float(found[2]) * 0.65}", alert["expr"])
    alert.pop("for", None)


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_tests_notice_alerts_that_fire_too_early(path: Path, tmp_path: Path) -> None:
    """A test that cannot fail would be worth nothing."""
    shutil.copytree(PROMETHEUS, tmp_path / "p")
    spoiled = set()
    for copy in (tmp_path / "p" / "rules").glob("*-alerts.yml"):
        document = read_yaml(copy)
        for alert in (alert for group in document["groups"] for alert in group["rules"]):
            before = str(alert)
            make_eager(alert)
            spoiled |= {alert["alert"]} if str(alert) != before else set()
        copy.write_text(yaml.safe_dump(document))
    with pytest.raises(AssertionError) as failed:
        promtool("test", "rules", tmp_path / "p" / "tests" / path.name)
    assert {name for name in fires_in(path) & spoiled if f"alertname: {name}," not in str(failed.value)} == set()


def fires_in(path: Path) -> set[str]:
    return {case["alertname"] for case in cases(path) if case["exp_alerts"]}


def cases(path: Path) -> list[dict[str, Any]]:
    """What a file of tests expects of alerts."""
    return [case for test in read_yaml(path)["tests"] for case in test.get("alert_rule_test", ())]


def test_every_alert_is_seen_to_fire_and_not_to_fire() -> None:
    expected = [case for path in TESTS for case in cases(path)]
    assert set(alerts()) == {case["alertname"] for case in expected if case["exp_alerts"]}
    quiet = {case["alertname"] for case in expected if not case["exp_alerts"]}
    # One that fires at once for some labels is quiet for the others of the same case.
    quiet |= {"TombolaTicketQuarantined"}
    assert set(alerts()) <= quiet


@pytest.mark.parametrize("name", sorted(alerts()))
def test_an_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    alert = alerts()[name]
    said = alert["annotations"]
    assert name.startswith("Tombola")
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert len(re.sub(r"\{\{.*?\}\}", "a-name", said["summary"])) < 100
    assert said["description"].endswith(".")
    assert said["runbook_url"] == f"docs/runbooks/{name}.md"
    assert (ROOT / said["runbook_url"]).is_file()
    uid, _, query = said["dashboard"].removeprefix("/d/").partition("?")
    boards = {board["uid"]: board for board in map(read_json, DASHBOARDS)}
    variables = {f"var-{variable['name']}" for variable in boards[uid]["templating"]["list"]}
    assert {part.partition("=")[0] for part in query.split("&") if part} <= variables


def test_rules_ask_for_metrics_that_there_are() -> None:
    assert {name for rule in rules() for name in unknown(rule["expr"])} == set()


def test_recorded_names_say_level_metric_and_operation() -> None:
    names = [rule["record"] for rule in rules() if "record" in rule]
    assert len(names) == len(set(names))
    assert {
        name for name in recorded() if not re.fullmatch(r"(tier|ticket|worker|installation):tombola_\w+:\w+", name)
    } == set()


def test_the_page_about_monitoring_names_metrics_and_alerts_that_there_are() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    assert unknown(text) == set()
    assert set(re.findall(r"\bTombola[A-Z]\w+", text)) <= set(alerts())
