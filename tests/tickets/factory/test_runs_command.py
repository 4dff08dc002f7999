"""`tombola runs` and `tombola report`, as somebody types them."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.tickets.factory.pages import examples
from tickets.__main__ import main
from tickets.factory.record import Record

pytestmark = [pytest.mark.torch]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of four runs: two of find, one lottery, one that failed."""
    for seed in (0, 1):
        record = Record.begin(
            tmp_path, "find", "banking", {"domain": "banking", "plan": {"seed": seed}}, "tombola find"
        )
        record.finish(examples.found(seed=seed), examples.stages())
    Record.begin(tmp_path, "lottery", "mlp-digits", {"network": "mlp"}, "tombola lottery").finish(
        examples.lottery(3), []
    )
    Record.begin(tmp_path, "find", "travel", {"domain": "travel"}, "tombola find").fail("[red]disk full[/red]")
    return tmp_path


def typed(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["runs", "--runs", str(root), *arguments])


def ids(root: Path, *arguments: str) -> list[str]:
    return [row["id"] for row in json.loads(typed(root, *arguments, "--json").stdout)]


def test_without_a_command_it_lists(root: Path) -> None:
    result = typed(root)
    assert result.exit_code == 0
    assert result.stdout == typed(root, "list").stdout
    assert "3 of 4 tickets win" in result.stdout
    assert "[red]disk full[/red]" in result.stdout


def test_lists_are_filtered_by_kind_and_domain(root: Path) -> None:
    assert len(ids(root)) == 4
    assert len(ids(root, "list", "--kind", "find")) == 3
    assert [id_.rpartition("-")[0] for id_ in ids(root, "list", "--domain", "travel")] == ["find-travel"]
    assert ids(root, "list", "--kind", "lottery", "--domain", "travel") == []
    assert "none of the 4 runs" in typed(root, "list", "--domain", "cooking").stderr


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    result = typed(tmp_path / "nowhere")
    assert result.exit_code == 0
    assert "`tombola find`" in result.stderr


def test_show_tells_description_stages_and_numbers(root: Path) -> None:
    result = typed(root, "show", "lottery")
    assert result.exit_code == 0, result.output
    assert "ticket/accuracy, level 2" in result.stdout
    whole = json.loads(typed(root, "show", "lottery", "--json").stdout)
    assert whole["result"]["network"] == "mlp"


def test_compare_tells_what_differs(root: Path) -> None:
    first, second = ids(root, "list", "--domain", "banking")
    result = typed(root, "compare", first, second)
    assert result.exit_code == 0, result.output
    assert "plan.seed" in result.stdout
    assert "overlap" in result.stdout
    assert "numbers are the same in all" in result.stdout
    document = json.loads(typed(root, "compare", first, second, "--json").stdout)
    assert document["ids"] == [first, second]
    assert [field["name"] for field in document["asked"]] == ["plan.seed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "find-banking"), "could be any of 2 runs"),
        (("show", "cooking"), "no run 'cooking'"),
        (("compare", "lottery"), "at least two runs"),
        (("send", "lottery", "--tracker", "wandb:x"), "there is mlflow:URI"),
    ],
)
def test_errors_are_one_sentence_that_says_what_to_do(root: Path, arguments: tuple[str, ...], words: str) -> None:
    result = typed(root, *arguments)
    assert result.exit_code == 1
    assert words in result.output
    assert "Traceback" not in result.output


def test_a_tracker_that_is_not_installed_names_the_extra(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    result = typed(root, "send", "lottery", "--tracker", "mlflow:http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "pip install 'tombola[tracking]'" in result.output


def test_a_report_is_written_where_it_was_asked(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "page"
    result = CliRunner().invoke(main, ["report", "travel", "--runs", str(root), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()) == out / "report.html"
    assert "This run failed" in (out / "report.html").read_text()


def test_a_report_that_cannot_be_written_says_where(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "page"
    result = CliRunner().invoke(main, ["report", "travel", "--runs", str(root), "--out", str(out)])
    assert result.exit_code == 1
    assert "cannot write the report" in result.output


@pytest.mark.parametrize("command", [(), ("list",), ("show",), ("compare",), ("send",)])
def test_help_shows_an_example(command: tuple[str, ...]) -> None:
    assert "Example: tombola runs" in CliRunner().invoke(main, ["runs", *command, "--help"]).output
