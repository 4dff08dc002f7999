"""`tombola find` stopped at any moment, by any signal, and run twice at once: always the same tickets to the bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tickets import bundle as bundles
from tickets.factory.find_command import find
from tickets.factory.record import list_records

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

BOTH = "big=2x2x64,small=1x1x32"


def call(data: Path, backbone: Path, root: Path, *, tiers: str = BOTH, out: str = "out") -> list[str]:
    return [
        "--data", str(data), "--backbone", str(backbone), "--domain", "house", "--tiers", tiers, "--epochs", "4",
        "--dense-epochs", "4", "--vocabulary", "215", "--rank", "24", "--teachers", "2", "--copies", "2", "--threads",
        "1", "--out", str(root / out), "--runs", str(root / "runs"),
    ]  # fmt: skip


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tickets", "find", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )


def graphs(folder: Path) -> dict[str, bytes]:
    """The networks by file name. The rest of a ticket says how fast it was, which differs from run to run."""
    return {path.name: bytes(bundles.read(path).members["model.onnx"]) for path in sorted(folder.glob("*.ticket"))}


def written(root: Path) -> set[tuple[str, int]]:
    """Everything that a run has written so far; a file that is written anew counts again."""
    found = set()
    for path in root.rglob("*"):
        try:
            found.add((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found


@pytest.fixture(scope="module")
def undisturbed(data_file: Path, backbone_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run arrives at that nobody disturbs."""
    root = tmp_path_factory.mktemp("undisturbed")
    result = CliRunner().invoke(find, call(data_file, backbone_dir, root))
    assert result.exit_code == 0, result.output
    return graphs(root / "out")


def test_stopped_again_and_again_it_arrives_at_the_same_tickets(
    undisturbed: dict[str, bytes], data_file: Path, backbone_dir: Path, tmp_path: Path
) -> None:
    """Killed, asked to end, and Ctrl-C, each at a moment drawn by chance among those at which something was written."""
    random = np.random.default_rng(7)
    arguments = call(data_file, backbone_dir, tmp_path)
    for kill in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = start(arguments)
        seen, moments = written(tmp_path), int(random.integers(3, 14))
        while process.poll() is None and moments > 0:
            now = written(tmp_path)
            moments -= len(now - seen)
            seen |= now
            time.sleep(0.002)
        assert process.poll() is None, process.communicate()
        process.send_signal(kill)
        _, said = process.communicate()
        assert process.returncode == (130 if kill == signal.SIGINT else -kill), said
        assert "Traceback" not in said
        if kill == signal.SIGINT:
            assert said.splitlines()[-1] == "stopped; the same command goes on from here"
        assert not (tmp_path / "out").exists()
        (record,) = list_records(tmp_path / "runs")
        assert record.status == "interrupted"
    result = CliRunner().invoke(find, arguments)
    assert result.exit_code == 0, result.output
    assert graphs(tmp_path / "out") == undisturbed
    (record,) = list_records(tmp_path / "runs")
    assert record.status == "done"


def test_two_runs_at_once_share_their_stages_and_spoil_nothing(
    undisturbed: dict[str, bytes], data_file: Path, backbone_dir: Path, tmp_path: Path
) -> None:
    """A family, part of it, and the first again, on one folder: the third is told to wait, the others arrive."""
    whole = start(call(data_file, backbone_dir, tmp_path))
    part = start(call(data_file, backbone_dir, tmp_path, tiers="big=2x2x64", out="part"))
    while whole.poll() is None and len(list_records(tmp_path / "runs")) < 2:
        time.sleep(0.005)
    twin = CliRunner().invoke(find, call(data_file, backbone_dir, tmp_path, out="twin"))
    assert twin.exit_code == 2, twin.output
    assert "goes on in another process; wait for it, or stop it" in " ".join(twin.output.split())
    assert not (tmp_path / "twin").exists()
    for process in (whole, part):
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert graphs(tmp_path / "out") == undisturbed
    assert graphs(tmp_path / "part") == {"house-big.ticket": undisturbed["house-big.ticket"]}
    assert [record.status for record in list_records(tmp_path / "runs")] == ["done", "done"]
    assert len(list((tmp_path / "runs").glob("dense-*"))) == 2, "one for each teacher, not for each run"
