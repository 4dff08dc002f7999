"""A worker with a ticket of tensors, through real sockets: asks share batches, and a bad one fails alone."""

import numpy as np
from onnx import TensorProto, helper

from server import wire
from server.tensor import Tensor, from_array, to_array
from tests import models
from tests.models import MLP_CASE, MLP_MANIFEST, tensor, tensors_bundle, tensors_manifest
from tests.server.conftest import MakeClient, MakeWorker
from tests.server.peers import output
from tests.server.steps import queued, stepped
from tickets.bundle import pack
from tickets.manifest import Manifest
from tickets.registry import Registry
from tickets.tensor_samples import Recorded, encode_cases


def put(registry: Registry, manifest: Manifest, graph: bytes, case: Recorded) -> str:
    assert tensors_bundle(manifest, graph, [case])
    return registry.put(pack(manifest, {"model.onnx": graph, "samples.json": encode_cases([case])}))


def ask(ask_id: int, ticket: str, *inputs: Tensor) -> wire.Ask:
    return wire.Ask(ask_id, ticket, "acme", 60_000.0, list(inputs), [], 2, False)


def person(age: float, *incomes: float) -> tuple[Tensor, Tensor]:
    ages = from_array("ages", "FP32", np.array([[age]], np.float32))
    return ages, from_array("incomes", "FP32", np.array([incomes], np.float32))


async def test_asks_of_tensors_share_a_batch_and_a_bad_one_is_answered_alone(
    make_worker: MakeWorker, make_client: MakeClient, registry: Registry
) -> None:
    ticket = put(registry, MLP_MANIFEST, models.mlp(), MLP_CASE)
    worker, address = await make_worker(run_thread=False)
    client = await make_client(address)
    client.send(*(ask(k, ticket, *person(k, k, k)) for k in range(1, 6)), ask(9, ticket, *person(1, 2, 3, 4)))
    await queued(worker, 5)
    assert await stepped(worker)
    answers = [await client.answer(k) for k in range(1, 6)]
    assert {answer.batch_texts for answer in answers} == {5}
    assert [to_array(output(answer, "scores")).tolist() for answer in answers] == [
        [[k - 1, 2 * k]] for k in range(1, 6)
    ]
    failure = await client.failure(9)
    assert failure.code == "bad_request"
    assert "incomes" in failure.message


async def test_a_row_that_the_graph_cannot_run_takes_nobody_with_it(
    make_worker: MakeWorker, make_client: MakeClient, registry: Registry
) -> None:
    """An index beyond the table fails the whole call; its neighbours are run again without it."""
    graph = models.model(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        {"x": (TensorProto.INT64, ["n"])}, {"y": (TensorProto.FLOAT, ["n"])}, table=np.arange(3, dtype=np.float32),
    )  # fmt: skip
    manifest = tensors_manifest([tensor("x", "INT64", -1)], [tensor("y", "FP32", -1)])
    case = Recorded(inputs={"x": np.array([2])}, outputs={"y": np.array([2], np.float32)})
    ticket = put(registry, manifest, graph, case)
    worker, address = await make_worker(run_thread=False)
    client = await make_client(address)
    client.send(*(ask(k, ticket, from_array("x", "INT64", np.array([row]))) for k, row in enumerate((1, 99, 2))))
    await queued(worker, 3)
    assert await stepped(worker)
    assert to_array(output(await client.answer(0), "y")).tolist() == [1.0]
    assert to_array(output(await client.answer(2), "y")).tolist() == [2.0]
    assert (await client.failure(1)).code == "inference_failed"
