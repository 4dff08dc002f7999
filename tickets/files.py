"""Files that are written whole or not at all.

Owns the one way in which anything of ours replaces a file: written beside its place under a name of its own, synced,
renamed over it, and the folder synced. A reader sees the old file or the new one, whatever dies in between; two
writers do not disturb each other, the last one stands. What the bytes mean belongs to whoever writes them.
"""

import contextlib
import os
import secrets
from pathlib import Path

TEMPORARY = r"\.[0-9a-f]{16}\.tmp"
"""How the name of an unfinished file ends, as a regular expression; it begins with a dot and the file's own name."""


def write_whole(path: Path, data: bytes | memoryview, *, mode: int = 0o644) -> None:
    """Put ``data`` in the place of ``path``; on return it is on disk for good.

    ``mode``: who may read it, from its first byte on (less the umask). Raises OSError, and leaves nothing behind then.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb", buffering=0, opener=lambda name, flags: os.open(name, flags | _SAFE, mode)) as file:
            rest = memoryview(data)
            while rest:  # an unbuffered write may be short
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or unlink in ``folder`` survive a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC
