"""Clients that others wrote, unmodified, against a real gateway: tritonclient and kserve."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from routing.embedded import EmbeddedRedis
from tests.server.gateways import ACME_KEY, Installation, installation

triton = pytest.importorskip("tritonclient.http")
kserve = pytest.importorskip("kserve")
from tritonclient.utils import InferenceServerException  # noqa: E402

pytestmark = pytest.mark.redis
TEXTS = ["rain sun", "song band song"]


@pytest.fixture(scope="module")
def house(redis_server: EmbeddedRedis) -> Iterator[Installation]:
    with installation(redis_server.url, "test-clients") as house:
        yield house


@pytest.fixture
def client(house: Installation) -> Iterator[Any]:
    client = triton.InferenceServerClient(house.url.removeprefix("http://"))
    yield client
    client.close()


def key() -> dict[str, str]:
    """A dictionary of its own for each call: tritonclient adds to the one it is given."""
    return {"Authorization": f"Bearer {ACME_KEY}"}


def triton_input(*, is_binary: bool) -> Any:
    tensor = triton.InferInput("text", [len(TEXTS)], "BYTES")
    tensor.set_data_from_numpy(np.array([t.encode() for t in TEXTS], dtype=np.object_), binary_data=is_binary)
    return tensor


def labels_of(array: Any) -> list[str]:
    return [e.decode() if isinstance(e, bytes) else e for e in array.tolist()]


def test_triton_health_and_metadata(client: Any, house: Installation) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("home", headers=key())
    assert client.is_model_ready("home", house.fast[:12], headers=key())
    assert not client.is_model_ready("nobody", headers=key())
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("home", headers=key())
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    index = client.get_model_repository_index(headers=key())
    assert {entry["state"] for entry in index} == {"READY"}


@pytest.mark.parametrize("input_binary", [True, False])
@pytest.mark.parametrize("output_binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_triton_inference(client: Any, input_binary: bool, output_binary: bool, compression: str | None) -> None:
    names = ["label", "probability", "in_scope", "probabilities"]
    outputs = [triton.InferRequestedOutput(name, binary_data=output_binary) for name in names]
    result = client.infer(
        "home", [triton_input(is_binary=input_binary)], outputs=outputs, request_id="r-1", headers=key(),
        request_compression_algorithm=compression,
    )  # fmt: skip
    assert labels_of(result.as_numpy("label")) == ["weather", "music"]
    assert result.as_numpy("in_scope").tolist() == [True, True]
    assert result.as_numpy("probabilities").shape == (2, 3)
    assert result.as_numpy("probability").dtype == np.float32
    assert result.get_response()["id"] == "r-1"


def test_triton_without_outputs_gets_them_all(client: Any) -> None:
    result = client.infer("home", [triton_input(is_binary=True)], headers=key())
    assert {output["name"] for output in result.get_response()["outputs"]} >= {"label", "in_scope_score"}


def test_triton_versions_parameters_and_timeout(client: Any, house: Installation) -> None:
    inputs = [triton_input(is_binary=True)]
    pinned = client.infer("home", inputs, model_version=house.accurate[:12], headers=key()).get_response()
    assert pinned["model_version"] == house.accurate[:12]
    tiered = client.infer("home", inputs, parameters={"tier": "accurate"}, headers=key()).get_response()
    assert tiered["parameters"]["ticket"] == house.accurate
    in_time = client.infer("home", inputs, timeout=4_000_000, headers=key()).get_response()
    assert "4000 ms" in in_time["parameters"]["because"]


def test_triton_asynchronous_inference(client: Any) -> None:
    pending = [client.async_infer("home", [triton_input(is_binary=True)], headers=key()) for _ in range(4)]
    assert [labels_of(p.get_result().as_numpy("label")) for p in pending] == [["weather", "music"]] * 4


def test_triton_sees_errors_as_its_own_exceptions(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="Request for unknown model"):
        client.infer("nobody", [triton_input(is_binary=True)], headers=key())
    with pytest.raises(InferenceServerException, match="API key"):
        client.infer("home", [triton_input(is_binary=True)])
    with pytest.raises(InferenceServerException, match="on demand"):
        client.load_model("home", headers=key())
    wrong = triton.InferInput("text", [1], "INT32")
    wrong.set_data_from_numpy(np.ones(1, np.int32))
    with pytest.raises(InferenceServerException, match="data-type is 'INT32'"):
        client.infer("home", [wrong], headers=key())


async def test_kserve_health_and_inference(house: Installation) -> None:
    client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
    try:
        assert await client.is_server_live(house.url)
        assert await client.is_server_ready(house.url)
        assert await client.is_model_ready(house.url, "home", headers=key())
        for is_binary in (False, True):
            tensor = kserve.InferInput("text", [2], "BYTES")
            tensor.set_data_from_numpy(np.array([t.encode() for t in TEXTS], np.object_), binary_data=is_binary)
            request = kserve.InferRequest("home", [tensor], request_id="k-1")
            answer = await client.infer(house.url, request, "home", headers=key())
            assert answer.id == "k-1"
            assert answer.model_name == "home"
            label = next(output for output in answer.outputs if output.name == "label")
            assert labels_of(label.as_numpy()) == ["weather", "music"]
    finally:
        await client.close()
