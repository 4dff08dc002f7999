"""KServe's Python server: a Model with `predict`, asked by the Open Inference Protocol.

KServe's batcher is a side-car in Go for its V1 protocol; its Python server runs one request at a time. With
``--threads`` the model runs beside the event loop, else on it.
"""

import argparse
import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kserve
from kserve import InferOutput, InferRequest, InferResponse

from loadtest.peers.model import Ticket

NAME = "ticket"


class TicketModel(kserve.Model):
    """One request is one or more texts."""

    def __init__(self, folder: str, threads: int) -> None:
        super().__init__(NAME)
        self._folder = folder
        self._thread_count = threads
        self._threads: ThreadPoolExecutor | None = None
        self._ticket: Ticket | None = None

    def load(self) -> bool:  # noqa: D102
        self.ready = True
        return True

    def _open(self) -> Ticket:
        """Opened on first use: KServe pickles the model to send it to its worker processes."""
        if self._ticket is None:
            self._ticket = Ticket(self._folder)
            self._threads = ThreadPoolExecutor(self._thread_count) if self._thread_count else None
        return self._ticket

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:  # noqa: ANN401, D102
        ticket, texts = self._open(), payload.inputs[0].data
        if self._threads is None:
            answers = ticket.classify(texts)
        else:
            loop = asyncio.get_running_loop()
            answers = await loop.run_in_executor(self._threads, ticket.classify, texts)
        rows = [len(answers)]
        return InferResponse(
            response_id=payload.id or str(uuid.uuid4()),
            model_name=NAME,
            infer_outputs=[
                InferOutput("label", rows, "BYTES", data=[answer["label"] for answer in answers]),
                InferOutput("probability", rows, "FP32", data=[answer["probability"] for answer in answers]),
                InferOutput("in_scope", rows, "BOOL", data=[answer["in_scope"] for answer in answers]),
            ],
        )


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ticket", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    model = TicketModel(args.ticket, args.threads)
    model.load()
    kserve.ModelServer(
        http_port=args.port, workers=args.workers, enable_grpc=False, enable_latency_logging=False,
        access_log_format=None, event_loop="uvloop",
    ).start([model])  # fmt: skip


if __name__ == "__main__":
    main()
