"""`python -m loadtest` as a process against a small server process: runs, reports, errors, exit statuses, Ctrl-C."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from loadtest.__main__ import command
from tests.loadtest.stub import Stub, until

pytestmark = pytest.mark.e2e
STUB = Path(__file__).with_name("stub.py")
ROOT = STUB.parents[2]
# Other work on the machine must not make a test's short run invalid.
PATIENT = ("--max-lateness-ms", "60000")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with subprocess.Popen([sys.executable, str(STUB), "2"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def start(*arguments: str) -> "subprocess.Popen[str]":
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TOMBOLA_")}
    return subprocess.Popen(
        [sys.executable, "-m", "loadtest", *arguments],
        cwd=ROOT,
        env=environ | {"COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def load(*arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    with start(*arguments) as process:
        out, err = process.communicate(timeout=50)
    return process.returncode, out, err


def test_a_run_is_reported_kept_and_reduced_again(url: str, tmp_path: Path) -> None:
    """Options alone run; the raw file gives the same figures again without a request."""
    raw, first, second = (tmp_path / name for name in ("raw.jsonl", "a.json", "b.json"))
    status, out, err = load(
        *("--url", url, "--key", "tk_good", "--domain", "banking", "--domain", "travel", "--tier", "fast=3"),
        *("--tier", "slow", "--rate", "100", "--duration", "0.5", "--warmup", "0.1", "--sla", "fast=60000"),
        *("--raw", str(raw), "--json", str(first), *PATIENT),
    )
    assert (status, err) == (0, "")
    assert "100 requests/s" in out
    assert "VALID" in out
    report = json.loads(first.read_bytes())
    assert {(g["domain"], g["tier"]) for g in report["steps"][0]["groups"]} >= {("banking", "fast"), ("travel", "fast")}
    assert report["steps"][0]["total"]["errors"] == {}
    status, out, _ = load("report", str(raw), "--sla", "fast=60000", "--json", str(second), *PATIENT)
    assert status == 0
    assert json.loads(second.read_bytes()) == report
    status, out, _ = load("compare", str(first), str(second))
    assert status == 0
    for part in ("a ", "b ", "1.00"):
        assert part in out


def test_the_same_seed_means_the_same_requests(url: str, tmp_path: Path) -> None:
    plans: list[list[Any]] = []
    for name in ("a", "b"):
        raw = tmp_path / name
        status, _, _ = load(
            *("--url", url, "--key", "tk_good", "--tier", "x", "--tier", "y", "--rate", "80,120", "--duration", "0.3"),
            *("--warmup", "0", "--seed", "5", "--raw", str(raw), *PATIENT),
        )
        assert status == 0
        records = [json.loads(line) for line in raw.read_text().splitlines()[1:]]
        plans.append(sorted((r["step"], r["intended_s"], r["tier"]) for r in records))
    assert plans[0] == plans[1]
    assert {step for step, _, _ in plans[0]} == {0, 1}


def test_an_invalid_run_says_so_and_fails(url: str) -> None:
    status, out, _ = load(
        *("--url", url, "--key", "tk_good", "--rate", "50", "--duration", "0.3", "--max-lateness-ms", "0.000001")
    )
    assert status == 1
    assert "INVALID: the sender fell behind" in out


def test_a_stopped_search_reports_the_best_rate_so_far(url: str, tmp_path: Path) -> None:
    """Nothing breaks its limit, so that only Ctrl-C ends it."""
    arguments = ("--url", url, "--key", "tk_good", "--rate", "20", "--duration", "0.2", "--warmup", "0", *PATIENT)
    with start(*arguments, "--max-rate-p99", "60000", "--json", str(tmp_path / "a.json")) as process:
        assert process.stdout is not None
        while "40.0/s" not in (line := process.stdout.readline()):
            assert line, "the search ended early"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=50)
    assert process.returncode == 130, err
    assert "Highest rate with p99 within 60000 ms" in out
    assert "the search was stopped" in out
    assert json.loads((tmp_path / "a.json").read_bytes())["search"]["best"]["rate_per_s"] >= 40


async def test_ctrl_c_reports_what_was_measured(tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    async with Stub() as stub:
        arguments = ("--url", stub.url, "--key", "tk_good", "--rate", "100,20", "--duration", "3600", "--warmup", "0")
        with start(*arguments, "--raw", str(raw), *PATIENT) as process:
            await until(lambda: len(stub.seen) > 30)
            process.send_signal(signal.SIGINT)
            out, err = await asyncio.to_thread(process.communicate, timeout=50)
    assert (process.returncode, err) == (130, "")
    assert "INTERRUPTED" in out
    assert len(raw.read_text().splitlines()) > 30


def test_nobody_listening_is_one_clear_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        status, out, err = load("--url", f"http://127.0.0.1:{free.getsockname()[1]}", "--key", "tk_good")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "tombola up" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--key", "tk_bad"), "does not know this key"),
        (("--key", "tk_good", "--domain", "cooking"), "no domain of that name"),
        ((), "no API key"),
        (("--key", "tk_good", "--rate", "fast"), "is not a rate"),
        (("--key", "tk_good", "--rate", "0"), "above 0"),
        (("--key", "tk_good", "--duration", "0"), "more than 0 seconds"),
        (("--key", "tk_good", "--sla", "fast=soon"), "--sla"),
        (("--key", "tk_good", "--tier", "a=b"), "--tier"),
        (("--tenant", "acme"), "NAME=KEY"),
        (("--texts", "/does/not/exist"), "does not exist"),
    ],
)
def test_what_cannot_begin_exits_with_2_and_says_what_to_write(
    url: str, arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOMBOLA_KEY", raising=False)
    result = CliRunner().invoke(command, ["--url", url, *arguments])
    assert result.exit_code == 2
    assert says in result.output


def test_help_shows_the_options_and_an_example() -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    for part in ("--rate", "--max-rate-p99", "Examples:", "report", "compare"):
        assert part in result.output


def test_the_load_test_imports_no_other_package_of_ours() -> None:
    """It knows Tombola by its HTTP API alone, and loads matplotlib only to draw."""
    code = "import sys, loadtest.__main__; print(sorted({name.split('.')[0] for name in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"server", "routing", "tickets", "matplotlib", "fastapi", "redis"} & set(eval(out))
