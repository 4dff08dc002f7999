"""The registry: a folder of bundles, each named by the sha256 of its bytes.

Owns the files ``<id>.ticket`` in one directory and how they get there: written beside
their place under a temporary name, synced, then renamed, so that a reader sees a whole
verified bundle or none, whatever dies in between. Any number of processes may share a
folder without locks, because a name says its content. What a ticket means is left to
`tickets.bundle`; which tenant may use it, to `routing`.
"""

import contextlib
import hashlib
import os
import re
import stat
import time
from pathlib import Path

from tickets.bundle import Bundle, BundleError, TicketId, is_ticket_id, parse, read, read_bytes
from tickets.files import TEMPORARY, sync_folder, write_whole

SUFFIX = ".ticket"
MIN_PREFIX_DIGITS = 8
LEFTOVER_AGE_S = 3600.0
"""A temporary file that nobody has written to for this long belongs to a process that died."""

_TEMPORARY = re.compile(rf"\.[0-9a-f]{{64}}(\{SUFFIX})?{TEMPORARY}")
_PREFIX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX_DIGITS},64}}")


class TicketMissing(KeyError):
    """No ticket in this registry answers to that id or prefix."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class Registry:
    """The tickets of one folder. Makes the folder, and sweeps what dead writers left in it.

    A registry may be read-only (a mounted image): only ``put`` and ``remove`` write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._sweep(time.time())

    def put(self, data: bytes) -> TicketId:
        """Keep a bundle; on return it is on disk for good. The same bundle again changes nothing.

        Raises BundleError when ``data`` does not verify, OSError when it cannot be written; in
        both cases nothing is left behind.
        """
        ticket = parse(data).id
        if not self._holds(ticket):
            write_whole(self.path(ticket), data, mode=0o444)
        return ticket

    def put_file(self, path: Path | str) -> TicketId:
        """Keep a copy of a bundle file. Raises as `put` does, and OSError when it cannot be read."""
        return self.put(read_bytes(path))

    def adopt(self, path: Path, ticket: TicketId) -> None:
        """Make a file of this registry's file system its own, without a copy: it is moved, and nobody changes it again.

        Its bytes are hashed here once more, so that what is kept is what ``ticket`` names, however long ago somebody
        looked at it. A damaged copy that stands there is replaced. Raises BundleError (``bad_digest``,
        ``not_a_bundle``) and leaves the file where it is; OSError.
        """
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError("not_a_bundle", f"{path} is not a regular file")
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != ticket:
                raise BundleError("bad_digest", f"{path} is ticket {found}, not {ticket}")
            os.fchmod(file.fileno(), 0o444)
            os.fsync(file.fileno())
            path.replace(self.path(ticket))
        sync_folder(self.root)

    def get(self, ticket: str) -> Bundle:
        """Read and verify a ticket.

        Raises TicketMissing, or BundleError (``bad_digest`` and others) when the stored file is damaged.
        """
        try:
            return read(self.path(ticket), expect=ticket)
        except FileNotFoundError as error:
            raise TicketMissing(f"ticket {ticket} is not in the registry {self.root}") from error

    def path(self, ticket: str) -> Path:
        """Where the ticket lies, or would. Raises TicketMissing when ``ticket`` is not a full ticket id."""
        if not is_ticket_id(ticket):
            raise TicketMissing(f"{ticket!r} is not a ticket id (64 lower-case hex digits)")
        return self.root / f"{ticket}{SUFFIX}"

    def ids(self) -> list[TicketId]:
        """The ids of all tickets, sorted. Their files have not been verified; `get` does that."""
        with os.scandir(self.root) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(SUFFIX) and entry.is_file()]
        stems = (name.removesuffix(SUFFIX) for name in names)
        return sorted(TicketId(stem) for stem in stems if is_ticket_id(stem))

    def resolve(self, prefix: str) -> TicketId:
        """The one ticket whose id begins with ``prefix`` (at least 8 hex digits).

        Raises TicketMissing when none does, several do, or it is not such a prefix.
        """
        if not _PREFIX.fullmatch(prefix):
            raise TicketMissing(f"{prefix!r} is not a ticket id or its first {MIN_PREFIX_DIGITS} or more hex digits")
        found = [ticket for ticket in self.ids() if ticket.startswith(prefix)]
        if not found:
            raise TicketMissing(f"no ticket in the registry {self.root} begins with {prefix}")
        if len(found) > 1:
            raise TicketMissing(f"{len(found)} tickets begin with {prefix}; give more digits")
        return found[0]

    def remove(self, ticket: str) -> None:
        """Forget a ticket. Who has it open keeps it. Raises TicketMissing."""
        try:
            self.path(ticket).unlink()
        except FileNotFoundError as error:
            raise TicketMissing(f"ticket {ticket} is not in the registry {self.root}") from error
        sync_folder(self.root)

    def _holds(self, ticket: TicketId) -> bool:
        """Whether a sound copy is there; a damaged one is to be replaced by the good one at hand."""
        try:
            read(self.path(ticket), expect=ticket)
        except (FileNotFoundError, BundleError):
            return False
        return True

    def _sweep(self, now: float) -> None:
        with contextlib.suppress(OSError), os.scandir(self.root) as entries:  # a read-only registry has no leftovers
            for entry in entries:
                if _TEMPORARY.fullmatch(entry.name):
                    age_s = now - entry.stat(follow_symlinks=False).st_mtime
                    if age_s > LEFTOVER_AGE_S:
                        Path(entry.path).unlink(missing_ok=True)
