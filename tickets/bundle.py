"""The bundle: the single immutable file a ticket travels in.

Owns the byte layout (docs/bundle-format.md), the strict manifest and the ticket's
identity (sha256 of the file). It knows nothing about ONNX, tokenizers or torch:
members are opaque bytes. Whatever reads here has been verified; nothing is
allocated before its size has been bounded, and nothing is ever unpickled or
written to a path that a bundle names.
"""

import hashlib
import json
import os
import re
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NewType

import msgspec

from tickets.manifest import Manifest, check_manifest

TicketId = NewType("TicketId", str)
"""64 lower-case hex digits: sha256 of the bundle's bytes."""

MAGIC = b"\x89TMBL\r\n\x1a"  # like PNG's: catches text-mode copies and truncated transfers at once
ALIGNMENT = 64  # members start on cache-line boundaries, so that weights can be mapped in place
MAX_HEADER_BYTES = 1 << 20
MAX_HEADER_DEPTH = 32
MAX_MEMBERS = 16
MAX_BUNDLE_BYTES = 1 << 30

_PREAMBLE = struct.Struct("<8sII")  # magic, header bytes, reserved (zero)
_MEMBER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}(\.[a-z0-9]{1,8})?")
_TICKET_ID = re.compile(r"[0-9a-f]{64}")


class BundleError(ValueError):
    """A bundle that must not be trusted. ``code`` is stable: ``too_large``, ``not_a_bundle``,
    ``truncated``, ``bad_header``, ``bad_layout``, ``bad_digest``, ``bad_manifest``; and where a bundle
    is run (tickets.reference): ``bad_graph``, ``bad_tokenizer``, ``bad_samples``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named run of bytes inside a bundle."""

    name: str
    offset: int
    bytes: int
    sha256: str


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    manifest: Manifest
    members: list[Member]


class Bundle(msgspec.Struct, frozen=True):
    """A verified bundle: ``members`` are read-only views into the one buffer that was read."""

    id: TicketId
    manifest: Manifest
    members: dict[str, memoryview]
    size_bytes: int


def ticket_id(data: bytes | memoryview) -> TicketId:
    """The identity of a bundle with these bytes."""
    return TicketId(hashlib.sha256(data).hexdigest())


def is_ticket_id(text: str) -> bool:
    """Whether ``text`` has the form of a full ticket id (it need not exist)."""
    return _TICKET_ID.fullmatch(text) is not None


def pack(manifest: Manifest, members: Mapping[str, bytes]) -> bytes:
    """Lay out a bundle. The same manifest and members give the same bytes, hence the same id.

    Raises BundleError where the result could not be read back.
    """
    names = sorted(members)
    # Offsets depend on the header's length, which depends on the digits of the offsets:
    # grow the header until the layout holds (two or three rounds).
    header = b""
    while True:
        table, offset = [], _align(_PREAMBLE.size + len(header))
        for name in names:
            digest = hashlib.sha256(members[name]).hexdigest()
            table.append(Member(name, offset, len(members[name]), digest))
            offset = _align(offset + len(members[name]))
        try:
            encoded = msgspec.json.encode(_Header(manifest, table), order="deterministic")
        except (TypeError, ValueError, RecursionError) as error:
            raise BundleError("bad_manifest", f"manifest cannot be written as JSON: {error}") from error
        if len(encoded) == len(header):
            header = encoded
            break
        header = encoded
    out = bytearray(_PREAMBLE.pack(MAGIC, len(header), 0) + header)
    for member in table:
        out += bytes(member.offset - len(out)) + members[member.name]
    data = bytes(out)
    parse(data)
    return data


def parse(data: bytes | memoryview) -> Bundle:
    """Verify and open a bundle held in memory. Raises BundleError with a code and a reason."""
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleError("too_large", f"bundle has {len(data)} bytes; the limit is {MAX_BUNDLE_BYTES}")
    view = memoryview(data).toreadonly()
    header, body_start = _read_header(view)
    _check_layout(header.members, body_start, len(view))
    _check_padding(view, header.members, body_start)
    members = {m.name: view[m.offset : m.offset + m.bytes] for m in header.members}
    for member in header.members:
        if hashlib.sha256(members[member.name]).hexdigest() != member.sha256:
            raise BundleError("bad_digest", f"member {member.name!r} does not match its sha256: the file is damaged")
    try:
        check_manifest(header.manifest, frozenset(members))
    except ValueError as error:
        raise BundleError("bad_manifest", str(error)) from error
    return Bundle(ticket_id(view), header.manifest, members, len(view))


