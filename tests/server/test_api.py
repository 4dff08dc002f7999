"""The HTTP API over real HTTP: routes, keys, provenance, readiness, the OpenAPI document."""

import asyncio
import gc
import re
import socket
import struct
import threading
from collections.abc import Iterator

import httpx
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from routing.embedded import EmbeddedRedis
from server.errors import BY_CODE
from tests.server.fake_worker import answer, hang
from tests.server.gateways import ACME_KEY, RIVAL_KEY, Installation, installation, publish, tiny_table, wait_until

pytestmark = pytest.mark.redis
ACME = {"Authorization": f"Bearer {ACME_KEY}"}
RIVAL = {"X-API-Key": RIVAL_KEY}


@pytest.fixture(scope="module")
def house(redis_server: EmbeddedRedis) -> Iterator[Installation]:
    with installation(redis_server.url, "test-api") as house:
        yield house


@pytest.fixture
def client(house: Installation) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=house.url, headers=ACME) as client:
        yield client


def assert_error(response: httpx.Response, status: int, code: str) -> str:
    """Every error has the one form; returns its text."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["code"] == code
    assert body["request_id"] == response.headers["x-request-id"] != ""
    assert isinstance(body["error"], str)
    return str(body["error"])


def test_classify_answers_with_labels_and_full_provenance(client: httpx.Client, house: Installation) -> None:
    response = client.post("/v1/classify", json={"domain": "home", "text": ["rain sun", "tax law"], "top_k": 2})
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["results"][0]["label"] == "weather"
    assert [r["in_scope"] for r in body["results"]] == [True, False]
    assert body["results"][0]["top"][0]["label"] == "weather"
    assert len(body["results"][0]["top"]) == 2
    assert body["ticket"] == house.fast == response.headers["x-tombola-ticket"]
    assert body["tier"] == "fast"
    assert "best ticket of tier fast" in body["because"]
    assert "parent" in body
    assert body["timings_ms"]["total"] >= body["timings_ms"]["run"] > 0
    assert body["request_id"] == response.headers["x-request-id"]


def test_one_text_may_be_sent_without_a_list_and_top_is_absent_unless_asked_for(client: httpx.Client) -> None:
    results = client.post("/v1/classify", json={"domain": "home", "text": "song"}).json()["results"]
    assert [r["label"] for r in results] == ["music"]
    assert "top" not in results[0]


def test_a_version_in_the_short_form_pins_the_ticket(client: httpx.Client, house: Installation) -> None:
    ask = {"domain": "home", "text": "song"}
    for ticket in (house.accurate, house.fast):
        pinned = client.post("/v1/classify", json=ask | {"version": ticket[:12]})
        assert (pinned.status_code, pinned.json()["ticket"]) == (200, ticket)
    unknown = client.post("/v1/classify", json=ask | {"version": "0" * 12})
    assert_error(unknown, 404, "unknown_version")


def test_the_tier_may_stand_in_the_body_or_in_a_header_and_the_body_wins(
    client: httpx.Client, house: Installation
) -> None:
    ask = {"domain": "home", "text": "song"}
    in_header = client.post("/v1/classify", json=ask, headers={"X-Tombola-Tier": "accurate"}).json()
    in_both = client.post("/v1/classify", json=ask | {"tier": "fast"}, headers={"X-Tombola-Tier": "accurate"}).json()
    assert (in_header["ticket"], in_both["ticket"]) == (house.accurate, house.fast)


def test_priority_may_stand_in_the_body_a_header_or_a_parameter(client: httpx.Client, house: Installation) -> None:
    """The body wins; the default is 2; what is no priority is refused."""
    short = {"domain": "home", "text": "song"}
    protocol = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["song"]}]}
    header = {"X-Tombola-Priority": "1"}
    client.post("/v1/classify", json=short)
    client.post("/v1/classify", json=short, headers=header)
    client.post("/v1/classify", json=short | {"priority": 3}, headers=header)
    client.post("/v2/models/home/infer", json=protocol | {"parameters": {"priority": 3}})
    client.post("/v2/models/home/infer", json=protocol | {"parameters": {"priority": 0}}, headers=header)
    assert [ask.priority for ask in house.worker.asks[-5:]] == [2, 1, 3, 3, 1]
    for wrong in ("0", "4", "high", "1.0"):
        refused = client.post("/v1/classify", json=short, headers={"X-Tombola-Priority": wrong})
        assert "X-Tombola-Priority" in assert_error(refused, 400, "bad_request")


def test_answers_tell_what_was_predicted(client: httpx.Client) -> None:
    short = client.post("/v1/classify", json={"domain": "home", "text": "song"}).json()
    assert short["timings_ms"]["predicted"] > 0
    assert "ticket" not in short["results"][0]
    protocol = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["song"]}]}
    assert client.post("/v2/models/home/infer", json=protocol).json()["parameters"]["predicted_ms"] > 0


def test_a_cascade_names_the_ticket_of_each_text(redis_url: str, namespace: str) -> None:
    texts = ["song band", "song what did you say that for"]
    with installation(redis_url, namespace) as house, httpx.Client(base_url=house.url, headers=ACME) as client:
        ask = {"domain": "home", "text": texts}
        asyncio.run(publish(redis_url, namespace, tiny_table(house.accurate, house.fast, policy="cascade")))
        wait_until(lambda: "row" in client.post("/v1/classify", json=ask).json()["because"])
        body = client.post("/v1/classify", json=ask | {"top_k": 1}).json()
    assert [result["ticket"] for result in body["results"]] == [house.fast, house.accurate]
    assert body["ticket"] == house.accurate
    assert "1 of 2 rows below confidence 0.9 were answered by the larger ticket" in body["because"]


def test_a_client_that_disconnects_takes_its_request_with_it(client: httpx.Client, house: Installation) -> None:
    """The worker hears of it at once, the metrics count it, and the gateway goes on."""
    house.worker.behave = hang
    house.worker.told.clear()
    body = b'{"domain": "home", "text": "song"}'
    asked = len(house.worker.asks)
    try:
        with socket.create_connection(house.gateway.data.getsockname()[:2]) as raw:
            raw.sendall(
                b"POST /v1/classify HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
                % (ACME_KEY.encode(), len(body), body)
            )
            wait_until(lambda: len(house.worker.asks) > asked)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(house.worker.told.is_set)
    finally:
        house.worker.behave = answer
    assert house.worker.cancelled[-1] == house.worker.asks[-1].id
    assert 'outcome="cancelled"' in httpx.get(f"{house.ops_url}/metrics").text
    assert client.post("/v1/classify", json={"domain": "home", "text": "song"}).status_code == 200


def test_a_sane_request_id_is_echoed_and_another_is_replaced(client: httpx.Client) -> None:
    ask = {"domain": "home", "text": "song"}
    assert client.post("/v1/classify", json=ask, headers={"X-Request-Id": "abc-1"}).json()["request_id"] == "abc-1"
    made = client.post("/v1/classify", json=ask, headers={"X-Request-Id": "<script>"}).json()["request_id"]
    assert made
    assert "<" not in made


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer tk_wrong"}, {"Authorization": "Basic abc"}])
def test_a_missing_or_unknown_key_is_401_on_every_route_about_models(
    house: Installation, headers: dict[str, str]
) -> None:
    ask = {"domain": "home", "text": "song"}
    with httpx.Client(base_url=house.url, headers=headers) as client:
        for response in (
            client.post("/v1/classify", json=ask), client.get("/v1/models"), client.get("/v2/models/home"),
            client.get("/v2/models/home/ready"), client.post("/v2/models/home/infer", json={}),
            client.post("/v2/repository/index"), client.post("/v2/repository/models/home/load"),
        ):  # fmt: skip
            assert_error(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"


def test_a_refused_request_leaves_the_connection_usable(client: httpx.Client) -> None:
    ask = {"domain": "home", "text": "song " * 100}
    assert_error(client.post("/v1/classify", json=ask, headers={"Authorization": "Bearer x"}), 401, "unauthorized")
    assert client.post("/v1/classify", json=ask).status_code == 200


def test_another_tenants_model_cannot_be_told_from_one_that_nobody_has(client: httpx.Client) -> None:
    for method, path, body in (
        ("GET", "/v2/models/{}", None), ("GET", "/v2/models/{}/ready", None), ("POST", "/v2/models/{}/infer", "{}"),
        ("GET", "/v2/models/{}/versions/00000000", None), ("POST", "/v2/models/{}/versions/00000000/infer", "{}"),
    ):  # fmt: skip
        texts = []
        for name in ("secret", "nobody"):
            response = client.request(method, path.format(name), content=body)
            texts.append(assert_error(response, 404, "unknown_domain").replace(name, "?"))
        assert texts[0] == texts[1] == "Request for unknown model: '?' is not found"
    for name in ("secret", "nobody"):
        assert_error(client.post("/v1/classify", json={"domain": name, "text": "x"}), 404, "unknown_domain")


def test_each_tenant_lists_its_own_models_only(house: Installation) -> None:
    with httpx.Client(base_url=house.url) as client:
        mine = client.get("/v1/models", headers=ACME).json()
        theirs = client.get("/v1/models", headers=RIVAL).json()
        index = client.post("/v2/repository/index", headers=RIVAL).json()
    assert [(m["id"], m["owned_by"]) for m in mine["data"]] == [("home", "acme")]
    assert [m["id"] for m in theirs["data"]] == ["secret"]
    assert {entry["name"] for entry in index} == {"secret"}


def test_health_and_server_metadata_need_no_key(house: Installation) -> None:
    with httpx.Client(base_url=house.url) as client:
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True, "live": True}
        server = client.get("/v2").json()
    assert server["name"] == "tombola"
    assert "binary_tensor_data" in server["extensions"]


def test_model_metadata_names_versions_inputs_and_outputs(client: httpx.Client, house: Installation) -> None:
    body = client.get("/v2/models/home").json()
    assert body["name"] == "home"
    assert body["versions"] == [house.accurate[:12], house.fast[:12]]
    assert body["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert body["outputs"][0] == {"name": "label", "datatype": "BYTES", "shape": [-1]}
    assert client.get(f"/v2/models/home/versions/{house.fast[:8]}").json()["name"] == "home"
    assert client.get(f"/v2/models/home/versions/{house.fast}/ready").json() == {"name": "home", "ready": True}


@pytest.mark.parametrize("version", ["00000000", "1", "zzzzzzzz", "f" * 65])
def test_an_unknown_version_is_404(client: httpx.Client, version: str) -> None:
    assert_error(client.get(f"/v2/models/home/versions/{version}"), 404, "unknown_version")
    assert_error(client.get(f"/v2/models/home/versions/{version}/ready"), 404, "unknown_version")
    ask = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["song"]}]}
    assert_error(client.post(f"/v2/models/home/versions/{version}/infer", json=ask), 404, "unknown_version")


def test_a_version_in_the_path_pins_the_ticket(client: httpx.Client, house: Installation) -> None:
    ask = {"id": "7", "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["song"]}]}
    body = client.post(f"/v2/models/home/versions/{house.accurate[:12]}/infer", json=ask).json()
    assert (body["id"], body["model_name"], body["model_version"]) == ("7", "home", house.accurate[:12])
    assert body["parameters"]["ticket"] == house.accurate
    assert {"parent", "tier", "because", "queue_ms", "run_ms", "total_ms"} <= body["parameters"].keys()


def test_repository_index_lists_every_version_and_loading_is_not_offered(
    client: httpx.Client, house: Installation
) -> None:
    expected = [
        {"name": "home", "version": id_[:12], "state": "READY", "reason": ""} for id_ in (house.accurate, house.fast)
    ]
    assert client.post("/v2/repository/index").json() == expected
    assert client.post("/v2/repository/index", json={"ready": True}).json() == expected
    assert_error(client.post("/v2/repository/index", json={"ready": "yes"}), 400, "bad_request")
    for action in ("load", "unload"):
        assert_error(client.post(f"/v2/repository/models/home/{action}"), 400, "unsupported")


def test_wrong_paths_and_methods_are_json_errors(client: httpx.Client) -> None:
    assert_error(client.get("/nothing"), 404, "not_found")
    for method, path, allowed in (
        ("GET", "/v1/classify", "POST"), ("GET", "/v2/models/home/infer", "POST"), ("POST", "/v2/models/home", "GET"),
        ("DELETE", "/v2", "GET"), ("PUT", "/v2/repository/index", "POST"),
    ):  # fmt: skip
        response = client.request(method, path)
        assert_error(response, 405, "method_not_allowed")
        assert allowed in response.headers["allow"]


def test_bytes_that_are_not_http_are_answered_in_json(house: Installation) -> None:
    with socket.create_connection(house.gateway.data.getsockname()[:2]) as raw:
        raw.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"code":"bad_request"' in answer


def test_headers_are_bounded(house: Installation) -> None:
    with socket.create_connection(house.gateway.data.getsockname()[:2]) as raw:
        raw.sendall(b"GET /v2 HTTP/1.1\r\nx-long: " + b"a" * (66 << 10) + b"\r\n\r\n")
        assert raw.makefile("rb").read().startswith(b"HTTP/1.1 400")


def test_without_a_worker_the_gateway_is_not_ready_and_refuses_by_name(redis_url: str, namespace: str) -> None:
    with installation(redis_url, namespace) as house, httpx.Client(base_url=house.url, headers=ACME) as client:
        house.gateway.do(house.worker.die())
        wait_until(lambda: client.get("/v2/health/ready").status_code == 503)
        assert_error(client.get("/v2/health/ready"), 503, "not_ready")
        assert_error(client.get("/v2/models/home/ready"), 503, "not_ready")
        refused = client.post("/v1/classify", json={"domain": "home", "text": "song"})
        assert_error(refused, 503, "no_worker")
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/v2/health/live").status_code == 200
        states = {entry["state"] for entry in client.post("/v2/repository/index").json()}
        assert states == {"UNAVAILABLE"}
        assert client.post("/v2/repository/index", json={"ready": True}).json() == []


def test_a_table_published_under_load_takes_effect_and_drops_nothing(redis_url: str, namespace: str) -> None:
    stop = threading.Event()
    answers: list[tuple[int, str]] = []

    def keep_asking(url: str) -> None:
        with httpx.Client(base_url=url, headers=ACME) as client:
            while not stop.is_set():
                answer = client.post("/v1/classify", json={"domain": "home", "text": "song", "top_k": 1})
                answers.append((answer.status_code, answer.text))

    with installation(redis_url, namespace) as house:
        askers = [threading.Thread(target=keep_asking, args=(house.url,)) for _ in range(3)]
        for asker in askers:
            asker.start()
        try:
            for deadline_ms in (4000.0, 3000.0, 2000.0):
                asyncio.run(publish(redis_url, namespace, tiny_table(house.accurate, house.fast, deadline_ms)))
                wait_until(lambda shown=f"{deadline_ms:g} ms": shown in answers[-1][1] if answers else False)  # type: ignore[misc]
        finally:
            stop.set()
            for asker in askers:
                asker.join(30)
    assert {status for status, _ in answers} == {200}


def test_the_openapi_document_describes_every_route_with_its_errors(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/v1/classify", "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        operation = document["paths"][path]["post"]
        assert {"200", "400", "401", "404", "413", "500", "503", "504"} <= operation["responses"].keys()
        assert operation["requestBody"]["content"]["application/json"]["example"]
        assert "X-Tombola-Priority" in [parameter["name"] for parameter in operation["parameters"]]
    assert set(document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]) == set(BY_CODE)
    assert "priority" in document["components"]["schemas"]["classify_Request"]["properties"]
    assert "/v2/health/ready" in document["paths"]
    assert "HTTPValidationError" not in str(document)
    operations = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(operations) == len(set(operations))


def test_the_docs_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    """Every address on the page is a path of this server, and is there."""
    page = client.get("/docs").text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(assets) >= 3
    for asset in assets:
        assert asset.startswith("/docs/assets/")
        assert client.get(asset).status_code == 200
    assert client.get("/docs/assets/nothing.js").json()["code"] == "not_found"


def test_every_schema_reference_of_the_openapi_document_resolves(client: httpx.Client) -> None:
    text = client.get("/openapi.json").text
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', text):
        assert name in schemas


def test_a_request_that_is_over_needs_no_garbage_collector(client: httpx.Client) -> None:
    """Left in reference cycles, ended requests stop the gateway for milliseconds whenever they are collected."""
    gc.disable()
    try:
        before = _kept_requests()
        for _ in range(30):
            assert client.post("/v1/classify", json={"domain": "home", "text": "rain"}).status_code == 200
        wait_until(lambda: _kept_requests() <= before + 2)
    finally:
        gc.enable()


def _kept_requests() -> int:
    return sum(isinstance(one, RequestResponseCycle) for one in gc.get_objects())
