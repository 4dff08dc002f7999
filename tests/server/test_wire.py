"""The wire: frames of every version decode for ever, however the bytes arrive, and nonsense is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import wire
from server.wire import FrameReader, WireError
from tests.golden.remake_wire import V1, V2

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(("file", "expected"), [("wire_v1.bin", V1), ("wire_v2.bin", V2)])
def test_frames_of_every_version_decode_with_the_defaults_of_what_they_lack(
    file: str, expected: list[wire.Message]
) -> None:
    """A gateway and a worker need not be of the same release while the one after the other is replaced."""
    assert FrameReader().feed((GOLDEN / file).read_bytes()) == expected


def test_this_versions_frames_are_written_as_the_golden_file_has_them() -> None:
    assert wire.encode_frame(V2) == (GOLDEN / "wire_v2.bin").read_bytes()
    assert {type(message) for message in V2} == set(wire.Message.__args__)


def test_a_field_that_a_later_version_appends_is_skipped() -> None:
    longer = wire.encode_frame([wire.Scrape(5)]).replace(b"\x92\xa6scrape\x05", b"\x93\xa6scrape\x05\xc3")
    frame = (len(longer) - 4).to_bytes(4, "little") + longer[4:]
    assert FrameReader().feed(frame) == [wire.Scrape(5)]


@given(st.lists(st.integers(1, 40), max_size=40))
def test_messages_come_out_whole_however_the_bytes_arrive(sizes: list[int]) -> None:
    data = wire.encode_frame(V2) + wire.encode_frame([]) + wire.encode_frame(V1)
    reader, messages, at = FrameReader(), list[wire.Message](), 0
    for size in [*sizes, len(data)]:
        messages += reader.feed(data[at : at + size])
        at += size
    assert messages == V2 + V1


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\x01\0\0\0\xc1",
        b"\x04\0\0\0\x91\x91\xa1x",
        wire.encode_frame([wire.Cancel(1)]).replace(b"\x01", b"\xa0"),
    ],
)
def test_bytes_that_are_no_frame_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        FrameReader().feed(data)


def test_a_frame_over_the_limit_is_neither_sent_nor_waited_for() -> None:
    with pytest.raises(WireError, match="over the limit"):
        wire.encode_frame([wire.Metrics(1, "w", bytes(wire.MAX_FRAME_BYTES))])
    with pytest.raises(WireError, match="the limit is"):
        wire.frame_length((wire.MAX_FRAME_BYTES + 1).to_bytes(4, "little"))
