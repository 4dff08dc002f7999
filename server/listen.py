"""Listening sockets that outlive the gateways: `tombola up` binds them, its gateways inherit them.

Owns binding and the explanation of why a port cannot be had. Because the parent keeps the
socket open, connections wait in its queue while a gateway restarts, and several gateways
accept from the same port.
"""

import contextlib
import errno
import socket

BACKLOG = 2048


class ListenError(Exception):
    """The address cannot be listened on; the message says why and what to do."""


def listen(host: str, port: int, option: str) -> socket.socket:
    """A TCP socket that listens on ``host:port`` (port 0: any free one).

    ``option`` is the command-line option that chose the port, for the message. Raises ListenError.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"cannot listen on {host!r}: {error.strerror}") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"port {port} is in use{_holder(port)}; stop that or choose another {option}") from error
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror}; choose another {option}") from error
    return listener


def loopback(listener: socket.socket) -> tuple[str, int]:
    """Where a client on this machine reaches the socket: a wildcard address becomes the loopback."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not bound to
        host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    return host, port


def url(listener: socket.socket) -> str:
    """The socket's address as a client on this machine writes it."""
    host, port = loopback(listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _holder(port: int) -> str:
    """`` by NAME (pid N)`` where the system tells who listens on the port, else nothing."""
    import psutil  # slow to import, and only needed to explain a failure

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return " by another program"
