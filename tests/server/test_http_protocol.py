"""Connections that are slow, greedy or strange, over real sockets: bounded, answered where HTTP says so."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator

import httpx
import pytest

from routing.embedded import EmbeddedRedis
from server import http_protocol
from server.http_protocol import HttpProtocol
from tests.server.gateways import ACME_KEY, Installation, installation, wait_until

pytestmark = pytest.mark.redis
BODY = json.dumps({"domain": "home", "text": "song"}).encode()
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
Connect = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def house(redis_server: EmbeddedRedis) -> Iterator[Installation]:
    with installation(redis_server.url, "test-http-protocol") as house:
        yield house


@pytest.fixture
def connect(house: Installation) -> Iterator[Connect]:
    """Open connections; afterwards the gateway must still answer."""
    opened: list[socket.socket] = []

    def one() -> socket.socket:
        opened.append(socket.create_connection(house.gateway.data.getsockname()[:2], timeout=30))
        return opened[-1]

    yield one
    for connection in opened:
        connection.close()
    assert httpx.get(f"{house.url}/v2/health/live").status_code == 200


def classify(*headers: str, body: bytes = BODY) -> bytes:
    lines = ["POST /v1/classify HTTP/1.1", "Host: x", f"Authorization: Bearer {ACME_KEY}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(BODY)}", "", ""]).encode() + body


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    with connection.makefile("rb") as file:
        return file.read()


def test_a_head_that_does_not_arrive_is_given_up(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.1)
    slow = connect()
    slow.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nX-A: ")
    answer = read_all(slow)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"did not arrive" in answer
    assert b'"code":"bad_request"' in answer


def test_a_connection_that_says_nothing_is_closed(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.1)
    assert read_all(connect()) == b""


def test_a_second_head_on_a_connection_has_no_more_time_than_the_first(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.1)
    slow = connect()
    slow.sendall(LIVE + b"GET /v2 HT")
    answer = read_all(slow)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"did not arrive" in answer


def test_the_time_for_a_head_ends_with_the_head(
    connect: Connect, house: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body may take longer than a head, and a connection may rest between requests."""
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.1)
    patient = connect()
    patient.sendall(classify(body=b""))
    house.gateway.do(pause(0.3))
    patient.sendall(BODY)
    assert patient.recv(1 << 16).startswith(b"HTTP/1.1 200")
    house.gateway.do(pause(0.3))
    patient.sendall(LAST)
    assert read_all(patient).startswith(b"HTTP/1.1 200")


def test_a_client_that_reads_nothing_is_cut_off(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "UNREAD_S", 0.2)
    deaf = connect()

    def ask_for_ever() -> None:  # answers fill all buffers, then the requests do
        while True:
            deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)

    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        ask_for_ever()


def test_requests_sent_ahead_are_answered_in_order_and_few_take_memory_at_a_time(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []
    complete = HttpProtocol.on_response_complete

    def watched(self: HttpProtocol) -> None:
        waiting.append(len(self.pipeline))
        complete(self)

    monkeypatch.setattr(HttpProtocol, "on_response_complete", watched)
    count = 2000
    ahead = connect()
    requests = b"".join(b"GET /nowhere/%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(count)) + LAST
    ahead.sendall(requests)
    answer = read_all(ahead)
    assert answer.count(b"HTTP/1.1 404") == count
    assert answer.count(b"HTTP/1.1 200") == 1
    places = [answer.find(b"/nowhere/%d;" % i) for i in range(count)]
    assert places == sorted(places)
    assert max(waiting) < count / 4


def test_the_client_that_has_finished_sending_is_answered(connect: Connect) -> None:
    """Closing one direction (`nc -N` does) is not leaving."""
    for requests in (classify(), LIVE * 3 + classify(), LIVE * 500):
        finished = connect()
        finished.sendall(requests)
        finished.shutdown(socket.SHUT_WR)
        answer = read_all(finished)
        assert answer.count(b"HTTP/1.1 200") == requests.count(b"HTTP/1.1\r\n")


def test_a_client_that_finishes_sending_inside_a_request_is_let_go(connect: Connect) -> None:
    for part in (b"GET /v2 HT", classify(body=BODY[:-3])):
        gone = connect()
        gone.sendall(part)
        gone.shutdown(socket.SHUT_WR)
        assert read_all(gone) == b""


@pytest.mark.parametrize("offer", ["h2c", "websocket"])
def test_an_offer_to_upgrade_is_ignored_and_the_request_answered(connect: Connect, offer: str) -> None:
    """Java's HTTP client offers h2c with its first request, body and all."""
    headers = (f"Upgrade: {offer}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__")
    upgrading = connect()
    upgrading.sendall(classify(*headers, body=BODY[:5]))
    upgrading.sendall(BODY[5:] + classify(*headers) + LAST)
    answer = read_all(upgrading)
    assert answer.count(b"HTTP/1.1 200") == 3, answer
    assert answer.count(b'"label":"music"') == 2


def test_a_chunked_body_after_an_offer_to_upgrade_is_read(connect: Connect) -> None:
    head = (
        f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ACME_KEY}\r\nTransfer-Encoding: chunked\r\n"
    )
    upgrading = connect()
    upgrading.sendall((head + "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n").encode())
    upgrading.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) + LAST)
    answer = read_all(upgrading)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b'"label":"music"' in answer


def test_a_client_that_leaves_before_its_answers_is_no_error(
    connect: Connect, house: Installation, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(5):
        gone = connect()
        gone.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
        gone.recv(100)
        gone.close()
    wait_until(lambda: httpx.get(f"{house.url}/v2/health/live").status_code == 200)
    written = capfd.readouterr()
    assert "Traceback" not in written.err + written.out


def test_too_many_connections_are_refused_by_name_and_room_is_made_again(redis_url: str, namespace: str) -> None:
    with installation(redis_url, namespace, max_connections=5) as house:
        where = house.gateway.data.getsockname()[:2]
        full = [socket.create_connection(where, timeout=30) for _ in range(5)]
        for connection in full:
            connection.sendall(LIVE)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        with socket.create_connection(where, timeout=30) as one_more:
            answer = read_all(one_more)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b'"code":"overloaded"' in answer
        assert httpx.get(f"{house.ops_url}/v2/health/live").status_code == 200
        for connection in full:
            connection.close()
        wait_until(lambda: httpx.get(f"{house.url}/v2/health/live").status_code == 200)


async def pause(seconds: float) -> None:
    """Let the gateway's loop run."""
    await asyncio.sleep(seconds)
