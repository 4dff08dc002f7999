"""The state directory of one `tombola up`: its lock, the paths inside it, and the keys that it was begun with.

Owns the layout (``registry/``, ``redis/``, ``run/``, ``demo.key``, ``operator.key``,
``table-<gateway>.json``, ``lock``) and
the rule that one `up` at a time uses a directory. What the files mean is left to whoever
reads and writes them.
"""

import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from tickets.files import write_whole

SOCKET_PATH_BYTES = 107
"""The longest path of a Unix socket on Linux; elsewhere it is a few bytes shorter."""
SOCKET_NAME_BYTES = 32
"""Room for the longest socket name of ours, its slash included."""


class StateError(Exception):
    """The directory cannot be used; the message says why and what to do."""


class State:
    """An open, locked state directory. Close it to let another `up` have it."""

    def __init__(self, root: Path) -> None:
        """Make the directory if it is missing, and lock it. Raises StateError."""
        self.root = root.absolute()
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"cannot use the state directory {self.root}: {error.strerror}; choose another with --state"
            ) from error
        try:
            self._take_lock()
            self.registry.mkdir(exist_ok=True)
            self.redis.mkdir(mode=0o700, exist_ok=True)
            self.run = _private(run_directory(self.root))
        except OSError as error:
            os.close(self._lock)
            raise StateError(f"cannot write to the state directory {self.root}: {error.strerror}") from error
        except StateError:
            os.close(self._lock)
            raise

    @property
    def registry(self) -> Path:
        """The tickets."""
        return self.root / "registry"

    @property
    def redis(self) -> Path:
        """The embedded Redis's data."""
        return self.root / "redis"

    def table_cache(self, gateway: str) -> Path:
        """The last good table of one gateway; each writes its own."""
        return self.root / f"table-{gateway}.json"

    @property
    def key_file(self) -> Path:
        """The demo tenant's key."""
        return self.root / "demo.key"

    @property
    def operator_key_file(self) -> Path:
        """The key of whoever runs this installation; `tombola tenants` and its like find it here."""
        return self.root / "operator.key"

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._lock)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StateError(
                f"another `tombola up` (pid {holder}) uses the state directory {self.root}; "
                f"stop it (kill {holder}) or choose another directory with --state"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)


def read_key(path: Path) -> str | None:
    """The key in a file; None where there is none."""
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None


def write_key(path: Path, key: str) -> None:
    """Keep a key, readable by this user only from its first byte on."""
    write_whole(path, key.encode() + b"\n", mode=0o600)


def run_directory(root: Path) -> Path:
    """Where the Unix sockets of a state directory are: ``run/`` inside, or a short path where that is too long.

    The short path follows from the long one, so that the next `up` finds it again.
    """
    inside = root.absolute() / "run"
    if len(os.fsencode(inside)) + SOCKET_NAME_BYTES <= SOCKET_PATH_BYTES:
        return inside
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    digest = hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:12]
    return base / f"tombola-{os.getuid()}-{digest}"


def _private(directory: Path) -> Path:
    """A directory that only this user can enter. Raises StateError when somebody else made it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise StateError(f"{directory} belongs to somebody else; remove it or choose another --state")
    directory.chmod(0o700)
    return directory
