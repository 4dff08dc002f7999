"""Which texts the API accepts: the same rules for the short form and the inference protocol.

Owns the limits and the sentences that explain them. Everything behind the API may rely on
what passed here: 1 to MAX_TEXTS texts, each valid UTF-8, not blank, without NUL, at most
MAX_TEXT_BYTES long.
"""

import struct
from collections.abc import Sequence

from server.errors import BadRequest
from server.tensor import Tensor

MAX_TEXTS = 128
MAX_TEXT_BYTES = 16 << 10

_LENGTH = struct.Struct("<I")


def text_tensor(name: str, texts: Sequence[str | bytes], shape: list[int]) -> Tensor:
    """A BYTES tensor of ``texts``. Raises BadRequest that names the first text that is not acceptable."""
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise BadRequest(f"{name} has {len(texts)} texts; 1 to {MAX_TEXTS} are allowed in one request")
    parts: list[bytes] = []
    for index, text in enumerate(texts):
        encoded, decoded = _both_forms(name, index, text)
        if len(encoded) > MAX_TEXT_BYTES:
            raise BadRequest(f"{name}[{index}] has {len(encoded)} bytes of UTF-8; the limit is {MAX_TEXT_BYTES}")
        if not decoded or decoded.isspace():
            raise BadRequest(f"{name}[{index}] is empty")
        if b"\0" in encoded:
            raise BadRequest(f"{name}[{index}] contains a NUL character")
        parts.append(_LENGTH.pack(len(encoded)))
        parts.append(encoded)
    return Tensor(name, "BYTES", shape, b"".join(parts))


def _both_forms(name: str, index: int, text: str | bytes) -> tuple[bytes, str]:
    try:
        return (text.encode(), text) if isinstance(text, str) else (text, text.decode())
    except UnicodeError as error:
        raise BadRequest(f"{name}[{index}] is not valid UTF-8: {error.reason}") from error  # type: ignore[attr-defined]
