"""A steady open-loop load on tickets whose answers differ, with an account of every request.

Owns the requests and what is wrong with an answer: the probability of the same text tells the tickets apart, so that an
answer which names one ticket and comes from another is found out. It holds no assertions.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.e2e.installation import Installation, until
from tests.e2e.moves import DOMAIN

TEXT = "rain sun"
RATE_PER_S = 80.0


def probability(scale: float) -> float:
    """What the tiny ticket of this scale answers to TEXT: two votes of 16 on four tokens, against three logits of 0."""
    vote = math.exp(2 * 16.0 * scale / 4)
    return vote / (vote + 3)


@dataclass
class Traffic:
    """What became of a steady open-loop load. ``scales`` by ticket id: what their answers must be."""

    up: Installation
    scales: dict[str, float]
    sent: int = 0
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    by_ticket: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def steady(self, rate_per_s: float = RATE_PER_S, texts: Sequence[str] = (TEXT,)) -> AsyncIterator[None]:
        """Send while the block runs, each when it is due, on connections that are kept; then wait for the last."""
        stop = asyncio.Event()

        async def send(client: httpx.AsyncClient) -> None:
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                while not stop.is_set():
                    due = began + self.sent / rate_per_s
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    group.create_task(self._one(client, texts[self.sent % len(texts)]))
                    self.sent += 1

        async with self.up.client() as client:
            sending = asyncio.create_task(send(client))
            try:
                yield
            finally:
                stop.set()
                await sending

    async def more(self, count: int, ticket: str | None = None) -> None:
        """Wait for so many further answers (of a ticket)."""
        start = self._answers(ticket)
        await until(lambda: self._answers(ticket) - start >= count)

    def _answers(self, ticket: str | None) -> int:
        return sum(self.by_ticket.values()) if ticket is None else self.by_ticket.get(ticket, 0)

    async def _one(self, client: httpx.AsyncClient, text: str) -> None:
        try:
            response = await client.post("/v1/classify", json={"domain": DOMAIN, "text": text, "tier": "accurate"})
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
            return
        if response.status_code != 200:
            self.failed.append(response.text)
            return
        body = response.json()
        ticket, (result,) = body["ticket"], body["results"]
        self.by_ticket[ticket] = self.by_ticket.get(ticket, 0) + 1
        scale = self.scales.get(ticket)
        is_right = scale is not None and abs(result["probability"] - probability(scale)) < 1e-4
        if response.headers["x-tombola-ticket"] != ticket or (text == TEXT and not is_right):
            self.mixed.append(str(body))
