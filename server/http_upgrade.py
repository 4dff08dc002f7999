"""Offers to upgrade an HTTP connection (h2c, websocket), which are ignored: the request is answered in HTTP/1.1.

Owns how the body of such a request is read all the same. httptools' parser takes an offer as
accepted, and then expects no body; HTTP lets a server ignore it. The connection itself is
`server.http_protocol`'s.
"""

from typing import Any, Protocol

import httptools

FRAMING = (b"content-length", b"transfer-encoding")


class Connection(Protocol):
    """A connection's parser callbacks, and the headers it has just got."""

    headers: list[tuple[bytes, bytes]]

    def on_message_begin(self) -> None:
        """A request begins."""

    def on_url(self, url: bytes) -> None:
        """A part of the path."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""

    def on_headers_complete(self) -> None:
        """The head is complete."""

    def on_body(self, body: bytes) -> None:
        """A part of the body."""

    def on_message_complete(self) -> None:
        """The request is complete."""


class _Rest:
    """Parser callbacks that keep from the connection the one head that it knows already."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_known = True
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete

    def on_message_begin(self) -> None:
        if not self._is_known:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._is_known:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_known:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_known:
            self._is_known = False
        else:
            self._connection.on_headers_complete()


def parser_of_body(connection: Connection) -> Any:  # noqa: ANN401 - httptools has no types
    """A parser that stands before the body of the request whose head ``connection`` has just got.

    The old one takes an offered upgrade as accepted, and so no body to follow.
    """
    parser = httptools.HttpRequestParser(_Rest(connection))
    framing = b"".join(b"%b: %b\r\n" % header for header in connection.headers if header[0] in FRAMING)
    parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
    return parser
