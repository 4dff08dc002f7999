"""Real Redis servers in the shapes that installations have: plain, with TLS, replicas under a Sentinel, a cluster."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from routing.embedded import find_server

PATIENCE_S = 30.0


class Server:
    """One server process on a TCP port of this machine, with its files in ``folder``."""

    def __init__(
        self, folder: Path, arguments: Sequence[str] = (), *, is_tls: bool = False, password: str | None = None
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.is_tls = is_tls
        self._password = password
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return when it answers. After `kill`, it comes back with what it had written out."""
        binary = find_server()
        if binary is None:
            pytest.skip("no redis-server here")
        self.folder.mkdir(exist_ok=True)
        port = ["--port", "0", "--tls-port", str(self.port)] if self.is_tls else ["--port", str(self.port)]
        command = [binary, *self._arguments, *port, "--dir", str(self.folder), "--bind", "127.0.0.1", "--save", ""]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_listening():
            if self._process.poll() is not None:
                text = (self.folder / "log").read_text(errors="replace")
                if ">>> 'tls-" in text and "Bad directive" in text:
                    pytest.skip("this redis-server is built without TLS")
                raise AssertionError(text)
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def client(self) -> Redis:
        """A plain client, to look and to meddle. Close it."""
        return Redis(port=self.port, password=self._password, socket_timeout=5.0, protocol=2)

    def do(self, *command: object) -> object:
        """The reply to one command."""
        with self.client() as client:
            return client.execute_command(*command)

    def _is_listening(self) -> bool:
        with socket.socket() as peer:
            return peer.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def running(*servers: Server) -> Iterator[None]:
    """While inside, they run."""
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
            server.start()
        yield


def free_port() -> int:
    """A port that was free a moment ago, below those that clients are given; a cluster's bus is 10000 above it."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            if port < 55_000 and bus.connect_ex(("127.0.0.1", port + 10_000)) != 0:
                return int(port)


def wait_until(server: Server, *command: object, holds: str) -> None:
    """Until the server's reply to a command has this text in it."""
    deadline = time.monotonic() + PATIENCE_S
    reply: object = None
    while time.monotonic() < deadline:
        try:
            reply = server.do(*command)
            if isinstance(reply, dict):
                reply = " ".join(f"{name}:{value}" for name, value in reply.items())
            if holds in str(reply):
                return
        except RedisError as error:
            reply = error
        time.sleep(0.02)
    raise AssertionError(f"{command} never held {holds!r}: {reply!r}")
