"""Hostile graphs: how to damage one, and the only ways in which scanning one may end.

`tests/server/gate/test_scan_fuzz.py` runs a fixed number of damaged graphs from fixed seeds. For a search guided
by coverage, install atheris and run, from the repository's root:

    PYTHONPATH=. python tests/fuzz/fuzz_scan.py -max_total_time=600
"""

import random
import sys

from server.gate.scan import ScanError, scan
from tests.tiny import tiny_onnx
from tickets.onnx_reader import fields

LENGTHS = (0, 1, 127, 128, 2**14, 2**31 - 1, 2**32, 2**63, 2**64 - 1)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One damaged model: bytes changed blindly, or fields of its messages moved, doubled and dropped."""
    if rng.random() < 0.4:
        return _mutate_bytes(bytearray(data), rng)
    return _mutate_message(data, rng, depth=0)


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _mutate_bytes(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at:at] = varint(rng.choice(LENGTHS))
            case 3:
                del data[at : at + rng.randint(1, 20)]
            case _:
                data[at:at] = rng.randbytes(rng.randint(1, 20))
    return bytes(data)


def _mutate_message(data: bytes, rng: random.Random, depth: int) -> bytes:
    """Take a message apart, damage one of its fields (often one within it), and put it together again."""
    try:
        parts = [(number, bytes(value) if isinstance(value, memoryview) else value)
                 for number, value in fields(memoryview(data))]  # fmt: skip
    except (ValueError, IndexError):
        return _mutate_bytes(bytearray(data), rng)
    if not parts:
        return rng.randbytes(rng.randint(0, 8))
    at = rng.randrange(len(parts))
    number, value = parts[at]
    match rng.randrange(6):
        case 0:
            del parts[at]
        case 1:
            parts.insert(rng.randrange(len(parts) + 1), parts[at])
        case 2:
            parts[at] = (rng.randrange(1, 30), value)
        case 3:
            parts[at] = (number, rng.choice(LENGTHS))
        case _ if isinstance(value, bytes) and depth < 8:
            parts[at] = (number, _mutate_message(value, rng, depth + 1))
        case _:
            parts[at] = (number, rng.randbytes(rng.randint(0, 40)))
    return b"".join(_field(number, value) for number, value in parts)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def check(data: bytes) -> str:
    """How scanning ends: "sound", or "refused". Anything else escapes from here."""
    try:
        found = scan(data)
    except ScanError:
        return "refused"
    assert found.initializer_bytes <= 8 * len(data)
    return "sound"


def main() -> None:
    """Fuzz under atheris, starting from the tiny graph."""
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    sound = tiny_onnx()

    def one(data: bytes) -> None:
        check(data)
        if len(data) >= 8:
            check(mutate(sound, random.Random(data)))

    atheris.instrument_all()  # what has been imported already would not guide the search otherwise
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
