"""Limits over real HTTP: what callers are told, and that a place in flight always comes back."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from routing.account import Account, Limits
from routing.change import Change
from routing.embedded import EmbeddedRedis
from routing.event import Event
from routing.store import Store
from tests.server.fake_worker import answer, fail, hang
from tests.server.gateways import ACME_KEY, RIVAL_KEY, Installation, installation, wait_until

pytestmark = pytest.mark.redis
ACME = {"Authorization": f"Bearer {ACME_KEY}"}
RIVAL = {"X-API-Key": RIVAL_KEY}
ASK = {"domain": "home", "text": "rain sun"}
NAMES = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "ratelimit-policy"]


@pytest.fixture
def house(redis_server: EmbeddedRedis, namespace: str) -> Iterator[Installation]:
    with installation(redis_server.url, namespace) as house:
        yield house


@pytest.fixture
def client(house: Installation) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=house.url, headers=ACME, timeout=30.0) as client:
        yield client


def limit(house: Installation, limits: Limits) -> None:
    """Give acme these limits, and wait until the gateway holds to them."""

    async def commit() -> None:
        store = Store.connect(house.gateway.redis_url, house.gateway.namespace)
        try:
            standing = (await store.load_accounts()).get("acme", Account(name="acme"))
            account = Account(name="acme", version=standing.version, limits=limits)
            event = Event(action="tenant.limits", actor="operator/test", tenant="acme", subject="acme")
            await store.commit(Change(event=event, accounts=(account,)))
        finally:
            await store.close()

    asyncio.run(commit())
    shown = "ratelimit-limit" if limits.rate_per_s or limits.daily_requests else ""
    with httpx.Client(base_url=house.url, headers=ACME, timeout=30.0) as client:
        if shown:  # a request that is refused for its body shows the limits too, and costs one
            wait_until(lambda: shown in client.post("/v1/classify", content=b"{").headers)
        else:

            def two() -> list[int]:
                async def both() -> list[int]:
                    async with httpx.AsyncClient(base_url=house.url, headers=ACME, timeout=30.0) as one:
                        asks = [one.post("/v1/classify", json=ASK | {"deadline_ms": 150}) for _ in range(4)]
                        return [response.status_code for response in await asyncio.gather(*asks)]

                return asyncio.run(both())

            house.worker.behave = hang
            wait_until(lambda: 429 in two())
            house.worker.behave = answer


def test_answers_of_a_tenant_without_limits_say_nothing_of_them(client: httpx.Client) -> None:
    response = client.post("/v1/classify", json=ASK)
    assert response.status_code == 200
    assert not set(NAMES) & set(response.headers)


def test_answers_and_refusals_tell_the_limits(house: Installation, client: httpx.Client) -> None:
    limit(house, Limits(rate_per_s=0.5, burst=8))
    seen = []
    for _ in range(12):
        seen.append(client.post("/v1/classify", json=ASK))
        if seen[-1].status_code == 429:
            break
    good, bad = seen[0], seen[-1]
    assert good.status_code == 200
    assert good.headers["ratelimit-limit"] == "8"
    assert 0 <= int(good.headers["ratelimit-remaining"]) < 8
    assert 0 <= int(good.headers["ratelimit-reset"]) <= 16
    assert good.headers["ratelimit-policy"] == "1;w=2;burst=8"
    assert bad.status_code == 429
    assert bad.json()["code"] == "rate_limited"
    assert bad.json()["error"] == "the rate of 0.5 requests per second (burst 8) is used up (limit: rate)"
    assert bad.headers["ratelimit-remaining"] == "0"
    assert bad.headers["retry-after"] == bad.headers["ratelimit-reset"] == "2"
    assert [name in bad.headers for name in NAMES] == [True] * 4


def test_the_protocols_route_counts_and_the_others_do_not(house: Installation, client: httpx.Client) -> None:
    limit(house, Limits(daily_requests=5))
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["rain sun"]}
    for _ in range(10):
        assert client.get("/v2/models/home").status_code == 200
    statuses = [client.post("/v2/models/home/infer", json={"inputs": [tensor]}).status_code for _ in range(10)]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    refused = client.post("/v1/classify", json=ASK)
    assert refused.status_code == 429
    assert refused.headers["ratelimit-policy"] == "5;w=86400"
    assert "limit: day" in refused.json()["error"]
    assert client.get("/v2/models/home").status_code == 200


def test_another_tenant_and_unknown_keys_have_nothing_to_do_with_it(house: Installation, client: httpx.Client) -> None:
    limit(house, Limits(daily_requests=1))
    assert client.post("/v1/classify", json=ASK).status_code == 429
    assert httpx.post(f"{house.url}/v1/classify", json=ASK | {"domain": "secret"}, headers=RIVAL).status_code == 200
    unknown = httpx.post(f"{house.url}/v1/classify", json=ASK, headers={"X-API-Key": "tk_" + "x" * 43})
    assert unknown.status_code == 401
    assert not set(NAMES) & set(unknown.headers)


def test_a_refusal_is_accounted_for(house: Installation, client: httpx.Client) -> None:
    limit(house, Limits(daily_requests=1))
    assert client.post("/v1/classify", json=ASK).status_code == 429
    page = httpx.get(f"{house.ops_url}/metrics").text
    assert 'outcome="rate_limited"' in page


def test_a_place_in_flight_comes_back_however_the_request_ends(house: Installation, client: httpx.Client) -> None:
    """Bad bodies, failures, expired deadlines and clients that go away: then as many as ever fit in."""
    limit(house, Limits(concurrency=2))
    for number in range(24):
        house.worker.behave = [fail("inference_failed"), hang, answer][number % 3]
        body = b"{" if number % 4 == 0 else b'{"domain":"home","text":"rain","deadline_ms":30}'
        assert client.post("/v1/classify", content=body).status_code in (200, 400, 500, 503, 504)
    house.worker.behave = hang
    for number in range(12):
        _leave(house.url, whole=number % 2 == 0)
    house.worker.behave = answer

    def all_fit() -> bool:
        return all(client.post("/v1/classify", json=ASK).status_code == 200 for _ in range(20))

    wait_until(all_fit)


def _leave(url: str, *, whole: bool) -> None:
    """Send a request, or half of one, and go away."""
    body = b'{"domain":"home","text":"rain","deadline_ms":60000}'
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    with contextlib.closing(socket.create_connection((address.hostname, address.port))) as peer:
        head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nX-API-Key: {ACME_KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        peer.sendall(head.encode() + (body if whole else body[:10]))
