"""The bundle: what reads back, what is refused, and under which name."""

import gzip
import io
import json
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.fuzz_bundle import craft, lay_out, split
from tests.tiny import tiny_bundle, tiny_manifest
from tickets.bundle import (
    ALIGNMENT,
    MAGIC,
    MAX_HEADER_BYTES,
    MAX_MEMBERS,
    BundleError,
    is_ticket_id,
    pack,
    parse,
    read,
    ticket_id,
)
from tickets.manifest import Lineage

GOLDEN = Path(__file__).parent.parent / "golden" / "bundle_v1.ticket"


def refusal(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        parse(data)
    return caught.value.code


def edited(edit: Callable[[dict[str, Any]], None]) -> bytes:
    """A tiny bundle whose header has been changed, with everything else as the format wants it."""
    header, body = split(tiny_bundle())
    document = json.loads(header)
    edit(document)
    return lay_out(document, body)


def test_what_is_packed_reads_back() -> None:
    data = tiny_bundle()
    bundle = parse(data)
    assert bundle.manifest == tiny_manifest()
    assert list(bundle.members) == ["model.onnx", "samples.json", "tokenizer.json"]
    assert bundle.id == ticket_id(data)
    assert bundle.size_bytes == len(data)


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,10}(\.[a-z]{1,4})?", fullmatch=True)


@given(st.dictionaries(NAMES, st.binary(max_size=300), max_size=9))
def test_any_members_read_back_aligned(members: dict[str, bytes]) -> None:
    members = {**members, "model.onnx": b"graph", "tokenizer.json": b"{}"}
    data = pack(tiny_manifest(), members)
    bundle = parse(data)
    assert {name: bytes(view) for name, view in bundle.members.items()} == members
    header, _ = split(data)
    assert all(member["offset"] % ALIGNMENT == 0 for member in json.loads(header)["members"])


def test_the_same_content_has_the_same_id_whatever_the_order() -> None:
    members = {"model.onnx": b"a", "tokenizer.json": b"b", "samples.json": b"c"}
    assert pack(tiny_manifest(), members) == pack(tiny_manifest(), dict(reversed(members.items())))


def test_members_cannot_be_written_to() -> None:
    with pytest.raises(TypeError):
        parse(tiny_bundle()).members["model.onnx"][0] = 1


def test_version_1_files_are_readable_for_ever() -> None:
    """Remade with `python -m tests.golden.remake_bundle`, which is a change of the format: say so in the changelog."""
    bundle = read(GOLDEN, expect="fbdaf5f470a64c151bf8e5dccd07f1c5aace20be172f6c0de09e6cbff1da456e")
    assert bundle.manifest.format == 1
    assert bundle.manifest.labels == ["weather", "music", "lights"]
    assert bundle.manifest.calibration.out_of_scope == "class"
    assert {name: len(data) for name, data in bundle.members.items()} == {
        "model.onnx": 610, "samples.json": 76, "tokenizer.json": 711,
    }  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89",
        MAGIC,
        b"PK\x03\x04" + bytes(100),
        b"\x80\x04\x95pickle" + bytes(100),
        MAGIC.replace(b"\r", b"") * 9,
    ],
)
def test_other_files_are_not_bundles(data: bytes) -> None:
    assert refusal(data) == "not_a_bundle"


