"""server.state and server.listen: one `up` at a time, private files, clear words about what is in the way."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from server.listen import ListenError, listen, url
from server.state import SOCKET_NAME_BYTES, SOCKET_PATH_BYTES, State, StateError, read_key, write_key


def test_a_second_owner_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    first = State(tmp_path / "state")
    code = "import sys\nfrom pathlib import Path\nfrom server.state import State\nState(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "state"], capture_output=True, text=True, timeout=60)
    first.close()
    assert "StateError" in done.stderr
    assert f"pid {os.getpid()}" in done.stderr


def test_the_lock_goes_with_its_owner(tmp_path: Path) -> None:
    State(tmp_path / "state").close()
    State(tmp_path / "state").close()


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"cannot use the state directory .*--state"):
        State(tmp_path / "file" / "state")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o500)
    with pytest.raises(StateError, match="cannot use the state directory"):
        State(tmp_path / "state")


def test_the_key_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    assert read_key(state.key_file) is None
    write_key(state.key_file, "tk_one")
    write_key(state.key_file, "tk_two")
    assert read_key(state.key_file) == "tk_two"
    assert stat.S_IMODE(state.key_file.stat().st_mode) == 0o600
    state.close()


def test_sockets_stay_below_the_limit_of_their_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However deep the state directory lies, and the same place again next time."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    runs = []
    for _ in range(2):
        state = State(tmp_path / ("d" * 120))
        runs.append(state.run)
        state.close()
    assert runs[0] == runs[1]
    assert runs[0].parent == tmp_path
    assert stat.S_IMODE(runs[0].stat().st_mode) == 0o700


def test_sockets_lie_in_the_state_directory_where_they_fit() -> None:
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        state = State(Path(folder))
        state.close()
        assert state.run == Path(folder) / "run"
        assert len(os.fsencode(state.run)) + SOCKET_NAME_BYTES <= SOCKET_PATH_BYTES


def test_a_port_in_use_names_its_holder_and_the_option(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0, "--port") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"port {port} is in use by .*\(pid {os.getpid()}\); .* --port"):
            listen("127.0.0.1", port, "--port")


def test_a_host_that_does_not_exist_is_a_clear_error() -> None:
    with pytest.raises(ListenError, match="cannot listen on"):
        listen("no-such-host.invalid", 0, "--port")


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
def test_the_address_is_one_that_a_client_can_use(host: str, expected: str) -> None:
    with listen(host, 0, "--port") as listener:
        address = url(listener)
        assert address == f"http://{expected}:{listener.getsockname()[1]}"
        with socket.create_connection((expected, listener.getsockname()[1]), timeout=10):
            pass
