"""Files are written whole or not at all."""

import os
import re
import threading
from pathlib import Path

import pytest

from tickets.files import TEMPORARY, write_whole


def test_a_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "state"
    write_whole(target, b"old")
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_the_mode_holds_from_the_first_byte(tmp_path: Path) -> None:
    write_whole(tmp_path / "secret", b"x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_write_that_fails_changes_nothing_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "state"
    write_whole(target, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    target, stop = tmp_path / "state", threading.Event()
    contents = [bytes([i]) * 100_000 for i in range(4)]
    write_whole(target, contents[0])

    def write(data: bytes) -> None:
        while not stop.is_set():
            write_whole(target, data)

    writers = [threading.Thread(target=write, args=(data,)) for data in contents]
    for writer in writers:
        writer.start()
    try:
        for _ in range(300):
            assert target.read_bytes() in contents
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_an_unfinished_file_has_a_name_that_can_be_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def look(self: Path, target: Path) -> Path:
        seen.append(self.name)
        return self

    monkeypatch.setattr(Path, "replace", look)
    write_whole(tmp_path / "state", b"x")
    assert re.fullmatch(rf"\.state{TEMPORARY}", seen[0])
