"""server.quarantine: markers that survive their process, crash records, and the count of crashes."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.quarantine import (
    CRASHES,
    LOOK_EVERY_S,
    WINDOW_S,
    Marked,
    Marker,
    Quarantine,
    crashed_thread,
    marker_file,
    quarantine_file,
    read_marker,
)
from server.run_quarantine import command

TICKET, OTHER = "a" * 64, "b" * 64
ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """Two clocks that a test turns."""

    def __init__(self) -> None:
        self.monotonic, self.wall = 100.0, 1_800_000_000.0

    def quarantine(self, path: Path) -> Quarantine:
        return Quarantine(path, clock=lambda: self.monotonic, now=lambda: self.wall)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return quarantine_file(tmp_path)


def test_a_marker_tells_what_runs_and_what_loads(tmp_path: Path) -> None:
    path = marker_file(tmp_path, "worker-0")
    marker = Marker(path)
    assert (read_marker(path).running, read_marker(path).loading) == ("", "")
    marker.running(TICKET)
    marker.loading(OTHER)
    assert (read_marker(path).running, read_marker(path).loading) == (TICKET, OTHER)
    assert read_marker(path).running_thread == threading.get_ident()
    marker.clear_running()
    assert (read_marker(path).running, read_marker(path).loading) == ("", OTHER)
    marker.clear_loading()
    assert read_marker(path).loading == ""


def test_a_marker_begins_empty_whatever_the_last_process_left(tmp_path: Path) -> None:
    path = marker_file(tmp_path, "worker-0")
    Marker(path).running(TICKET)
    Marker(path)
    assert read_marker(path) == Marked()


def test_no_marker_says_nothing(tmp_path: Path) -> None:
    assert read_marker(tmp_path / "nobody.marker") == Marked()
    Marker(None).running(TICKET)  # goes nowhere


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_marker_survives_a_process_that_dies_without_a_word(tmp_path: Path, number: int) -> None:
    path = marker_file(tmp_path, "worker-0")
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom server.quarantine import Marker\n"
        f"Marker(Path(sys.argv[1])).running({TICKET!r})\nos.kill(os.getpid(), {int(number)})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, timeout=60)
    assert done.returncode == -number
    assert read_marker(path).running == TICKET


def test_a_crash_record_names_the_thread_that_the_signal_came_to(tmp_path: Path) -> None:
    path = marker_file(tmp_path, "worker-0")
    code = (
        "import signal, sys, threading, time\nfrom pathlib import Path\n"
        "from server.quarantine import Marker, record_crashes\n"
        "path = Path(sys.argv[1])\nmarker = Marker(path)\nrecord_crashes(path)\n"
        "def run():\n"
        f"    marker.running({TICKET!r})\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGSEGV)\n"
        f"marker.loading({OTHER!r})\n"  # by the main thread, which is innocent
        "threading.Thread(target=run).start()\ntime.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, timeout=60, capture_output=True)
    assert done.returncode == -signal.SIGSEGV
    marked = read_marker(path)
    assert crashed_thread(path) == marked.running_thread != marked.loading_thread


def test_without_a_crash_there_is_no_crashed_thread(tmp_path: Path) -> None:
    assert crashed_thread(marker_file(tmp_path, "worker-0")) is None


def test_the_second_crash_within_the_window_puts_a_ticket_into_quarantine(path: Path, clock: Clock) -> None:
    quarantine = clock.quarantine(path)
    assert quarantine.count(TICKET, "signal 11 (SIGSEGV)") is False
    assert quarantine.reason(TICKET) is None
    clock.wall += WINDOW_S - 1
    assert quarantine.count(TICKET, "signal 11 (SIGSEGV)") is True
    assert quarantine.reason(TICKET) == ("it is in quarantine: its workers have crashed 2 times (signal 11 (SIGSEGV))")
    assert quarantine.reason(OTHER) is None
    assert quarantine.tickets() == [TICKET]


def test_crashes_far_apart_are_not_added_up(path: Path, clock: Clock) -> None:
    quarantine = clock.quarantine(path)
    for _ in range(5 * CRASHES):
        assert quarantine.count(TICKET, "status 70") is False
        clock.wall += WINDOW_S + 1
    assert quarantine.reason(TICKET) is None


def test_quarantine_lasts_until_it_is_cleared(path: Path, clock: Clock) -> None:
    quarantine = clock.quarantine(path)
    for _ in range(CRASHES):
        quarantine.count(TICKET, "status 70")
    clock.wall += 1000 * WINDOW_S
    assert quarantine.count(TICKET, "status 70") is False, "it is in already"
    assert quarantine.reason(TICKET) is not None
    assert quarantine.clear(TICKET) is True
    assert quarantine.reason(TICKET) is None
    assert quarantine.clear(TICKET) is False
    assert quarantine.count(TICKET, "status 70") is False, "it begins anew"


def test_another_process_sees_it_at_its_next_look(path: Path, clock: Clock) -> None:
    supervisor, worker = clock.quarantine(path), clock.quarantine(path)
    assert worker.reason(TICKET) is None
    for _ in range(CRASHES):
        supervisor.count(TICKET, "status 70")
    assert worker.reason(TICKET) is None, "it looks at the file every half second, not at every ask"
    clock.monotonic += LOOK_EVERY_S
    assert worker.reason(TICKET) is not None
    supervisor.clear(TICKET)
    clock.monotonic += LOOK_EVERY_S
    assert worker.reason(TICKET) is None


def test_counts_of_processes_that_count_at_once_are_all_kept(path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom server.quarantine import Quarantine\n"
        "quarantine = Quarantine(Path(sys.argv[1]))\n"
        "for i in range(20):\n    quarantine.count(f'{sys.argv[2]}{i:063d}', 'x')\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), name], cwd=ROOT) for name in "abc"]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len(Quarantine(path).entries()) == 60


@pytest.mark.parametrize("damage", [b"", b"{", b'{"tickets": 3}'])
def test_a_damaged_file_holds_nothing_against_anybody(path: Path, clock: Clock, damage: bytes) -> None:
    path.write_bytes(damage)
    quarantine = clock.quarantine(path)
    assert quarantine.reason(TICKET) is None
    quarantine.count(TICKET, "status 70")
    assert list(quarantine.entries()) == [TICKET]


def test_without_a_file_nothing_is_ever_held_against_a_ticket() -> None:
    quarantine = Quarantine(None)
    for _ in range(CRASHES):
        quarantine.count(TICKET, "status 70")
    assert quarantine.reason(TICKET) is None
    assert quarantine.tickets() == []


def test_the_command_lists_and_clears(tmp_path: Path) -> None:
    run_dir = ["--run-dir", str(tmp_path)]
    assert "No worker has crashed" in CliRunner().invoke(command, run_dir).output
    quarantine = Quarantine(quarantine_file(tmp_path))
    for _ in range(CRASHES):
        quarantine.count(TICKET, "signal 8 (SIGFPE)")
    quarantine.count(OTHER, "status 70")
    lines = CliRunner().invoke(command, run_dir).output.splitlines()
    assert [line[:64] for line in lines] == [TICKET, OTHER]
    assert "in quarantine  crashes: 2" in lines[0]
    assert "SIGFPE" in lines[0]
    assert "may run" in lines[1]
    unclear = CliRunner().invoke(command, [*run_dir, "--clear", "c"])
    assert unclear.exit_code == 1
    cleared = CliRunner().invoke(command, [*run_dir, "--clear", TICKET[:8]])
    assert cleared.exit_code == 0, cleared.output
    assert list(quarantine.entries()) == [OTHER]
