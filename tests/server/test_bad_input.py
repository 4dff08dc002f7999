"""Every bad input of the API, over real HTTP: the right status, the one error form, and the gateway lives on."""

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from routing.embedded import EmbeddedRedis
from server import edge
from tests.server.fake_worker import answer, fail
from tests.server.gateways import ACME_KEY, Installation, installation
from tests.server.test_api import assert_error

pytestmark = pytest.mark.redis
ACME = {"Authorization": f"Bearer {ACME_KEY}"}
INFER = "/v2/models/home/infer"
LIMIT = 64 << 10


@pytest.fixture(scope="module")
def house(redis_server: EmbeddedRedis) -> Iterator[Installation]:
    with installation(redis_server.url, "test-bad-input", max_body_bytes=LIMIT) as house:
        yield house


@pytest.fixture
def client(house: Installation) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=house.url, headers=ACME) as client:
        yield client
        good = client.post("/v1/classify", json={"domain": "home", "text": "song"})
        assert good.status_code == 200, "the gateway does not serve any more"


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["song"]} | changes]}


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"text": "song"}, "domain"),
        ({"domain": "home"}, "text"),
        ({"domain": "home", "text": 5}, "text"),
        ({"domain": "home", "text": {"a": 1}}, "text"),
        ({"domain": "home", "text": "song", "tier": 1}, "tier"),
        ({"domain": "home", "text": "song", "top_k": "2"}, "top_k"),
        ({"domain": "home", "text": ""}, "empty"),
        ({"domain": "home", "text": "  \n"}, "empty"),
        ({"domain": "home", "text": []}, "0 texts"),
        ({"domain": "home", "text": ["a"] * 129}, "128"),
        ({"domain": "home", "text": "a" * 16385}, "16384"),
        ({"domain": "home", "text": "a\0b"}, "NUL"),
        ({"domain": "home", "text": "song", "deadline_ms": -1}, "deadline_ms"),
        ({"domain": "home", "text": "song", "deadline_ms": "soon"}, "deadline_ms"),
    ],
)
def test_a_bad_short_request_is_400_and_names_what_is_wrong(
    client: httpx.Client, body: dict[str, Any], names: str
) -> None:
    assert names in assert_error(client.post("/v1/classify", json=body), 400, "bad_request")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"not json", b"\xff\xfe\x00", b'{"domain": "home", "text": "\xff"}',
        b'{"domain": "home", "text": "\\udc00"}',
        b'{"domain": "home", "text": "song", "deadline_ms": NaN}', b"[" * 60_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/classify", INFER])
def test_a_body_that_is_not_json_or_not_utf8_is_400(client: httpx.Client, path: str, body: bytes) -> None:
    assert_error(client.post(path, content=body), 400, "bad_request")


@pytest.mark.parametrize(
    "body",
    [
        {},
        tensor(datatype="INT64"),
        tensor(datatype="NOPE"),
        tensor(shape=[2]),
        tensor(shape=[-1]),
        tensor(shape=[1, 1]),
        tensor(shape=[1.5]),
        tensor(data=[5]),
        tensor(data="song"),
        tensor(data=[" "]),
        tensor(name="other"),
        tensor() | {"outputs": [{"name": "other"}]},
        tensor() | {"parameters": {"deadline_ms": "x"}},
        tensor() | {"parameters": {"deadline_ms": -3}},
        tensor(parameters={"binary_data_size": 8}),
    ],
)
def test_a_bad_protocol_request_is_400(client: httpx.Client, body: dict[str, Any]) -> None:
    assert_error(client.post(INFER, json=body), 400, "bad_request")


@pytest.mark.parametrize(("header", "binary"), [("x", b""), ("-1", b""), ("100000", b""), ("", b""), (None, b"1234")])
def test_wrong_binary_lengths_are_400(client: httpx.Client, header: str | None, binary: bytes) -> None:
    content = json.dumps(tensor()).encode() + binary
    length = str(len(content) - len(binary)) if header is None else header
    response = client.post(INFER, content=content, headers={"Inference-Header-Content-Length": length})
    assert_error(response, 400, "bad_request")


def test_an_unknown_tier_is_404_in_both_forms(client: httpx.Client) -> None:
    ask = {"domain": "home", "text": "song", "tier": "gold"}
    assert_error(client.post("/v1/classify", json=ask), 404, "unknown_tier")
    assert_error(client.post(INFER, json=tensor() | {"parameters": {"tier": "gold"}}), 404, "unknown_tier")
    assert_error(client.post(INFER, json=tensor(), headers={b"X-Tombola-Tier": b"\xff"}), 404, "unknown_tier")


