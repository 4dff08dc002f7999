"""BentoML: a service with a batchable API, started by `bentoml serve`.

Options come from environment variables, because `bentoml serve` imports this file itself.
"""

import os

import bentoml

from loadtest.peers.model import Answer, Ticket

MAX_BATCH_TEXTS = int(os.environ.get("PEER_BATCH", "32"))
MAX_LATENCY_MS = int(os.environ.get("PEER_LATENCY_MS", "1000"))
LIMIT = int(os.environ["PEER_LIMIT"]) if os.environ.get("PEER_LIMIT") else None


@bentoml.service(
    workers=int(os.environ.get("PEER_WORKERS", "1")),
    traffic={"timeout": 30} | ({"max_concurrency": LIMIT} if LIMIT else {}),
    logging={"access": {"enabled": False}},
    metrics={"enabled": os.environ.get("PEER_METRICS", "1") == "1"},
)
class TicketService:
    """One request is a list of one text; BentoML makes the batches."""

    def __init__(self) -> None:
        self.ticket = Ticket(os.environ["PEER_TICKET"])

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_TEXTS, max_latency_ms=MAX_LATENCY_MS)
    def classify(self, texts: list[str]) -> list[Answer]:
        """Run a batch in BentoML's worker thread."""
        return self.ticket.classify(texts)

    @bentoml.api
    async def classify_inline(self, texts: list[str]) -> list[Answer]:
        """Run a request's texts on the event loop, without batching."""
        return self.ticket.classify(texts)
