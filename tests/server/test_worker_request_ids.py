"""Request ids end to end: what a worker logs of an ask that failed there names the gateway's request."""

import msgspec
import structlog
from structlog.testing import capture_logs

import server.runner
from tests.server.conftest import MakeClient, MakeWorker
from tests.server.peers import ask
from tests.server.steps import queued, stepped, still_worker
from tests.tiny import tiny_manifest, tiny_onnx, tiny_tokenizer
from tickets.bundle import pack
from tickets.registry import Registry


async def test_a_failed_ask_is_logged_with_its_request_id(
    make_worker: MakeWorker, make_client: MakeClient, registry: Registry, monkeypatch: object
) -> None:
    tokenizer = tiny_tokenizer().replace(b'"law":11', b'"poison":4000').replace(b'"law": 11', b'"poison": 4000')
    poisoned = registry.put(pack(tiny_manifest(), {"model.onnx": tiny_onnx(), "tokenizer.json": tokenizer}))
    worker, client = await still_worker(make_worker, make_client, poisoned)
    fine, wrong = ask(1, poisoned, "rain"), ask(2, poisoned, "poison")
    client.send(msgspec.structs.replace(fine, request_id="mine-1"), msgspec.structs.replace(wrong, request_id="mine-2"))
    await queued(worker, 2)
    server.runner.log = structlog.get_logger()  # one that no configuration has settled yet
    with capture_logs() as logs:
        assert await stepped(worker)
    assert (await client.failure(2)).code == "inference_failed"
    failed = [line for line in logs if line["event"] == "inference_failed"]
    assert [line["request_id"] for line in failed] == ["mine-2"]
