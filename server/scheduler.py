"""The scheduler: which rows of which asks run next. Pure: no clock, no sockets, no sessions.

Owns the queues of one worker. Earliest deadline first across tickets, no wait window: the
ticket of the most urgent entry is chosen, and the batch is filled with that ticket's entries
in order of deadline up to a budget of padded tokens (longest text x texts). An entry larger
than the budget is cut in slices, so that one big ask cannot hold up everybody else's. Time is
an argument, and everything pushed comes out exactly once: run, expired or cancelled.
"""

import heapq
import math
from typing import Any

import msgspec

PRIOR_MS_PER_TOKEN = 0.02
_SMOOTHING = 0.2  # weight of the newest batch in a ticket's rate


class Entry(msgspec.Struct, kw_only=True, eq=False):
    """``texts`` rows of work for one ticket, wanted before ``deadline`` (seconds of the caller's clock).

    ``longest`` is the estimated number of tokens of the longest row. ``done`` counts the rows that
    batches have taken; only the scheduler changes it. ``payload`` is the caller's.
    """

    id: int
    ticket: str
    tenant: str
    deadline: float
    texts: int
    longest: int
    payload: Any = None
    done: int = 0


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Rows ``start`` to ``stop`` (exclusive) of an entry."""

    entry: Entry
    start: int
    stop: int

    @property
    def is_first(self) -> bool:
        """Whether the entry begins to run with this slice."""
        return self.start == 0

    @property
    def is_last(self) -> bool:
        """Whether nothing of the entry is left to run after this slice."""
        return self.stop == self.entry.texts


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What to run together now, most urgent first. ``tokens`` is its estimated padded size."""

    ticket: str
    slices: list[Slice]
    texts: int
    tokens: int


class _Queue:
    """One ticket's entries, by deadline and then by arrival; how fast the ticket has been running."""

    __slots__ = ("heap", "rate_ms", "rate_tokens", "tokens")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Entry]] = []
        self.tokens = 0
        self.rate_ms = 0.0
        self.rate_tokens = 0.0

    def ms_per_token(self) -> float:
        return self.rate_ms / self.rate_tokens if self.rate_tokens > 0 else PRIOR_MS_PER_TOKEN

    def learn(self, ms: float, tokens: int) -> None:
        # A ratio of averages, not an average of ratios: a full batch says more about the
        # rate under load than a lone text, whose fixed cost dominates.
        weight = _SMOOTHING if self.rate_tokens > 0 else 1.0
        self.rate_ms += weight * (ms - self.rate_ms)
        self.rate_tokens += weight * (tokens - self.rate_tokens)


class Scheduler:
    """The queues of one worker. Not thread-safe: the caller holds a lock."""

    def __init__(self, *, batch_tokens: int, queue_texts: int) -> None:
        """``batch_tokens``: padded tokens a batch may have. ``queue_texts``: rows that may wait in all."""
        self.batch_tokens = batch_tokens
        self.queue_texts = queue_texts
        self.texts = 0
        """Rows that wait."""
        self._live: dict[int, Entry] = {}
        self._queues: dict[str, _Queue] = {}
        self._arrivals = 0
        self._running: tuple[float, float] | None = None  # when it began, its predicted milliseconds

    def __len__(self) -> int:
        return len(self._live)

    def push(self, entry: Entry) -> bool:
        """Queue an entry; False, and nothing changes, when the queue is full.

        An empty queue takes an entry of any size, so that none is refused for ever.
        """
        if self._live and self.texts + entry.texts > self.queue_texts:
            return False
        self._arrivals += 1
        queue = self._queues.setdefault(entry.ticket, _Queue())
        heapq.heappush(queue.heap, (entry.deadline, self._arrivals, entry))
        self._live[entry.id] = entry
        self._count(queue, entry, entry.texts - entry.done)
        return True

    def cancel(self, entry_id: int) -> Entry | None:
        """Take an entry out before (the rest of) it runs; None when nothing of it waits."""
        entry = self._live.pop(entry_id, None)
        if entry is None:
            return None
        queue = self._queues[entry.ticket]
        self._count(queue, entry, entry.done - entry.texts)
        if len(queue.heap) > 64 and len(queue.heap) > 2 * len(self._live):  # mostly dead: cancelled, not yet popped
            queue.heap = [item for item in queue.heap if item[2].id in self._live]
            heapq.heapify(queue.heap)
        return entry

    def expired(self, now: float) -> list[Entry]:
        """Take out the entries whose deadline is not after ``now``."""
        gone = []
        for queue in self._queues.values():
            while (entry := self._head(queue)) is not None and entry.deadline <= now:
                heapq.heappop(queue.heap)
                del self._live[entry.id]
                self._count(queue, entry, entry.done - entry.texts)
                gone.append(entry)
        return gone

    def take(self, now: float) -> Batch | None:
        """The next batch, or None when nothing waits. Call ``expired(now)`` first, ``finished`` after the run."""
        if not self._live:
            return None
        heads = ((queue.heap[0][:2], ticket) for ticket, queue in self._queues.items() if self._head(queue) is not None)
        _, ticket = min(heads)
        queue = self._queues[ticket]
        slices: list[Slice] = []
        texts, longest = 0, 1
        while (entry := self._head(queue)) is not None:
            longest_with = max(longest, entry.longest)
            room = max(self.batch_tokens // longest_with - texts, 0 if slices else 1)
            count = min(room, entry.texts - entry.done)
            if count == 0:
                break
            slices.append(Slice(entry=entry, start=entry.done, stop=entry.done + count))
            self._count(queue, entry, -count)
            entry.done += count
            texts, longest = texts + count, longest_with
            if entry.done < entry.texts:
                break  # the budget is full; the rest keeps its place by deadline
            heapq.heappop(queue.heap)
            del self._live[entry.id]
        batch = Batch(ticket=ticket, slices=slices, texts=texts, tokens=texts * longest)
        self._running = (now, batch.tokens * queue.ms_per_token())
        return batch

    def finished(self, batch: Batch, run_ms: float) -> None:
        """Learn from a batch that ran (also one that failed: give the time it took)."""
        self._running = None
        self._queues[batch.ticket].learn(run_ms, batch.tokens)

    def wait_ms(self, now: float) -> float:
        """Predicted time until work that arrives now would start."""
        wait = 0.0
        if self._running is not None:
            began, predicted_ms = self._running
            wait += max(0.0, predicted_ms - (now - began) * 1000)
        if self._live:
            wait += math.fsum(queue.tokens * queue.ms_per_token() for queue in self._queues.values())
        return wait

    def _count(self, queue: _Queue, entry: Entry, texts: int) -> None:
        self.texts += texts
        queue.tokens += texts * entry.longest

    def _head(self, queue: _Queue) -> Entry | None:
        """The most urgent live entry of a queue; the cancelled ones before it leave the heap."""
        while queue.heap:
            entry = queue.heap[0][2]
            if self._live.get(entry.id) is entry:
                return entry
            heapq.heappop(queue.heap)
        return None
