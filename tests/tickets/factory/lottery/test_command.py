"""`tombola lottery` as a person runs it: the record, doing it again, killing it, and calls that cannot work."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

from click.testing import CliRunner

from tickets.factory.lottery.command import lottery

pytestmark = [pytest.mark.torch, pytest.mark.timeout(180)]


def arguments(runs: Path, *more: str) -> list[str]:
    return ["--network", "mlp", "--levels", "2", "--fraction", "0.5", "--epochs", "2", "--seeds", "1",
            "--runs", str(runs), *more]  # fmt: skip


def document(runs: Path) -> dict[str, Any]:
    """The only record in a folder of runs."""
    (path,) = (runs / "records").glob("*/run.json")
    read: dict[str, Any] = json.loads(path.read_bytes())
    return read


def finished(runs: Path) -> dict[str, bytes]:
    """The digests of all files of all stages."""
    return {path.parent.name: path.read_bytes() for path in runs.glob("*/done.json")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a lottery that was played."""
    folder = tmp_path_factory.mktemp("lottery") / "runs"
    result = CliRunner().invoke(lottery, arguments(folder))
    assert result.exit_code == 0, result.output
    assert "only 1 seed; a verdict needs 3" in " ".join(result.output.split())
    assert "run.json" in result.output
    return folder


def test_the_record_says_what_was_asked_and_what_came_out(runs: Path) -> None:
    """Recipe, data and plan; levels with all branches; every stage."""
    record = document(runs)
    assert (record["kind"], record["status"]) == ("lottery", "done")
    assert record["id"].startswith("lottery-mlp-digits-")
    assert record["description"]["plan"]["method"] == "weight"
    assert record["description"]["recipe"]["epochs"] == 2
    assert [round(level["density"], 2) for level in record["result"]["levels"]] == [1.0, 0.5, 0.25]
    assert record["result"]["levels"][2]["branches"].keys() == {"ticket", "random", "reinit", "shuffled"}
    assert len(record["stages"]) == 9


def test_doing_it_again_trains_nothing(runs: Path) -> None:
    """The stages stay as they are; the record has the same id and result."""
    before, stages = document(runs), {p: p.stat().st_mtime_ns for p in runs.glob("lottery-*/*")}
    assert CliRunner().invoke(lottery, arguments(runs)).exit_code == 0
    after = document(runs)
    assert (after["id"], after["result"]) == (before["id"], before["result"])
    assert all(stage["reused"] for stage in after["stages"])
    assert {p: p.stat().st_mtime_ns for p in runs.glob("lottery-*/*")} == stages


def test_a_killed_run_goes_on_and_arrives_at_the_same_bits(runs: Path, tmp_path: Path) -> None:
    """A real process, killed in the middle of a level, with a checkpoint behind it."""
    command = [sys.executable, "-m", "tickets", "lottery", *arguments(tmp_path / "runs")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ.copy())
    mine = tmp_path / "runs"
    while process.poll() is None and not any(
        (*mine.glob("lottery-r*/checkpoint.pt"), *mine.glob("lottery-r*/done.json"))
    ):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    unfinished = finished(tmp_path / "runs")
    assert unfinished.keys() < finished(runs).keys()

    result = CliRunner().invoke(lottery, arguments(tmp_path / "runs"))

    assert result.exit_code == 0, result.output
    assert finished(tmp_path / "runs") == finished(runs)
    assert document(tmp_path / "runs")["result"] == document(runs)["result"]


def test_the_transformer_plays_too(data_file: Path, backbone_dir: Path, tmp_path: Path) -> None:
    """From its pretrained weights, layer by layer, with learning-rate rewinding, over three seeds."""
    call = ["--network", "transformer", "--data", str(data_file), "--domain", "house", "--backbone", str(backbone_dir),
            "--levels", "1", "--epochs", "1", "--seeds", "3", "--scope", "layer", "--method", "learning-rate",
            "--rewind", "1it", "--controls", "random", "--threads", "1", "--precision", "fp32",
            "--runs", str(tmp_path)]  # fmt: skip
    result = CliRunner().invoke(lottery, call)
    assert result.exit_code == 0, result.output
    found = document(tmp_path)["result"]
    assert (found["network"], found["data"], found["rewind"], found["scope"]) == (
        "transformer",
        "house",
        "1it",
        "layer",
    )
    assert {round(share, 2) for share in found["levels"][1]["per_layer"].values()} == {0.8}
    assert found["verdict"][1]["against"]["random"]["seeds"] == 3
    assert len(found["levels"][1]["branches"]["random"]["accuracy"]) == 3


BAD_CALLS = [
    (["--network", "transformer"], "needs --data"),
    (["--network", "transformer", "--data", "x.csv"], "needs --domain"),
    (["--network", "transformer", "--data", "x.csv", "--domain", "y"], "x.csv"),
    (["--domain", "banking"], "--domain is for --network transformer"),
    (["--test", "x.csv"], "--test is for --network transformer"),
    (["--rewind", "soon"], "write 0, 500it"),
    (["--rewind", "2ep"], "training has 34 steps"),
    (["--controls", "luck"], "no control 'luck'"),
    (["--device", "cuda"], "no CUDA device"),
    (["--tracker", "paper:"], "mlflow:URI"),
    (["--learning-rate", "1e30"], "training diverged"),
]


@pytest.mark.parametrize(("change", "complaint"), BAD_CALLS, ids=[c for _, c in BAD_CALLS])
def test_calls_that_cannot_work_say_why(change: list[str], complaint: str, tmp_path: Path) -> None:
    """Exit status 2 and one sentence; nothing is said to be done."""
    result = CliRunner().invoke(lottery, arguments(tmp_path / "runs", *change))
    assert result.exit_code == 2, result.output
    assert complaint in " ".join(result.output.split())
    records = [json.loads(path.read_bytes())["status"] for path in tmp_path.glob("runs/records/*/run.json")]
    assert set(records) <= {"failed"}


def test_help_shows_how() -> None:
    """Every option explained, with an example."""
    text = CliRunner().invoke(lottery, ["--help"]).output
    assert "tombola lottery --network mlp" in text
    for option in ("--rewind", "--method", "--scope", "--controls", "--fraction"):
        assert option in text
