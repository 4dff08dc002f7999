"""Records: one per description, whatever happens to the run that writes it."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickets.factory.record import (
    FILE,
    Record,
    RecordError,
    find_folder,
    find_record,
    list_records,
    load_record,
    read_listing,
)

pytestmark = [pytest.mark.torch]

STAGES = [{"name": "dense", "key": "ab", "folder": "dense-ab", "seconds": 2.0, "reused": False}]

HOLDER = """
import sys, time
from pathlib import Path
from tickets.factory.record import Record
record = Record.begin(Path(sys.argv[1]), "find", "house", {"seed": 0}, "tombola find")
print(record.id, flush=True)
time.sleep(60)
"""


def begun(root: Path, name: str = "house", **description: Any) -> Record:
    return Record.begin(root, "find", name, {"seed": 0} | description, "tombola find --domain house")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Any:
    """A run that goes on in another process, in ``tmp_path``."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("find-house-")
        yield process
        process.kill()


def test_a_finished_run_can_be_read_again(tmp_path: Path) -> None:
    record = begun(tmp_path)
    assert load_record(record.folder).status == "running"
    record.finish({"domain": "house", "tiers": [1, 2]}, STAGES)
    read = load_record(record.folder)
    assert (read.status, read.result, read.stages) == ("done", {"domain": "house", "tiers": [1, 2]}, STAGES)
    assert (read.kind, read.command, read.description) == ("find", "tombola find --domain house", {"seed": 0})
    assert re.fullmatch(r"find-house-[0-9a-f]{12}", read.id)
    assert read.host["code"]


def test_the_same_description_is_the_same_run_and_another_is_not(tmp_path: Path) -> None:
    first = Record.begin(tmp_path, "find", "house", {"a": 1, "b": {"c": 2}}, "x")
    first.finish({}, [])
    again = Record.begin(tmp_path, "find", "house", {"b": {"c": 2}, "a": 1}, "another command line")
    again.finish({}, [])
    other = Record.begin(tmp_path, "find", "house", {"a": 1, "b": {"c": 3}}, "x")
    other.finish({}, [])
    assert first.id == again.id != other.id


def test_a_run_that_goes_on_cannot_be_begun_again(elsewhere: Any, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="goes on in another process"):
        begun(tmp_path)
    assert list_records(tmp_path)[0].status == "running"


def test_a_killed_run_shows_as_interrupted_and_can_be_begun_again(elsewhere: Any, tmp_path: Path) -> None:
    elsewhere.send_signal(signal.SIGKILL)
    elsewhere.wait(30)
    (killed,) = list_records(tmp_path)
    assert killed.status == "interrupted"
    record = begun(tmp_path)
    assert record.id == killed.id
    record.finish({"done": True}, [])
    assert find_record(tmp_path, killed.id).status == "done"


def test_looking_at_a_running_record_does_not_disturb_it(tmp_path: Path) -> None:
    record = begun(tmp_path)
    for _ in range(50):
        assert load_record(record.folder).status == "running"
    record.finish({}, [])


def test_a_failure_keeps_what_an_earlier_run_found(tmp_path: Path) -> None:
    begun(tmp_path).finish({"found": 1}, STAGES)
    record = begun(tmp_path)
    assert load_record(record.folder).result == {"found": 1}
    record.fail("disk full")
    read = load_record(record.folder)
    assert (read.status, read.error, read.result, read.stages) == ("failed", "disk full", {"found": 1}, STAGES)


def test_an_unknown_format_is_refused_by_name(tmp_path: Path) -> None:
    record = begun(tmp_path)
    record.finish({}, [])
    document = json.loads((record.folder / FILE).read_text())
    (record.folder / FILE).write_text(json.dumps(document | {"format": 7}))
    with pytest.raises(RecordError, match=f"{record.id}: it has format 7, this version of tombola reads format 1"):
        load_record(record.folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "id": 3}', "not json", "\x00"])
def test_a_broken_record_is_named_and_the_others_are_listed(tmp_path: Path, content: str) -> None:
    begun(tmp_path).finish({}, [])
    broken = tmp_path / "records" / "find-broken-000000000000"
    broken.mkdir()
    (broken / FILE).write_text(content)
    listing = read_listing(tmp_path)
    assert [record.kind for record in listing.records] == ["find"]
    assert len(listing.unreadable) == 1
    assert "find-broken-000000000000" in listing.unreadable[0]


def test_a_run_is_found_by_enough_of_its_id(tmp_path: Path) -> None:
    for name in ("banking", "banking77", "travel"):
        begun(tmp_path, name, domain=name).finish({}, [])
    assert find_folder(tmp_path, "find-travel").name.startswith("find-travel-")
    assert find_record(tmp_path, "travel").description["domain"] == "travel"
    assert find_record(tmp_path, find_record(tmp_path, "find-banking-").id).description["domain"] == "banking"
    with pytest.raises(RecordError, match="could be any of 2 runs: find-banking") as told:
        find_record(tmp_path, "find-banking")
    assert "find-banking77" in str(told.value)
    with pytest.raises(RecordError, match=r"`tombola runs --runs .*` lists"):
        find_record(tmp_path, "cooking")
    with pytest.raises(RecordError, match="no run"):
        find_record(tmp_path / "nowhere", "x")


def test_a_name_that_is_a_path_stays_within_the_records(tmp_path: Path) -> None:
    begun(tmp_path).finish({}, [])
    for name in ("../records", "/etc", ".."):
        with pytest.raises(RecordError):
            find_folder(tmp_path, name)


@settings(max_examples=30)
@given(st.text(max_size=80))
def test_every_name_makes_one_folder_inside_the_records(name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        record = Record.begin(Path(root), "find", name, {}, "x")
        record.finish({}, [])
        assert record.folder.parent == Path(root) / "records"
        assert re.fullmatch(r"find-[a-z0-9_.-]+-[0-9a-f]{12}", record.id)


def test_numbers_of_numpy_do_not_lose_a_result(tmp_path: Path) -> None:
    record = begun(tmp_path)
    found = {"a": np.float32(0.5), "b": np.int64(3), "c": np.asarray([1.0, 2.0]), "d": Path("x"), "e": float("nan")}
    record.finish(found, [])
    assert load_record(record.folder).result == {"a": 0.5, "b": 3, "c": [1.0, 2.0], "d": "x", "e": None}


def test_the_latest_comes_first(tmp_path: Path) -> None:
    for i, day in enumerate((2, 3, 1)):
        record = begun(tmp_path, f"n{i}", i=i)
        record.finish({}, [])
        document = json.loads((record.folder / FILE).read_text())
        (record.folder / FILE).write_text(json.dumps(document | {"started_at": f"2026-01-0{day}T00:00:00+00:00"}))
    assert [record.id[5:7] for record in list_records(tmp_path)] == ["n1", "n0", "n2"]