def test_archives_are_not_unpacked() -> None:
    """A zip or gzip bomb is refused by its first bytes: nothing here decompresses."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.onnx", bytes(10 << 20))
    assert refusal(archive.getvalue()) == "not_a_bundle"
    assert refusal(gzip.compress(bytes(10 << 20))) == "not_a_bundle"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"", "bad_manifest"),
        (b"[]", "bad_manifest"),
        (b"{}", "bad_manifest"),
        (b"\xff\xfe{}", "bad_manifest"),
        (b'{"manifest":"\xff"}', "bad_manifest"),
        (b'{"manifest":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "bad_manifest"),
        (b'{"manifest":{"format":' + b"9" * 900_000 + b"}}", "bad_manifest"),
    ],
    ids=["empty", "list", "no fields", "not utf-8", "not utf-8 inside", "deep", "huge integer"],
)
def test_a_header_that_does_not_decode_is_refused(header: bytes, code: str) -> None:
    assert refusal(craft(header, b"body")) == code


def test_a_header_may_claim_no_more_than_the_limit() -> None:
    data = MAGIC + (MAX_HEADER_BYTES + 1).to_bytes(4, "little") + bytes(4)
    assert refusal(data + bytes(100)) == "too_large"
    assert refusal(MAGIC + b"\xff\xff\xff\xff" + bytes(4)) == "too_large"


def test_a_header_that_ends_after_the_file_is_truncated() -> None:
    assert refusal(MAGIC + (1000).to_bytes(4, "little") + bytes(4) + b"{}") == "truncated"


def test_the_reserved_field_is_zero() -> None:
    header, body = split(tiny_bundle())
    assert refusal(craft(header, body, reserved=1)) == "bad_header"


MEMBER_EDITS: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "overlap": ("bad_layout", lambda h: h["members"][1].update(offset=h["members"][0]["offset"])),
    "offset before the body": ("bad_layout", lambda h: h["members"][1].update(offset=0)),
    "negative offset": ("bad_layout", lambda h: h["members"][1].update(offset=-64)),
    "offset beyond 63 bits": ("bad_manifest", lambda h: h["members"][1].update(offset=2**64)),
    "huge offset": ("bad_layout", lambda h: h["members"][1].update(offset=2**62)),
    "negative size": ("bad_layout", lambda h: h["members"][1].update(bytes=-1)),
    "size beyond the file": ("truncated", lambda h: h["members"][-1].update(bytes=2**62)),
    "offset as float": ("bad_manifest", lambda h: h["members"][1].update(offset=64.0)),
    "order": ("bad_layout", lambda h: h["members"].reverse()),
    "twice": ("bad_layout", lambda h: h["members"].append(h["members"][-1])),
    "none": ("bad_layout", lambda h: h["members"].clear()),
    "too many": ("bad_layout", lambda h: h["members"].extend(h["members"][-1:] * MAX_MEMBERS)),
    "path": ("bad_layout", lambda h: h["members"][0].update(name="../../etc/passwd")),
    "absolute path": ("bad_layout", lambda h: h["members"][0].update(name="/etc/passwd")),
    "newline in name": ("bad_layout", lambda h: h["members"][0].update(name="model.onnx\n")),
    "wrong digest": ("bad_digest", lambda h: h["members"][0].update(sha256="0" * 64)),
    "unknown field": ("bad_manifest", lambda h: h["members"][0].update(mode="0777")),
    "unknown header field": ("bad_manifest", lambda h: h.update(signature="")),
}


@pytest.mark.parametrize(("code", "edit"), MEMBER_EDITS.values(), ids=MEMBER_EDITS)
def test_a_table_that_is_not_canonical_is_refused(code: str, edit: Callable[[dict[str, Any]], None]) -> None:
    assert refusal(edited(edit)) == code


def test_an_edit_that_changes_nothing_is_no_refusal() -> None:
    """The helper of the tests above makes sound bundles, so their refusals mean something."""
    parse(edited(lambda header: None))


def test_padding_is_zero_and_nothing_follows_the_last_member() -> None:
    data = tiny_bundle()
    header, _ = split(data)
    at = 16 + len(header)
    assert data[at] == 0
    assert refusal(data[:at] + b"\x01" + data[at + 1 :]) == "bad_layout"
    assert refusal(data + b"\x00") == "bad_layout"
    assert refusal(data[:-1]) == "truncated"


def test_a_key_named_twice_is_refused() -> None:
    """Readers differ in which of the two they take, and a manifest means the same to every reader."""
    header, body = split(tiny_bundle())
    assert refusal(craft(header.replace(b'{"manifest":', b'{"members":[],"manifest":', 1), body)) == "bad_manifest"


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**100], ids=str)
def test_integers_fit_64_bits(value: int) -> None:
    assert refusal(edited(lambda h: h["manifest"]["lineage"]["recipe"].update(steps=value))) == "bad_manifest"


def test_nesting_is_bounded() -> None:
    def nest(depth: int) -> bytes:
        value: Any = 0
        for _ in range(depth):
            value = [value]
        return edited(lambda h: h["manifest"]["evidence"]["report"].update(x=value))

    parse(nest(20))
    assert refusal(nest(40)) == "bad_manifest"


@pytest.mark.parametrize(
    "value", [object(), {(1, 2): 3}, float("nan"), 2**70, "\ud800"],
    ids=["object", "tuple as key", "not a number", "large integer", "half a character"],
)  # fmt: skip
def test_a_manifest_that_cannot_be_read_back_is_not_packed(value: object) -> None:
    if isinstance(value, float):
        manifest = msgspec.structs.replace(
            tiny_manifest(), evidence=msgspec.structs.replace(tiny_manifest().evidence, quality=value)
        )
    else:
        manifest = msgspec.structs.replace(tiny_manifest(), lineage=Lineage(backbone="b", recipe={"x": value}))
    with pytest.raises(BundleError) as caught:
        pack(manifest, {"model.onnx": b"g", "tokenizer.json": b"{}"})
    assert caught.value.code == "bad_manifest"


def test_a_file_over_the_callers_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    path.write_bytes(tiny_bundle())
    with pytest.raises(BundleError) as caught:
        read(path, max_bytes=100)
    assert caught.value.code == "too_large"


def test_a_sparse_giant_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "giant.ticket"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(BundleError) as caught:
        read(path)
    assert caught.value.code == "too_large"


def test_a_file_must_be_the_expected_ticket(tmp_path: Path) -> None:
    path = tmp_path / "a.ticket"
    path.write_bytes(tiny_bundle())
    with pytest.raises(BundleError) as caught:
        read(path, expect="0" * 64)
    assert caught.value.code == "bad_digest"


def test_reading_a_fifo_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "pipe.ticket"
    os.mkfifo(path)
    with pytest.raises(BundleError) as caught:
        read(path)
    assert caught.value.code == "not_a_bundle"


@pytest.mark.parametrize("name", [".", "/dev/null", "missing"])
def test_what_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises((BundleError, OSError)):
        read(tmp_path / name)


def test_a_file_that_grows_while_it_is_read_is_refused_or_whole(tmp_path: Path) -> None:
    """Somebody still copying into the file: never a mixture, never more memory than the first size."""
    path = tmp_path / "growing.ticket"
    whole = tiny_bundle()
    stop = threading.Event()

    def copy_for_ever() -> None:
        while not stop.is_set():
            with open(path, "wb", buffering=0) as file:
                for at in range(0, len(whole), 500):
                    file.write(whole[at : at + 500])

    path.write_bytes(whole)
    writer = threading.Thread(target=copy_for_ever)
    writer.start()
    try:
        for _ in range(300):
            try:
                assert read(path).id == ticket_id(whole)
            except BundleError as error:
                assert error.code in {"truncated", "not_a_bundle"}  # noqa: PT017
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0" * 64, True), ("0" * 63, False), ("0" * 64 + "\n", False), ("A" * 64, False), ("../" + "0" * 61, False)],
)
def test_what_is_a_ticket_id(text: str, expected: bool) -> None:
    assert is_ticket_id(text) is expected
