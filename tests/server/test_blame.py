"""server.blame: a table of deaths and what is left of them, and which ticket they are held against."""

import signal
from pathlib import Path

import pytest

from server.blame import STOPPED, STUCK, culprit, hold_against, hold_last_life
from server.quarantine import Marked, Marker, Quarantine, crash_file, marker_file, quarantine_file, read_marker
from server.supervisor import Death

NOW, PATIENCE_S = 1000.0, 5.0
RUN, LOAD, LOOP = 11, 22, 33
R, L = "running", "loading"
BOTH = Marked(running=R, loading=L, running_since=NOW - 0.01, running_thread=RUN, loading_thread=LOAD)
LONG = Marked(running=R, loading=L, running_since=NOW - 6.0, running_thread=RUN, loading_thread=LOAD)
RUNS = Marked(running=R, running_thread=RUN, loading_thread=LOAD)
LOADS = Marked(loading=L, running_thread=RUN, loading_thread=LOAD)
IDLE = Marked(running_thread=RUN, loading_thread=LOAD)


def death(returncode: int | None, killed_for: str = "") -> Death:
    return Death("worker-0", 1, "somehow", 1.0, 1, 0.1, returncode, killed_for)


@pytest.mark.parametrize(
    ("why", "died", "marked", "thread", "expected"),
    [
        ("the run thread crashed", death(-signal.SIGSEGV), BOTH, RUN, R),
        ("the loader crashed, whatever runs beside it", death(-signal.SIGSEGV), BOTH, LOAD, L),
        ("another thread crashed", death(-signal.SIGSEGV), BOTH, LOOP, None),
        ("the run thread crashed between two batches", death(-signal.SIGSEGV), LOADS, RUN, None),
        ("no record, one suspect", death(-signal.SIGABRT), RUNS, None, R),
        ("no record, the other suspect", death(-signal.SIGFPE), LOADS, None, L),
        ("no record, two suspects", death(-signal.SIGBUS), BOTH, None, None),
        ("an illegal instruction", death(-signal.SIGILL), RUNS, RUN, R),
        ("nothing was going on", death(-signal.SIGSEGV), IDLE, None, None),
        ("a thread ended", death(70), LOADS, None, L),
        ("a thread ended, nobody knows which", death(70), BOTH, None, None),
        ("an orderly error", death(1), RUNS, None, None),
        ("killed from outside", death(-signal.SIGKILL), RUNS, None, None),
        ("killed from outside, long after an older crash record", death(-signal.SIGKILL), RUNS, RUN, None),
        ("it could not be started", death(None), RUNS, None, None),
        ("stuck in a batch", death(-signal.SIGKILL, STUCK), LONG, None, R),
        ("stuck, but its batches come and go", death(-signal.SIGKILL, STUCK), BOTH, None, None),
        ("stuck with nothing running", death(-signal.SIGKILL, STUCK), LOADS, None, None),
        ("stopped by a signal in the middle of a batch", death(-signal.SIGKILL, STOPPED), LONG, None, None),
    ],
)
def test_the_culprit(why: str, died: Death, marked: Marked, thread: int | None, expected: str | None) -> None:
    assert culprit(died, marked, thread, now=NOW, patience_s=PATIENCE_S) == expected, why


def test_a_death_is_counted_against_its_culprit(tmp_path: Path) -> None:
    for _ in range(2):
        Marker(marker_file(tmp_path, "worker-0")).running("f" * 64)
        hold_against(death(-signal.SIGSEGV), tmp_path, patience_s=PATIENCE_S)
    assert Quarantine(quarantine_file(tmp_path)).reason("f" * 64)


def test_evidence_is_used_once(tmp_path: Path) -> None:
    """The next process of that name may crash before it has made a marker of its own."""
    Marker(marker_file(tmp_path, "worker-0")).running("f" * 64)
    for _ in range(2):
        hold_against(death(-signal.SIGSEGV), tmp_path, patience_s=PATIENCE_S)
    assert len(Quarantine(quarantine_file(tmp_path)).entries()["f" * 64].crashes) == 1


def test_a_death_without_a_culprit_is_counted_against_nobody(tmp_path: Path) -> None:
    Marker(marker_file(tmp_path, "worker-0")).running("f" * 64)
    hold_against(death(-signal.SIGKILL), tmp_path, patience_s=PATIENCE_S)
    assert Quarantine(quarantine_file(tmp_path)).entries() == {}


def test_a_crash_that_cannot_be_counted_is_no_crash_of_the_supervisor(tmp_path: Path) -> None:
    Marker(marker_file(tmp_path, "worker-0")).running("f" * 64)
    quarantine_file(tmp_path).with_suffix(".lock").mkdir()
    hold_against(death(-signal.SIGSEGV), tmp_path, patience_s=PATIENCE_S)


RECORD = b"Fatal Python error: Segmentation fault\n\nCurrent thread 0x%016x (most recent call first):\n"


@pytest.mark.parametrize(("record", "counted"), [(RECORD, True), (b"", False), (None, False)])
def test_a_worker_counts_the_crash_that_the_last_of_its_name_left_a_record_of(
    tmp_path: Path, record: bytes | None, counted: bool
) -> None:
    """Under another supervisor than `tombola up` nobody else does."""
    path = marker_file(tmp_path, "worker-0")
    Marker(path).running("f" * 64)
    if record is not None:
        crash_file(path).write_bytes(record and record % read_marker(path).running_thread)
    for _ in range(2):  # it starts, dies of something else, and starts again
        hold_last_life(tmp_path, "worker-0")
    entries = Quarantine(quarantine_file(tmp_path)).entries()
    assert list(entries) == (["f" * 64] if counted else [])
    if counted:
        assert [crash.how for crash in entries["f" * 64].crashes] == ["segmentation fault"]