def read(path: Path | str, *, max_bytes: int = MAX_BUNDLE_BYTES, expect: str | None = None) -> Bundle:
    """Read and verify a bundle file of at most ``max_bytes``.

    ``expect`` is the ticket id the file must have. Raises BundleError, or OSError when the
    file cannot be read.
    """
    bundle = parse(read_bytes(path, max_bytes=max_bytes))
    if expect is not None and bundle.id != expect:
        raise BundleError("bad_digest", f"{path} is ticket {bundle.id}, not {expect}")
    return bundle


def read_bytes(path: Path | str, *, max_bytes: int = MAX_BUNDLE_BYTES) -> bytes:
    """The bytes of a regular file of at most ``max_bytes``, not yet verified.

    Never waits on a FIFO, never allocates more than the file's size. Raises BundleError
    (``not_a_bundle``, ``too_large``, ``truncated``), or OSError when the file cannot be read.
    """
    # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BundleError("not_a_bundle", f"{path} is not a regular file")
        if status.st_size > max_bytes:
            raise BundleError("too_large", f"{path} has {status.st_size} bytes; the limit is {max_bytes}")
        data = file.read(status.st_size + 1)  # the extra byte shows a file that grows
    if len(data) != status.st_size:
        raise BundleError("truncated", f"{path} changed its size while it was read: is it still being copied?")
    return data


def _align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _read_header(view: memoryview) -> tuple[_Header, int]:
    if len(view) < _PREAMBLE.size or view[: len(MAGIC)] != MAGIC:
        raise BundleError("not_a_bundle", "this is not a ticket bundle (the first bytes are wrong)")
    _, header_bytes, reserved = _PREAMBLE.unpack(view[: _PREAMBLE.size])
    if reserved != 0:
        raise BundleError("bad_header", "reserved field is not zero: written by a newer version?")
    if header_bytes > MAX_HEADER_BYTES:
        raise BundleError("too_large", f"header claims {header_bytes} bytes; the limit is {MAX_HEADER_BYTES}")
    end = _PREAMBLE.size + header_bytes
    if end > len(view):
        raise BundleError("truncated", "file ends inside its header")
    raw = bytes(view[_PREAMBLE.size : end])
    try:
        header = msgspec.json.decode(raw, type=_Header)
        _check_document(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError("bad_manifest", f"header does not decode: {error}") from error
    return header, end


def _check_document(raw: bytes) -> None:
    """Refuse JSON that another reader could understand differently, or choke on.

    msgspec takes the last of two equal keys, keeps integers of any size, and nests as deep
    as the stack. Raises ValueError, RecursionError.
    """
    level: list[Any] = [json.loads(raw, object_pairs_hook=_unique_keys, parse_int=_int64)]
    for _ in range(MAX_HEADER_DEPTH):
        level = [child for node in level if isinstance(node, dict | list) for child in _children(node)]
    if level:
        raise ValueError(f"nested deeper than {MAX_HEADER_DEPTH}")


def _children(node: dict[str, Any] | list[Any]) -> list[Any]:
    return list(node.values()) if isinstance(node, dict) else node


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names the same key twice")
    return found


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= int(digits) < 1 << 63:
        raise ValueError(f"integer {digits[:24]} does not fit 64 bits")
    return int(digits)


def _check_layout(members: list[Member], body_start: int, size: int) -> None:
    """The layout is canonical, so a table that says anything else is hostile or damaged."""
    if not 1 <= len(members) <= MAX_MEMBERS:
        raise BundleError("bad_layout", f"bundle has {len(members)} members; 1 to {MAX_MEMBERS} are allowed")
    expected, previous = body_start, ""
    for member in members:
        if not _MEMBER_NAME.fullmatch(member.name):
            raise BundleError("bad_layout", f"member name {member.name!r} is not allowed")
        if member.name <= previous:
            raise BundleError("bad_layout", "member names are not unique and sorted")
        if member.offset != _align(expected) or member.bytes < 0:
            raise BundleError("bad_layout", f"member {member.name!r} is not where the layout puts it")
        expected, previous = member.offset + member.bytes, member.name
    if expected > size:
        raise BundleError("truncated", f"file has {size} bytes where its table needs {expected}")
    if expected < size:
        raise BundleError("bad_layout", f"{size - expected} bytes follow the last member")


def _check_padding(view: memoryview, members: list[Member], body_start: int) -> None:
    end = body_start
    for member in members:
        if any(view[end : member.offset]):
            raise BundleError("bad_layout", "padding between members is not zero")
        end = member.offset + member.bytes
