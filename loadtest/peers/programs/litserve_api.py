"""LitServe: a LitAPI with batching, as its documentation shows it."""

import argparse
import os
from typing import Any

import litserve

from loadtest.peers.model import Answer, Ticket


class TicketApi(litserve.LitAPI):
    """One request is one text; LitServe makes the batches."""

    def setup(self, device: str) -> None:  # noqa: D102 - LitServe's interface
        self.ticket = Ticket(os.environ["PEER_TICKET"])

    def decode_request(self, request: dict[str, Any]) -> str:  # noqa: D102
        return str(request["text"])

    def batch(self, inputs: list[str]) -> list[str]:  # noqa: D102
        return inputs

    def predict(self, x: Any) -> Any:  # noqa: ANN401, D102
        return self.ticket.classify([x])[0] if isinstance(x, str) else self.ticket.classify(x)

    def unbatch(self, output: list[Answer]) -> list[Answer]:  # noqa: D102
        return output

    def encode_response(self, output: Answer) -> Answer:  # noqa: D102
        return output


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ticket", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batch-timeout-s", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--fast-queue", action="store_true")
    args = parser.parse_args()
    os.environ["PEER_TICKET"] = args.ticket
    api = TicketApi(max_batch_size=args.batch, batch_timeout=args.batch_timeout_s)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=args.workers, fast_queue=args.fast_queue, timeout=30
    )
    server.run(
        host="127.0.0.1", port=args.port, num_api_servers=1, generate_client_file=False, log_level="warning",
        access_log=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
