"""The upload is read once, whole; a file that somebody writes meanwhile is refused, or was whole when it was read."""

import threading
from pathlib import Path

import pytest

from server.gate.spool import SpoolError, read_spool
from tests.tiny import tiny_bundle
from tickets.bundle import MAX_BUNDLE_BYTES, BundleError, ticket_id

ONE, OTHER = tiny_bundle(quality=0.1), tiny_bundle(quality=0.2)


def test_a_file_that_is_rewritten_all_the_while_is_one_of_its_states_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "upload.part"
    path.write_bytes(ONE)
    ended = threading.Event()

    def rewrite() -> None:
        with open(path, "r+b", buffering=0) as file:
            while not ended.is_set():
                for data in (OTHER, ONE):
                    file.seek(0)
                    for at in range(0, len(data), 100):
                        file.write(data[at : at + 100])

    writer = threading.Thread(target=rewrite)
    writer.start()
    ends: set[str] = set()
    try:
        for _ in range(300):
            try:
                ends.add(read_spool(path, MAX_BUNDLE_BYTES).id)
            except (SpoolError, BundleError):
                ends.add("refused")
    finally:
        ended.set()
        writer.join()
    assert "refused" in ends
    assert ends <= {"refused", ticket_id(ONE), ticket_id(OTHER)}


def test_a_refusal_does_not_tell_where_the_file_lies(tmp_path: Path) -> None:
    path = tmp_path / "upload.part"
    path.write_bytes(ONE)
    with pytest.raises(BundleError) as caught:
        read_spool(path, 100)
    assert str(tmp_path) not in str(caught.value)
