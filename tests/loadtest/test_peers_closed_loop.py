"""Saturation over real HTTP: with the own client, and with wrk where it is installed."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from loadtest.peers.closed_loop import lua_script, saturate
from loadtest.peers.dialects import Answer, PeerWorkload, plain
from loadtest.peers.environments import PeerFailed
from loadtest.peers.measure import wait_until_right
from loadtest.peers.processes import Launch, ProcessTree, environment_for, free_ports

ROOT = Path(__file__).parents[2]
ANSWERS = {text: Answer(label=text[:3], probability=0.5, in_scope=True) for text in ('say "hi"', "über\\uns", "plain")}
Served = tuple[str, PeerWorkload]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "answers.json").write_bytes(msgspec.json.encode(ANSWERS))
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "tests.loadtest.peer_server", str(port), str(folder / "answers.json")]
    environment = environment_for(folder, Path(sys.executable), ROOT, {})
    workload = PeerWorkload(plain("/"), ANSWERS, host=f"127.0.0.1:{port}")
    with ProcessTree(Launch(command, environment, folder, folder / "log")) as tree:
        url = f"http://127.0.0.1:{port}"
        wait_until_right(url, plain("/"), workload, ANSWERS, tree)
        yield url, workload


def test_the_own_client_counts_good_answers(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    found = saturate(*served, connections=4, seconds=0.3, scratch=tmp_path)
    assert found.client == "own"
    assert found.per_s > 0
    assert found.errors == 0
    assert found.p50_ms is not None
    assert found.p99_ms is not None
    assert found.p50_ms <= found.p99_ms


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_wrk_sends_the_same_texts(served: Served, tmp_path: Path) -> None:
    """Quotes, backslashes and bytes beyond ASCII arrive as they are: the server knows only those texts."""
    found = saturate(*served, connections=4, seconds=1, scratch=tmp_path)
    assert (found.client, found.errors) == ("wrk", 0)
    assert found.per_s > 0


def test_a_server_that_answers_nothing_good_is_a_failure(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    url, _ = served
    wrong = {text: Answer(label="other", probability=0.5, in_scope=True) for text in ANSWERS}
    workload = PeerWorkload(plain("/"), wrong, host="h")
    with pytest.raises(PeerFailed, match="no good answer with 2 connections"):
        saturate(url, workload, connections=2, seconds=0.2, scratch=tmp_path)


def test_a_wrong_answer_ends_the_wait_at_once(served: Served, tmp_path: Path) -> None:
    url, _ = served
    wrong = {text: Answer(label=text[:3], probability=0.9, in_scope=True) for text in ANSWERS}
    workload = PeerWorkload(plain("/"), wrong, host="h")
    launch = Launch([sys.executable, "-c", "import time; time.sleep(60)"], {}, tmp_path, tmp_path / "log")
    with ProcessTree(launch) as tree, pytest.raises(PeerFailed, match="the bare loop says"):
        wait_until_right(url, plain("/"), workload, wrong, tree)


def test_the_script_for_wrk_escapes_every_byte_that_lua_would_read() -> None:
    assert '"a\\034\\092\\013\\010\\195\\1881"' in lua_script([b'a"\\\r\n\xc3\xbc1'])
