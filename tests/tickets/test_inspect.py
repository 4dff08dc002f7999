"""`tombola inspect` and `verify` as a person and a program use them."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from tests.tiny import tiny_bundle, tiny_manifest, tiny_onnx, tiny_tokenizer
from tickets.__main__ import main
from tickets.bundle import pack, parse
from tickets.inspect import visible
from tickets.manifest import Evidence, Lineage
from tickets.registry import Registry

ROOT = Path(__file__).parents[2]


def tombola(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.ticket"
    path.write_bytes(tiny_bundle())
    return path


def test_inspect_shows_what_a_person_needs(tmp_path: Path) -> None:
    manifest = msgspec.structs.replace(
        tiny_manifest(),
        lineage=Lineage(backbone="mini", backbone_sha256="ab" * 32, seeds={"torch": 7}, recipe={"prune": {"heads": 3}}),
        evidence=Evidence(quality=0.93, service_ms=0.4, speedup=17.5, report={"test": {"oos_recall": 0.81}}),
    )
    path = tmp_path / "a.ticket"
    path.write_bytes(pack(manifest, {"model.onnx": tiny_onnx(), "tokenizer.json": tiny_tokenizer()}))
    result = tombola("inspect", path)
    assert result.exit_code == 0
    shown = " ".join(result.output.split())
    for fact in (
        parse(path.read_bytes()).id, "tiny-fast", "text-classification", "home", "pruned", "3: weather, music, lights",
        "0.9300", "17.5 x", "0.4 ms", "temperature 1", ">= 0.5", "model.onnx 0.6 kB", "ab" * 32, "torch 7",
        "prune.heads 3", "test.oos_recall 0.81", "Apache-2.0",
    ):  # fmt: skip
        assert fact in shown, fact


def test_inspect_json_is_for_programs(ticket: Path) -> None:
    document = json.loads(tombola("inspect", "--json", ticket).output)
    assert document["id"] == parse(ticket.read_bytes()).id
    assert document["manifest"]["labels"] == ["weather", "music", "lights"]
    assert document["members"]["model.onnx"]["bytes"] == len(tiny_onnx())


def test_inspect_finds_a_ticket_by_its_prefix(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    id_ = registry.put(tiny_bundle())
    result = tombola("inspect", id_[:10], "--registry", tmp_path)
    assert id_ in result.output
    unknown = tombola("inspect", "0" * 10, "--registry", tmp_path)
    assert unknown.exit_code == 1
    assert "begins with 0000000000" in unknown.output


def test_a_stranger_cannot_steer_the_terminal(tmp_path: Path) -> None:
    manifest = msgspec.structs.replace(tiny_manifest(), labels=["\x1b[2Jgone", "[bold]b[/bold]", "\u202eright"])
    path = tmp_path / "a.ticket"
    path.write_bytes(pack(manifest, {"model.onnx": tiny_onnx(), "tokenizer.json": tiny_tokenizer()}))
    output = tombola("inspect", path).output
    assert "\x1b" not in output
    assert "\u202e" not in output
    assert "[bold]b[/bold]" in output


def test_visible_leaves_ordinary_text_alone() -> None:
    assert visible("naïve 日本 a\nb") == "naïve 日本 a\nb"


def test_verify_names_each_file_and_fails_if_any_does(ticket: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.ticket"
    damaged.write_bytes(ticket.read_bytes()[:-5])
    assert tombola("verify", ticket).exit_code == 0
    result = tombola("verify", ticket, damaged, tmp_path / "missing", tmp_path)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("ok")
    assert "truncated:" in lines[1]
    assert "No such file" in lines[2]
    assert "Is a directory" in lines[3]


def test_verify_run_reproduces_the_samples(ticket: Path) -> None:
    result = tombola("verify", "--run", ticket)
    assert result.exit_code == 0, result.output
    assert "3 samples reproduced" in result.output


def test_verify_run_names_an_answer_that_differs(tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    members = {
        "model.onnx": tiny_onnx(),
        "tokenizer.json": tiny_tokenizer(),
        "samples.json": b'{"texts":["rain"],"labels":["music"]}',
    }
    path.write_bytes(pack(tiny_manifest(), members))
    result = tombola("verify", "--run", path)
    assert result.exit_code == 1
    assert "bad_samples: sample 0 is answered 'weather'; recorded is 'music'" in result.output


def test_without_the_factory_its_commands_say_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; from tickets.__main__ import main; main(['find', '--data', 'x'])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "pip install 'tombola[factory]'" in result.stderr


def test_without_onnxruntime_verify_run_says_what_to_install(ticket: Path) -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None; from tickets.__main__ import main; "
        f"main(['verify', '--run', {str(ticket)!r}])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "pip install 'tombola[cpu]'" in result.stderr


def test_help_lists_the_factory_without_importing_it() -> None:
    code = (
        "import sys; from tickets.__main__ import main\n"
        "try: main(['--help'])\n"
        "finally: assert not {'torch', 'onnxruntime', 'tokenizers', 'numpy'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for command in ("find", "evaluate", "pack", "inspect", "verify"):
        assert command in result.stdout
