"""Hostile bundles: how to damage one, and the only ways in which reading one may end.

`tests/tickets/test_bundle_fuzz.py` runs a fixed number of damaged bundles from fixed seeds.
For a search guided by coverage, install atheris and run, from the repository's root:

    PYTHONPATH=. python tests/fuzz/fuzz_bundle.py -max_total_time=600
"""

import json
import random
import struct
import sys
from copy import deepcopy
from typing import Any

from tests.tiny import tiny_bundle
from tickets.bundle import ALIGNMENT, MAGIC, BundleError, parse

PREAMBLE_BYTES = 16
HOSTILE: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**300, 0.5, -0.0, 1e308, "", "a", "../x", "/tmp",
    "a\n", "\u0000", "\u202e", "x" * 5000, "model.onnx", [], [[]], {}, {"": ""}, {"a": {"b": [1]}}, [1] * 300,
]  # fmt: skip


def craft(header: bytes, body: bytes, *, reserved: int = 0, magic: bytes = MAGIC) -> bytes:
    """A file with this header and these member bytes, laid out as the format says."""
    start = -(-(PREAMBLE_BYTES + len(header)) // ALIGNMENT) * ALIGNMENT
    front = magic + struct.pack("<II", len(header), reserved) + header
    return front + bytes(start - len(front)) + body


def lay_out(document: Any, body: bytes) -> bytes:
    """A file with this header document; its offsets are moved to where the header's new length puts them."""
    for _ in range(4):
        header = json.dumps(document, separators=(",", ":")).encode()
        members = document.get("members")
        if not (isinstance(members, list) and members and all(isinstance(m, dict) and "offset" in m for m in members)):
            break
        if any(type(member["offset"]) is not int for member in members):
            break
        shift = -(-(PREAMBLE_BYTES + len(header)) // ALIGNMENT) * ALIGNMENT - members[0]["offset"]
        document["members"] = [{**member, "offset": member["offset"] + shift} for member in members]
    return craft(header, body)


def split(data: bytes) -> tuple[bytes, bytes]:
    """The header and the member bytes of a sound bundle."""
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    end = PREAMBLE_BYTES + length
    return data[PREAMBLE_BYTES:end], data[-(-end // ALIGNMENT) * ALIGNMENT :]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One damaged bundle: bytes changed blindly, or a header rewritten so that what follows is reached."""
    if rng.random() < 0.5:
        return _mutate_bytes(bytearray(data), rng)
    header, body = split(data)
    if rng.random() < 0.3:
        return craft(_mutate_bytes(bytearray(header), rng), body)
    document = json.loads(header)
    for _ in range(rng.randint(1, 3)):
        _mutate_document(document, rng)
    return lay_out(document, body)


def _mutate_bytes(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at:at] = rng.randbytes(rng.randint(1, 80))
            case 3:
                del data[at : at + rng.randint(1, 80)]
            case _:
                data += data[: rng.randint(0, 200)]
    return bytes(data)


def _mutate_document(document: dict[str, Any], rng: random.Random) -> None:
    """Change, remove or add something at a random depth."""
    node: Any = document
    while True:
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], dict | list) and rng.random() < 0.8:
            node = node[key]
            continue
        match rng.randrange(4):
            case 0:
                del node[key]
            case 1 if isinstance(node, dict):
                node["extra"] = deepcopy(rng.choice(HOSTILE))
            case 2 if isinstance(node, list):
                node.append(deepcopy(node[key]))
            case _:
                node[key] = deepcopy(rng.choice(HOSTILE))
        return


def check(data: bytes) -> str:
    """How reading ends: "sound", or the refusal's code. Anything else escapes from here."""
    try:
        bundle = parse(data)
    except BundleError as error:
        return error.code
    assert sum(map(len, bundle.members.values())) <= len(data)
    return "sound"


def main() -> None:
    """Fuzz under atheris, starting from the tiny bundle."""
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    sound = tiny_bundle()

    def one(data: bytes) -> None:
        check(data)
        if len(data) >= 8:
            check(mutate(sound, random.Random(data)))

    atheris.instrument_all()  # what has been imported already would not guide the search otherwise
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
