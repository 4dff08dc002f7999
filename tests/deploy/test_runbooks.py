"""The runbooks: one for each alert, and what they tell people to type exists."""

import re

import click
import pytest

from server.__main__ import tombola
from tests.deploy.promql import DASHBOARDS, ROOT, alerts, read_json, unknown

RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = {path.stem: path.read_text() for path in RUNBOOKS.glob("Tombola*.md")}
SECTIONS = ["What it means", "Who notices", "Look", "Do", "When it is over"]
ELSEWHERE = {"Status > Targets", "The contract", "Recovery", "kept 1 h"}
"""What stands in italics and is no panel: a page of Prometheus, sections of docs/redis.md, a column of a table."""


def code(text: str) -> list[str]:
    return [" ".join(found.split()) for found in re.findall(r"`([^`]*)`", text)]


def test_there_is_one_for_every_alert_and_all_are_listed() -> None:
    assert set(PAGES) == set(alerts())
    listed = re.findall(r"(?m)^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", (RUNBOOKS / "README.md").read_text())
    assert sorted(listed) == sorted((name, alert["labels"]["severity"]) for name, alert in alerts().items())


@pytest.mark.parametrize("name", sorted(PAGES))
def test_it_says_what_it_means_who_notices_where_to_look_and_what_to_do(name: str) -> None:
    assert PAGES[name].startswith(f"# {name}\n\nSeverity: `{alerts()[name]['labels']['severity']}`.")
    assert re.findall(r"(?m)^## (.*)$", PAGES[name]) == SECTIONS


@pytest.mark.parametrize("name", sorted(PAGES))
def test_its_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGES[name]):
        assert (RUNBOOKS / target).is_file(), target
    for page in re.findall(r"docs/[\w-]+\.md", PAGES[name]):
        assert (ROOT / page).is_file(), page


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_panels_it_names_are_on_a_dashboard(name: str) -> None:
    titles = {panel["title"] for path in DASHBOARDS for panel in read_json(path)["panels"]}
    named = {" ".join(found.split()) for found in re.findall(r"(?<![*\w])\*([^*]+)\*(?!\*)", PAGES[name])} - ELSEWHERE
    assert {text for text in named if not any(title.startswith(text) for title in titles)} == set()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_its_metrics_exist(name: str) -> None:
    assert {metric for text in code(PAGES[name]) for metric in unknown(text)} == set()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_its_commands_and_their_options_exist(name: str) -> None:
    for line in (text for text in code(PAGES[name]) if text.startswith("tombola ")):
        words = line.split()[1:]
        command: click.Command = tombola
        while isinstance(command, click.Group):
            assert words, f"{line}: which one?"
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, line
            command = found
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_the_log_events_and_outcomes_they_name_exist() -> None:
    source = "\n".join(path.read_text() for folder in ("server", "routing") for path in (ROOT / folder).rglob("*.py"))
    named = {text for page in PAGES.values() for text in code(page) if re.fullmatch(r"[a-z]+(_[a-z]+)+", text)}
    words = named - {"latest_fork_usec"}  # Redis's
    assert {word for word in words if f'"{word}"' not in source and f"{word}:" not in source} == set()
