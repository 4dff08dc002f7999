"""FastAPI and ONNX Runtime on uvicorn, in the three ways people write it.

``--mode inline``: an async route that runs the model on the event loop. ``threads``: a plain route, which
FastAPI runs in its thread pool. ``batch``: an async route that queues the text; one thread runs
whatever is queued, up to 32 texts, as soon as it is free. ``--limit`` counts the requests in flight and
answers 503 beyond: uvicorn's own limit counts idle keep-alive connections too.
"""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from loadtest.peers.model import Answer, Ticket

MAX_BATCH_TEXTS = 32


class Question(BaseModel):
    """The request."""

    text: str


class Reply(BaseModel):
    """The response."""

    label: str
    probability: float
    in_scope: bool


class Batcher:
    """Runs what is queued as one batch, as soon as its one thread is free: no wait window."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._queue: asyncio.Queue[tuple[str, asyncio.Future[Answer]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)

    async def classify(self, text: str) -> Answer:
        """The answer to one text."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((text, future))
        return await future

    async def run(self) -> None:
        """Batch after batch, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._queue.get()]
            while len(batch) < MAX_BATCH_TEXTS and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            answers = await loop.run_in_executor(self._thread, self._ticket.classify, [text for text, _ in batch])
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


def app() -> FastAPI:
    """The application, as the environment variables PEER_TICKET, PEER_MODE and PEER_LIMIT ask for it."""
    ticket, mode = Ticket(os.environ["PEER_TICKET"]), os.environ["PEER_MODE"]
    batcher, limit = Batcher(ticket), int(os.environ["PEER_LIMIT"])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()

    async def inline(question: Question) -> Reply:
        return Reply(**ticket.classify([question.text])[0])

    def threads(question: Question) -> Reply:
        return Reply(**ticket.classify([question.text])[0])

    async def batch(question: Question) -> Reply:
        return Reply(**await batcher.classify(question.text))

    in_flight = 0

    async def bounded(question: Question) -> Reply:
        nonlocal in_flight
        if in_flight >= limit:
            raise HTTPException(503, headers={"Retry-After": "1"})
        in_flight += 1
        try:
            # What runs on the event loop waits in sockets, where nobody can count it: so not `inline` here.
            return await (batch(question) if mode == "batch" else run_in_threadpool(threads, question))
        finally:
            in_flight -= 1

    routes: dict[str, Callable[[Question], Reply | Awaitable[Reply]]] = {
        "inline": inline,
        "threads": threads,
        "batch": batch,
    }
    application = FastAPI(lifespan=lifespan)
    application.post("/classify")(bounded if limit else routes[mode])
    return application


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ticket", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mode", default="inline")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=int, default=0, help="Requests in flight before 503 is answered.")
    args = parser.parse_args()
    os.environ.update(PEER_TICKET=args.ticket, PEER_MODE=args.mode, PEER_LIMIT=str(-(-args.limit // args.workers)))
    uvicorn.run(
        "loadtest.peers.programs.fastapi_app:app",
        factory=True, port=args.port, workers=args.workers, loop="uvloop", http="httptools",
        access_log=False, log_level="warning",
    )  # fmt: skip


if __name__ == "__main__":
    main()
