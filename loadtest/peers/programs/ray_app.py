"""Ray Serve: one deployment with `serve.batch`, on a local Ray without dashboard."""

import argparse
import signal
import tempfile
import threading

import ray
from ray import serve
from starlette.requests import Request

from loadtest.peers.model import Answer, Ticket


class Batching:
    """One request is one text; Ray Serve makes the batches."""

    def __init__(self, folder: str, batch: int, wait_s: float) -> None:
        self._ticket = Ticket(folder)
        self._classify.set_max_batch_size(batch)
        self._classify.set_batch_wait_timeout_s(wait_s)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.001)
    async def _classify(self, texts: list[str]) -> list[Answer]:
        return self._ticket.classify(texts)

    async def __call__(self, request: Request) -> Answer:
        """Answer one HTTP request."""
        answer: Answer = await self._classify((await request.json())["text"])
        return answer


class Inline:
    """One request is one text, run as it comes."""

    def __init__(self, folder: str, batch: int, wait_s: float) -> None:
        self._ticket = Ticket(folder)

    async def __call__(self, request: Request) -> Answer:
        """Answer one HTTP request."""
        return self._ticket.classify([(await request.json())["text"]])[0]


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ticket", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=16, help="1: without batching.")
    parser.add_argument("--wait-s", type=float, default=0.001)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--limit", type=int, default=-1, help="Requests running or queued before 503 is answered.")
    args = parser.parse_args()
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        serve.start(http_options={"host": "127.0.0.1", "port": args.port})
        deployment = serve.deployment(
            num_replicas=args.replicas,
            max_ongoing_requests=256 if args.limit < 0 else max(1, args.limit // 2),
            max_queued_requests=-1 if args.limit < 0 else args.limit - args.limit // 2,
            ray_actor_options={"num_cpus": 1},
            graceful_shutdown_timeout_s=1,
        )(Batching if args.batch > 1 else Inline)
        serve.run(deployment.bind(args.ticket, args.batch, args.wait_s), route_prefix="/")
        stop.wait()
        ray.shutdown()


if __name__ == "__main__":
    main()
