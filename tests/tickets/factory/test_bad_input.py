"""What cannot become an honest ticket is refused in one sentence, by the command itself, and changes nothing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.tickets.factory.conftest import labelled_rows
from tickets.factory.find_command import find

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

Rows = list[tuple[str, str, str, str]]
SMALL = ["--domain", "house", "--tiers", "small=1x1x32", "--epochs", "2", "--dense-epochs", "2", "--vocabulary", "215",
         "--rank", "24", "--teachers", "1", "--copies", "1", "--threads", "1"]  # fmt: skip


def write(path: Path, rows: Rows) -> Path:
    path.write_text("\n".join(["text,label,split,domain", *(",".join(row) for row in rows)]) + "\n")
    return path


def one_class(rows: Rows) -> Rows:
    return [row for row in rows if row[1] in ("open_door", "oos")]


def fewer_than_classes(rows: Rows) -> Rows:
    return [(f"{label} please", label, "", "house") for label in ("a", "b", "c", "d", "e")]


def test_rows_leak(rows: Rows) -> Rows:
    """Every test text stands in training too."""
    return [*rows, *((text, label, "train", domain) for text, label, split, domain in rows if split == "test")]


test_rows_leak.__test__ = False  # type: ignore[attr-defined]


def unseen_in_training(rows: Rows) -> Rows:
    return [row for row in rows if not (row[1] == "set_alarm" and row[2] == "train")]


def unseen_in_validation(rows: Rows) -> Rows:
    return [row for row in rows if not (row[1] == "set_alarm" and row[2] == "validation")]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (one_class, "at least two labels"),
        (fewer_than_classes, "5 texts for 5 labels are too few"),
        (test_rows_leak, "test texts stand in training too, e.g. row"),
        (unseen_in_training, "labels that training never sees, only validation or test: set_alarm"),
        (unseen_in_validation, "no validation text for: set_alarm"),
    ],
)
def test_data_that_no_honest_ticket_can_be_made_of(
    backbone_dir: Path, tmp_path: Path, change: Callable[[Rows], Rows], complaint: str
) -> None:
    """Before anything is trained or written."""
    data = write(tmp_path / "rows.csv", change(labelled_rows()))
    call = ["--data", str(data), "--backbone", str(backbone_dir), *SMALL]
    result = CliRunner().invoke(find, [*call, "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 2, result.output
    assert complaint in " ".join(result.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]


def other_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "distilbert"}))


def truncated_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def other_layout(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 7}))


def not_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("break_", "complaint"),
    [
        (other_architecture, "is of type 'distilbert'; supported: bert"),
        (truncated_weights, "model.safetensors cannot be read"),
        (no_tokenizer, "tokenizer.json is missing"),
        (other_layout, "the checkpoint has no tensor"),
        (not_json, "config.json cannot be read"),
    ],
)
def test_a_backbone_that_is_none(
    data_file: Path, backbone_dir: Path, tmp_path: Path, break_: Callable[[Path], None], complaint: str
) -> None:
    """What it is, and what is supported."""
    folder = tmp_path / "backbone"
    folder.mkdir()
    for path in backbone_dir.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    break_(folder)
    call = ["--data", str(data_file), "--backbone", str(folder), *SMALL]
    result = CliRunner().invoke(find, [*call, "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")])
    assert result.exit_code == 2, result.output
    assert complaint in " ".join(result.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backbone"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes rights that are not there")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(
    data_file: Path, backbone_dir: Path, small_disk: Path, tmp_path: Path
) -> None:
    """Refused while it is full, with nothing half packed; done after the disk has grown."""
    call = ["--data", str(data_file), "--backbone", str(backbone_dir), *SMALL]
    call += ["--out", str(tmp_path / "out"), "--runs", str(small_disk / "runs")]
    full = CliRunner().invoke(find, call)
    assert full.exit_code == 2, full.output
    assert "No space left on device" in full.output
    assert "Nothing is lost: make room" in " ".join(full.output.split())
    assert not (tmp_path / "out").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = CliRunner().invoke(find, call)
    assert again.exit_code == 0, again.output
    assert (tmp_path / "out" / "house-small.ticket").is_file()


def has_begun(runs: Path) -> bool:
    """Whether a checkpoint is there, or was: it goes when its stage is done, and a busy machine may miss it."""
    return any(runs.glob("*/checkpoint.pt")) or any(runs.glob("*/done.json"))


def test_ctrl_c_says_how_to_go_on(data_file: Path, backbone_dir: Path, tmp_path: Path) -> None:
    """Status 130, one line, and a record that says so."""
    call = ["--data", str(data_file), "--backbone", str(backbone_dir), *SMALL]
    call += ["--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs"), "--dense-epochs", "60"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tickets", "find", *call], stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    while process.poll() is None and not has_begun(tmp_path / "runs"):
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "stopped; the same command goes on from here" in said
    assert "Traceback" not in said
    (record,) = (tmp_path / "runs" / "records").glob("*/run.json")
    assert json.loads(record.read_text())["status"] == "failed"