def test_a_deadline_of_zero_is_504_and_reaches_no_worker(client: httpx.Client, house: Installation) -> None:
    before = len(house.worker.asks)
    zero = {"deadline_ms": 0}
    ask = {"domain": "home", "text": "song"}
    assert_error(client.post("/v1/classify", json=ask | zero), 504, "deadline_exceeded")
    assert_error(client.post(INFER, json=tensor() | {"parameters": zero}), 504, "deadline_exceeded")
    header = {"X-Tombola-Deadline-Ms": "0"}
    assert_error(client.post("/v1/classify", json=ask, headers=header), 504, "deadline_exceeded")
    assert len(house.worker.asks) == before


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "soon", ""])
def test_a_deadline_header_that_is_no_number_is_400(client: httpx.Client, value: str) -> None:
    response = client.post(INFER, json=tensor(), headers={"X-Tombola-Deadline-Ms": value})
    assert "X-Tombola-Deadline-Ms" in assert_error(response, 400, "bad_request")


@pytest.mark.parametrize("path", ["/v1/classify", INFER, "/v2/repository/index"])
def test_a_body_over_the_limit_is_413_with_a_declared_length_or_in_chunks(client: httpx.Client, path: str) -> None:
    body = b" " * (LIMIT + 1)
    assert str(LIMIT) in assert_error(client.post(path, content=body), 413, "too_large")
    chunks = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
    assert_error(client.post(path, content=chunks), 413, "too_large")


def test_a_body_at_the_limit_is_read(client: httpx.Client) -> None:
    body = json.dumps({"domain": "home", "text": "song"}).encode()
    assert client.post("/v1/classify", content=body + b" " * (LIMIT - len(body))).status_code == 200


def test_a_length_over_the_limit_is_refused_without_waiting_for_the_bytes(house: Installation) -> None:
    """With Expect: 100-continue the client learns the refusal before it sends anything."""
    with socket.create_connection(house.gateway.data.getsockname()[:2], timeout=30) as raw:
        head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ACME_KEY}\r\nExpect: 100-continue\r\n"
        raw.sendall((head + "Content-Length: 99999999\r\n\r\n").encode())
        answer = raw.makefile("rb").read()  # to the end: the connection is closed
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in answer


def test_a_body_that_does_not_arrive_is_given_up(house: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODY_S", 0.1)
    for length in ("Content-Length: 1000", "Transfer-Encoding: chunked"):
        with socket.create_connection(house.gateway.data.getsockname()[:2], timeout=30) as raw:
            head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ACME_KEY}\r\n"
            raw.sendall((head + length + "\r\n\r\n").encode())
            answer = raw.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"did not arrive" in answer


def test_a_client_that_leaves_in_the_middle_of_its_body_costs_nothing(
    client: httpx.Client, house: Installation
) -> None:
    for _ in range(5):
        with socket.create_connection(house.gateway.data.getsockname()[:2], timeout=30) as raw:
            head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ACME_KEY}\r\n"
            raw.sendall((head + "Content-Length: 1000\r\n\r\n{").encode())
    page = httpx.get(f"{house.ops_url}/metrics").text
    assert 'tombola_requests_in_flight{process="gw"} 0' in page


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_is_read(client: httpx.Client, encoding: str) -> None:
    plain = json.dumps({"domain": "home", "text": "song"}).encode()
    packed = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)
    response = client.post("/v1/classify", content=packed, headers={"Content-Encoding": encoding})
    assert response.json()["results"][0]["label"] == "music"


def test_a_body_that_inflates_over_the_limit_is_413_and_bad_compression_400(client: httpx.Client) -> None:
    bomb = gzip.compress(b" " * (50 << 20))
    assert len(bomb) < LIMIT
    headers = {"Content-Encoding": "gzip"}
    assert_error(client.post("/v1/classify", content=bomb, headers=headers), 413, "too_large")
    for broken in (b"not gzip", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") + b"x", b""):
        assert_error(client.post("/v1/classify", content=broken, headers=headers), 400, "bad_request")
    headers = {"Content-Encoding": "br"}
    assert_error(client.post("/v1/classify", content=b"x", headers=headers), 400, "bad_request")


def test_a_worker_that_answers_nonsense_is_a_500_that_says_nothing_of_the_inside(
    client: httpx.Client, house: Installation
) -> None:
    house.worker.behave = fail("inference_failed")
    try:
        ask = {"domain": "home", "text": "song"}
        assert_error(client.post("/v1/classify", json=ask), 500, "inference_failed")
    finally:
        house.worker.behave = answer
