"""The MLflow sink, against a real MLflow where it is installed (its file store: no server needed)."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.tickets.factory.pages import examples
from tickets.factory.find_command import find
from tickets.factory.lottery.command import lottery
from tickets.factory.lottery.patterns_command import patterns
from tickets.factory.lottery.transfer_command import transfer
from tickets.factory.record import Record
from tickets.factory.tracker import SETTINGS, TrackerError, sink

pytestmark = [
    pytest.mark.torch,
    # MLflow's own libraries warn about each other.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store on disk; skips where MLflow is not installed."""
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    return (tmp_path / "mlflow").as_uri()


def test_a_run_arrives_with_parameters_levels_and_the_report(uri: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    record = Record.begin(tmp_path, "lottery", "mlp", {"plan": {"levels": 3}, "note": "x" * 9000}, "tombola lottery")
    record.finish(examples.lottery(levels=4), examples.stages())
    run_id = sink(f"mlflow:{uri}").log(record.folder)
    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["plan.levels"] == "3"
    assert run.data.tags["tombola.run"] == record.id
    history = client.get_metric_history(run_id, "ticket/accuracy")
    assert sorted(metric.step for metric in history) == [0, 1, 2, 3]
    assert {file.path for file in client.list_artifacts(run_id)} == {"run.json", "report"}
    assert "report/report.html" in {file.path for file in client.list_artifacts(run_id, "report")}


def test_a_failed_run_arrives_as_failed(uri: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    record = Record.begin(tmp_path, "find", "a", {"labels": ["<b>", "ü"]}, "tombola find")
    record.fail("disk full")
    run_id = sink(f"mlflow:{uri}").log(record.folder)
    assert MlflowClient(tracking_uri=uri).get_run(run_id).info.status == "FAILED"


def test_a_server_that_is_not_there_is_told_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackerError, match=r"MLflow at http://127\.0\.0\.1:9 cannot be used"):
        sink("mlflow:http://127.0.0.1:9")


@pytest.mark.parametrize("name", ["", "mlflow", "mlflow:", "wandb:team"])
def test_an_unknown_tracker_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(TrackerError, match="there is mlflow:URI"):
        sink(name)


@pytest.mark.parametrize("command", [find, lottery, patterns, transfer])
def test_every_command_that_finds_something_asks_its_tracker_first(command: click.Command, tmp_path: Path) -> None:
    """Nothing is read, nothing trained."""
    data = [] if command is lottery else ["--data", str(tmp_path / "none.csv")]
    domain = ["--domain", "house"] if command in (find, patterns) else []
    call = [*data, *domain, "--tracker", "wandb:team", "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(command, call)
    assert result.exit_code == 2
    assert "there is mlflow:URI" in result.output
    assert not (tmp_path / "runs").exists()
