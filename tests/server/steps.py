"""A worker in this process that runs only when told to, for tests that say what happens in which order."""

import asyncio
from typing import Any

from server import wire
from server.tensor import decode_bytes
from server.worker import Worker
from tests.server.conftest import MakeClient, MakeWorker
from tests.server.peers import WireClient, ask, eventually, output


def label(answer: wire.Answer, row: int = 0) -> str:
    tensor = output(answer, "label")
    return decode_bytes(tensor.data, tensor.shape[0])[row].decode()


async def ready(client: WireClient, ticket: str) -> None:
    """Have the ticket loaded and warmed by one ask (which needs a run thread, or a step)."""
    client.send(ask(999_999, ticket, "rain"))
    await client.answer(999_999)
    client.order.clear()


async def queued(worker: Worker, texts: int) -> None:
    """Wait until so many texts are queued for the run thread, which the test has not started."""
    await eventually(lambda: worker.runner.queue_texts() >= texts)


async def stepped(worker: Worker) -> bool:
    return await asyncio.to_thread(worker.runner.step)


async def still_worker(
    make_worker: MakeWorker, make_client: MakeClient, *tickets: str, **options: Any
) -> tuple[Worker, WireClient]:
    """A worker that runs only when told to, with these tickets loaded, and a client."""
    worker, address = await make_worker(run_thread=False, **options)
    client = await make_client(address)
    for ticket in tickets:
        client.send(ask(999_999, ticket, "rain"))
        await queued(worker, 1)
        assert await stepped(worker)
        await client.answer(999_999)
        client.replies.clear()
    client.order.clear()
    return worker, client
