"""The spool file: a stranger's upload read once, whole, from a place where only files of ours should lie.

Owns the doubts about the file itself: that it is a regular one, reached by no link, and did not change while it
was read. What its bytes say is `tickets.bundle`'s.
"""

import os
import stat
from pathlib import Path

from tickets.bundle import Bundle, BundleError, parse, read_bytes


class SpoolError(ValueError):
    """A file that is no upload of ours, or one that somebody changes."""


def read_spool(path: Path, max_bytes: int) -> Bundle:
    """Read and verify. Raises SpoolError, BundleError, and OSError where the file cannot be read at all."""
    before = os.lstat(path)
    if not stat.S_ISREG(before.st_mode):
        raise SpoolError("the upload is not a regular file")
    try:
        data = read_bytes(path, max_bytes=max_bytes)
    except BundleError as error:  # it names the file, which is nobody's business
        raise BundleError(error.code, str(error).replace(str(path), "the upload")) from error
    after = os.lstat(path)
    if _identity(before) != _identity(after):
        raise SpoolError("the upload changed while it was read")
    return parse(data)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
