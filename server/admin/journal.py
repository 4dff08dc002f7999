"""The journal of one registration: a file beside its upload that says how far it has come, and whose it is.

Owns the folder ``.incoming`` of a registry: which files lie there, how a living owner is told from a dead one (it holds
a lock on its journal, which ends with the process, however that ends), and the turn of whoever changes which tickets
a registry holds. What is done about a dead owner's leftovers belongs to `server.admin.keeping`.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from server.errors import Overloaded
from tickets.files import sync_folder

FOLDER = ".incoming"
SUFFIX = ".journal"
PART = ".part"
MAX_ENTRY_BYTES = 4096
TURN_S = 20.0
"""How long anybody waits for their turn."""
_TURN_POLL_S = 0.01


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What a registration is about to do: written before the ticket goes into the registry."""

    tenant: str
    ticket: str
    was_there: bool
    """Whether the registry held the ticket already, so that it stays whatever becomes of this."""


class Journal:
    """One journal, locked by this process. Blocking: call it in a thread."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self.part = path.with_suffix(PART)
        """Where the upload is, or was."""
        self._handle = handle

    @classmethod
    def begin(cls, registry: Path) -> "Journal":
        """A new one, in the folder of the registry at ``registry``. Raises OSError."""
        folder = registry / FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = folder / f"{secrets.token_hex(8)}{SUFFIX}"
            journal = cls._locked(path, os.O_CREAT | os.O_EXCL)
            if journal is not None:  # else a sweep took it for a leftover, before it was locked
                return journal

    @classmethod
    def claim(cls, path: Path) -> "Journal | None":
        """A dead owner's journal, now this process's; None while its owner lives, or when it has ended well."""
        return cls._locked(path, 0)

    def write(self, entry: Entry) -> None:
        """Note what is about to be done; on return it is on disk. Raises OSError."""
        os.pwrite(self._handle, msgspec.json.encode(entry), 0)
        os.fsync(self._handle)
        sync_folder(self.path.parent)

    def read(self) -> Entry | None:
        """What was about to be done; None where it had not come so far (a torn entry included). Raises OSError."""
        try:
            return msgspec.json.decode(os.pread(self._handle, MAX_ENTRY_BYTES, 0), type=Entry)
        except (msgspec.DecodeError, UnicodeError):
            return None

    @property
    def is_ours(self) -> bool:
        """Whether it has neither ended nor been let go of."""
        return self._handle >= 0

    def end(self) -> None:
        """All is done, or undone: nothing of it is left. Raises OSError, and is let go of anyway."""
        try:
            self.part.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        finally:
            self.let_go()

    def postpone(self) -> None:
        """Leave it to a later sweep, counted from now. Raises OSError, and is let go of anyway."""
        try:
            os.utime(self._handle)
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Leave it to the next sweep, as a dead owner would."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    @classmethod
    def _locked(cls, path: Path, flags: int) -> "Journal | None":
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
        except FileNotFoundError:
            return None
        if _lock(handle) and _is_still(path, handle):
            return cls(path, handle)
        os.close(handle)
        return None


def journals(registry: Path) -> list[Path]:
    """Every journal in the folder, owned or not. Raises OSError."""
    return sorted((registry / FOLDER).glob(f"*{SUFFIX}"))


def sweep_parts(registry: Path) -> int:
    """Remove uploads that have no journal any more; how many. Raises OSError."""
    lost = [path for path in (registry / FOLDER).glob(f"*{PART}") if not path.with_suffix(SUFFIX).exists()]
    for path in lost:
        path.unlink(missing_ok=True)
    return len(lost)


@contextlib.asynccontextmanager
async def turn(registry: Path) -> AsyncIterator[None]:
    """Only one at a time, among all processes, changes which tickets the registry holds and why.

    Without it, one tenant's registration that is undone could take away the file that another's has just found
    there. Raises Overloaded after `TURN_S`, OSError.
    """
    folder = registry / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            async with asyncio.timeout(TURN_S):
                while not _lock(handle):  # noqa: ASYNC110 - another process's lock sets no event here
                    await asyncio.sleep(_TURN_POLL_S)
        except TimeoutError as error:
            raise Overloaded("other registrations take too long to end", retry_after_s=TURN_S) from error
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Whether the file is locked by us now. The lock is the open file's: a second handle here does not get it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, handle: int) -> bool:
    """Whether ``path`` still names the open file: whoever had the lock before may have removed it."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False
