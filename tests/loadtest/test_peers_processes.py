"""A system's processes: all of them are counted, and none outlives it, not even a daemon's daemon."""

import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from loadtest.peers.environments import PeerFailed, python_of
from loadtest.peers.processes import Launch, ProcessTree, environment_for, free_ports

ROOT = Path(__file__).parents[2]


def launch(tmp_path: Path, program: str) -> Launch:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return Launch(command, environment_for(tmp_path, Path(sys.executable), ROOT, {}), tmp_path, tmp_path / "log")


def test_a_process_that_ends_says_its_last_words(tmp_path: Path) -> None:
    with ProcessTree(launch(tmp_path, "raise SystemExit('no port left')")) as tree:
        assert tree._process is not None
        tree._process.wait()
        with pytest.raises(PeerFailed, match="status 1: no port left"):
            tree.check()


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_daemons_are_counted_and_ended(tmp_path: Path) -> None:
    """In a process of its own, because adopting orphans would change the test's own process for good."""
    daemon = """
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while time.process_time() < 0.05:
                    pass
                print("daemon", os.getpid(), flush=True)
                time.sleep(600)
            os._exit(0)
        os.wait()
        time.sleep(600)
    """
    script = f"""
        import json, sys, time
        from pathlib import Path
        import psutil
        from loadtest.peers import processes
        from loadtest.peers.processes import Launch, ProcessTree, adopt_orphans
        from tests.loadtest.test_peers_processes import launch
        adopt_orphans()
        processes.GRACE_S = 0.2
        with ProcessTree(launch(Path({str(tmp_path)!r}), {daemon!r})) as tree:
            while "daemon" not in tree.log:
                time.sleep(0.01)
            daemon = int(tree.log.split()[1])
            usage = tree.usage()
        left = psutil.pid_exists(daemon)
        children = len(psutil.Process().children())
        print(json.dumps([usage.processes, usage.cpu_s >= 0.04, usage.pss_bytes > 1e6, left, children]))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [2, True, True, False, 0]


def test_ports_are_different_and_free() -> None:
    assert len(set(free_ports(5))) == 5


def test_a_system_sees_nothing_of_the_callers_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    found = environment_for(tmp_path, Path("/venv/bin/python"), ROOT, {"MORE": "1"})
    assert "SECRET_KEY" not in found
    assert found["PATH"].startswith("/venv/bin:")
    assert found["HOME"] == found["TMPDIR"] == str(tmp_path)
    assert found["MORE"] == "1"


def test_what_needs_nothing_runs_here(tmp_path: Path) -> None:
    assert python_of("tombola", (), tmp_path) == Path(sys.executable)


@pytest.mark.skipif(importlib.util.find_spec("ensurepip") is None, reason="needs ensurepip")
def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path) -> None:
    """Nothing is fetched: pip refuses the requirement itself. The next run tries again."""
    for _ in range(2):
        with pytest.raises(PeerFailed, match="cannot be installed: ERROR: Invalid requirement"):
            python_of("some", ("no such thing!",), tmp_path)


def test_an_installed_peer_is_not_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp holds the pins it was installed with; other pins ask pip again."""
    asked: list[list[str]] = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command[5:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", pip)
    python = tmp_path / "some" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert python_of("some", ("some==1",), tmp_path) == python_of("some", ("some==1",), tmp_path) == python
    assert [pins[1] for pins in asked] == ["some==1"]
    python_of("some", ("some==2",), tmp_path)
    assert [pins[1] for pins in asked] == ["some==1", "some==2"]
    assert any(pin.startswith("onnxruntime==") for pin in asked[0])
