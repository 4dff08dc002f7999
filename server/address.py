"""Where a process listens on the wire: ``unix:/path/to.sock`` or ``tcp://host:port``.

Owns parsing, connecting and listening with asyncio protocols. It leaves the messages to
`server.wire` and the conversation to `server.worker` and `server.link`. The wire carries
no credentials yet, so TCP listens on loopback only and a Unix socket is readable by its
owner only.
"""

import asyncio
import errno
import ipaddress
import re
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

MAX_UNIX_PATH_BYTES = 107  # sun_path of Linux, less its final zero

P = TypeVar("P", bound=asyncio.Protocol)


class AddressError(ValueError):
    """An address that cannot be used; the message says what to write instead."""


class UnixAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class TcpAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A host and a port; port 0 lets the system choose one when listening."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


Address = UnixAddress | TcpAddress

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def of_process(run_dir: Path, name: str) -> Address:
    """Where the process called ``name`` listens in the directory of sockets. Raises AddressError."""
    if not _NAME.fullmatch(name):
        raise AddressError(f"a process cannot be called {name[:80]!r}: use 1 to 64 letters, digits, '_', '.', '-'")
    return parse(f"unix:{run_dir.absolute() / name}.sock")


def parse(text: str) -> Address:
    """The address that ``text`` names. Raises AddressError with an example of the right form."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("//"):
            path = path[2:]
        if not path.startswith("/"):
            raise AddressError(f"{text!r} needs an absolute path, as in unix:/run/tombola/worker.sock")
        if len(path.encode()) > MAX_UNIX_PATH_BYTES:
            raise AddressError(
                f"{path!r} is too long for a Unix socket ({MAX_UNIX_PATH_BYTES} bytes): use a shorter run directory"
            )
        return UnixAddress(path=path)
    if text.startswith("tcp://"):
        host, _, port = text.removeprefix("tcp://").rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise AddressError(f"{text!r} needs a host and a port, as in tcp://127.0.0.1:7100")
        return TcpAddress(host=host, port=int(port))
    raise AddressError(f"{text!r} is neither unix:/path/to.sock nor tcp://host:port")


async def connect(address: Address, factory: Callable[[], P], *, timeout_s: float = 2.0) -> P:
    """Connect and return the protocol that ``factory`` made. Raises OSError (TimeoutError is one)."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        if isinstance(address, UnixAddress):
            _, protocol = await loop.create_unix_connection(factory, address.path)
        else:
            transport, protocol = await loop.create_connection(factory, address.host, address.port)
            _no_delay(transport)
    return protocol


async def serve(address: Address, factory: Callable[[], asyncio.Protocol]) -> tuple[asyncio.Server, Address]:
    """Listen, and return the server with the address it really has (a chosen port filled in).

    A socket file that a dead process left is replaced. Raises AddressError where TCP would listen
    beyond this machine, and OSError when the address is in use or cannot be bound.
    """
    loop = asyncio.get_running_loop()
    if isinstance(address, UnixAddress):
        sock = _bind_unix(address.path)
        return await loop.create_unix_server(factory, sock=sock), address
    if not _is_loopback(address.host):
        raise AddressError(
            f"{address} leaves this machine, and the wire is not authenticated: use 127.0.0.1 or unix:/path"
        )
    server = await loop.create_server(factory, address.host, address.port)
    return server, TcpAddress(host=address.host, port=server.sockets[0].getsockname()[1])


async def serve_again(
    server: asyncio.Server, address: Address, factory: Callable[[], asyncio.Protocol]
) -> asyncio.Server:
    """``server``, or one in its place where its socket file has been removed: nobody could connect any more.

    Connections that are open stay open. Raises OSError.
    """
    if not isinstance(address, UnixAddress) or not _is_gone(address):
        return server
    again, _ = await serve(address, factory)
    server.close()
    return again


def remove(address: Address) -> None:
    """Remove the socket file of an address nobody listens on any more (nothing to do for TCP)."""
    if isinstance(address, UnixAddress):
        Path(address.path).unlink(missing_ok=True)


def _bind_unix(path: str) -> socket.socket:
    if _answers(path):
        raise OSError(errno.EADDRINUSE, f"another process listens on {path}: give this one another name")
    file = Path(path)
    if file.exists() and stat.S_ISSOCK(file.stat().st_mode):
        file.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        file.chmod(0o600)
    except OSError:
        sock.close()
        raise
    return sock


def _is_gone(address: UnixAddress) -> bool:
    """Whether the socket file is not there; its directory is, in any case."""
    file = Path(address.path)
    if file.exists():
        return False
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return True


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except TimeoutError:
            return True  # its backlog is full: somebody listens
        except OSError:
            return False  # no such file, nobody listens, not a socket: bind() says which
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _no_delay(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
