"""server.__main__ and the commands that this file's neighbours own: names, help, environment, doctor."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from server import doctor
from server.__main__ import COMMANDS, KNOWN_VARIABLES, complaint_about, tombola
from server.beginning import Example
from server.run_up import curl

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOMBOLA_")}
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        capture_output=True, text=True, timeout=60, cwd=ROOT, env={**clean, **environ},
    )  # fmt: skip


def test_help_lists_every_command_and_the_usual_path() -> None:
    said = CliRunner().invoke(tombola, ["--help"]).output
    for name in COMMANDS:
        assert f"\n  {name} " in said
    for step in ("tombola up", "curl", "tombola load", "tombola find"):
        assert step in said[said.index("The usual path") :]


@pytest.mark.parametrize("module", ["fastapi", "torch", "redis", "onnxruntime", "structlog", "prometheus_client"])
def test_help_imports_nothing_heavy(module: str) -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from server.__main__ import tombola\n"
        "assert CliRunner().invoke(tombola, ['--help']).exit_code == 0\n"
        f"sys.exit({module!r} in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("command", "forbidden"),
    [
        ("worker", ["fastapi", "torch", "loadtest"]),
        ("gateway", ["onnxruntime", "torch", "loadtest"]),
        ("up", ["fastapi", "onnxruntime", "torch", "loadtest"]),
        ("load", ["server.api", "server.wire", "routing", "tickets", "torch"]),
        ("inspect", ["torch", "fastapi", "server.api"]),
        ("route", ["torch", "fastapi", "onnxruntime"]),
    ],
)
def test_a_command_imports_only_what_it_needs(command: str, forbidden: list[str]) -> None:
    code = (
        "import click, sys\n"
        "from server.__main__ import tombola\n"
        f"tombola.get_command(click.Context(tombola), {command!r})\n"
        f"print([name for name in {forbidden!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_help_with_its_own_name(name: str) -> None:
    if name in ("find", "evaluate", "cascade", "pack"):
        pytest.importorskip("torch", reason="the factory is not installed")
    result = CliRunner().invoke(tombola, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert f"tombola {name}" in result.output


def test_an_unknown_command_names_the_nearest_one() -> None:
    result = CliRunner().invoke(tombola, ["gatewy"])
    assert result.exit_code == 2
    assert "did you mean 'gateway'?" in result.output


def test_known_variables_are_those_that_some_option_reads() -> None:
    """An option with a variable that KNOWN_VARIABLES lacks could never be set by it."""
    read = {name for target in COMMANDS.values() for name in _variables(_import(target.module, target.attribute))}
    assert read == KNOWN_VARIABLES


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [("TOMBOLA_PROT", "TOMBOLA_PORT"), ("TOMBOLA_REDIS", "TOMBOLA_REDIS_URL"), ("TOMBOLA_WORKER", "TOMBOLA_WORKERS")],
)
def test_an_unknown_variable_is_refused_with_the_nearest_known_one(variable: str, nearest: str) -> None:
    done = run("doctor", **{variable: "1"})
    assert done.returncode == 2
    assert variable in done.stderr
    assert f"{nearest}." in done.stderr


def test_known_and_foreign_variables_are_no_complaint() -> None:
    assert complaint_about([*KNOWN_VARIABLES, "PATH", "MY_TOMBOLA_THING", "_TOMBOLA_COMPLETE"]) is None


def test_version_names_the_distribution() -> None:
    assert run("--version").stdout.startswith("tombola ")


def test_the_curl_line_survives_a_shell_whatever_the_text() -> None:
    text = 'what\'s "up" $HOME `id` \\ naïve'
    line = curl("http://127.0.0.1:8080", Example("tk_k", "banking", text))
    words = shlex.split(line)
    assert words[:3] == ["curl", "-sS", "http://127.0.0.1:8080/v1/classify"]
    assert "Authorization: Bearer tk_k" in words
    assert json.loads(words[-1]) == {"domain": "banking", "text": text}


def test_doctor_reports_every_check_as_json() -> None:
    result = CliRunner().invoke(tombola, ["doctor", "--json"])
    findings = json.loads(result.output)
    assert [finding["what"] for finding in findings] == [
        "python", "runtime", "processor", "redis", "starter tickets", "suggestion",
    ]  # fmt: skip
    problems = [finding for finding in findings if finding["state"] == "problem"]
    assert result.exit_code == (1 if problems else 0)


def test_doctor_says_what_it_would_run_here_and_from_which_measurement() -> None:
    finding = doctor.suggest()
    assert finding.state == "ok"
    assert re.search(r"^\d+ core\(s\): --gateways \d+ --workers \d+\. One core runs [\d,]+ texts/s of ", finding.text)
    assert "ms of a core for each request" in finding.text


def test_doctor_suggests_without_a_measurement_where_none_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.starter.packaged", lambda: tmp_path)
    finding = doctor.suggest()
    assert finding.state == "note"
    assert re.search(r"--gateways \d+ --workers \d+, unmeasured", finding.text)


def test_doctor_fails_when_there_is_no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routing.embedded.find_server", lambda: None)
    finding = doctor.check_redis()
    assert finding.state == "problem"
    assert "--redis-url" in finding.text


def test_doctor_fails_when_a_starter_ticket_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "family.json").write_text('{"families": {"home": [{"file": "a.ticket", "tier": "fast"}]}}')
    (tmp_path / "a.ticket").write_bytes(b"not a ticket")
    monkeypatch.setattr("server.starter.packaged", lambda: tmp_path)
    assert doctor.check_starter().state == "problem"


def _import(module: str, attribute: str) -> click.Command:
    found = getattr(importlib.import_module(module), attribute)
    assert isinstance(found, click.Command)
    return found


def _variables(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        yield from [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from _variables(child)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gateway", "--redis-url", "redis://127.0.0.1:1", "--port", "70000"], "70000 is not in the range"),
        (["gateway", "--redis-url", "redis://127.0.0.1:1", "--port", "0", "--ops-port", "-1"], "-1 is not in"),
        (["gateway", "--redis-url", "foo://x", "--port", "0", "--ops-port", "0"], "not a Redis URL"),
        (
            ["gateway", "--redis-url", "redis://127.0.0.1:1", "--port", "0", "--ops-port", "0", "--name", "../up"],
            "cannot be called '../up'",
        ),
        (["worker", "--name", "../up"], "cannot be called '../up'"),
        (["worker", "--listen", "tcp://0.0.0.0:0"], "leaves this machine"),
        (["worker", "--redis-url", "foo://x"], "not a Redis URL"),
        (["route", "show", "--redis-url", "redis://127.0.0.1:1"], "does Redis run?"),
        (["load", "--url", "http://127.0.0.1:1", "--key", "x"], "Is the server running?"),
    ],
)
def test_what_cannot_work_ends_with_one_sentence(arguments: list[str], says: str, tmp_path: Path) -> None:
    places = {"TOMBOLA_REGISTRY": str(tmp_path / "registry"), "TOMBOLA_RUN_DIR": str(tmp_path / "run")}
    done = run(*arguments, **places)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    last = (done.stdout + done.stderr).rstrip().splitlines()[-1]
    assert says in last
    assert not (tmp_path / "up.sock").exists()
