"""The dashboards: what stands there is what is made, every expression reads, every metric exists."""

import re
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana.__main__ import FOLDER, dashboards, text
from deploy.grafana.panels import SCHEMA_VERSION
from tests.deploy.promql import DASHBOARDS, DEPLOY, needs_promtool, promtool, read_json, read_yaml, unknown, yaml

BOARDS = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(board: dict[str, Any]) -> list[str]:
    """Every expression, with Grafana's words replaced by what it would put there."""
    found = [target["expr"] for panel in panels(board) for target in panel["targets"]]
    found += [annotation["expr"] for annotation in board["annotations"]["list"]]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            selector = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])
            assert selector is not None
            found.append(selector[1])
    return [expr.replace("$__rate_interval", "1m") for expr in found]


def test_the_files_are_what_is_made() -> None:
    assert {path.name: path.read_text() for path in DASHBOARDS} == {
        name: text(board) for name, board in dashboards().items()
    }, f"write them again: python -m deploy.grafana ({FOLDER})"


def test_there_is_one_for_the_fleet_a_tenant_a_family_and_a_worker() -> None:
    uids = {read_json(path)["uid"] for path in DASHBOARDS}
    assert uids == {"tombola-fleet", "tombola-tenant", "tombola-family", "tombola-worker"}


@needs_promtool
@BOARDS
def test_every_expression_reads(path: Path, tmp_path: Path) -> None:
    found = expressions(read_json(path))
    rules = [{"record": f"dashboard:expression:{number}", "expr": expr} for number, expr in enumerate(found)]
    file = tmp_path / "expressions.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "expressions", "rules": rules}]}))
    assert f"{len(found)} rules found" in promtool("check", "rules", file)


@BOARDS
def test_every_metric_is_documented_or_recorded(path: Path) -> None:
    assert {name for expr in expressions(read_json(path)) for name in unknown(expr)} == set()


@BOARDS
def test_nothing_in_it_belongs_to_one_grafana_alone(path: Path) -> None:
    board = read_json(path)
    assert board["id"] is None
    assert board["schemaVersion"] == SCHEMA_VERSION
    sources = [board["datasource"] for board in (*panels(board), *(t for p in panels(board) for t in p["targets"]))]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert [v["name"] for v in board["templating"]["list"]][:2] == ["datasource", "installation"]


@BOARDS
def test_every_panel_says_what_it_shows_in_which_unit_and_stands_alone(path: Path) -> None:
    board = read_json(path)
    places: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= cells
    for panel in panels(board):
        assert panel["description"].endswith("."), panel["title"]
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@BOARDS
def test_variables_that_are_used_are_there_and_the_other_way_round(path: Path) -> None:
    board = read_json(path)
    chosen = {variable["name"] for variable in board["templating"]["list"]}
    used = {name for expr in expressions(board) for name in re.findall(r"\$(\w+)", expr)}
    assert used == chosen - {"datasource"}


@BOARDS
def test_it_leads_to_the_others_and_takes_what_was_chosen_along(path: Path) -> None:
    board = read_json(path)
    (link,) = board["links"]
    assert link["tags"] == board["tags"] == ["tombola"]
    assert link["includeVars"]
    assert link["keepTime"]
    uids = {read_json(other)["uid"] for other in DASHBOARDS}
    assert set(re.findall(r"/d/([\w-]+)", path.read_text())) <= uids


def test_grafana_is_told_where_they_are_and_where_prometheus_is() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = read_yaml(provisioning / "datasources" / "tombola.yml")["datasources"]
    (provider,) = read_yaml(provisioning / "dashboards" / "tombola.yml")["providers"]
    compose = read_yaml(DEPLOY / "compose.yaml")["services"]
    mounts = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"])
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose
    scrape_s = read_yaml(DEPLOY / "prometheus" / "prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape_s
