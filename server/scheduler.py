"""The scheduler: which rows of which asks run next. Pure: no clock, no sockets, no sessions.

Earliest deadline first across tickets among the tenants that may be served (`server.fair`), no
wait window: the most urgent of their first entries chooses the ticket, and the batch is filled
with that ticket's entries of such tenants, by deadline, up to a budget of padded tokens (longest
text x texts). An entry larger than the budget is cut in slices, so that one big ask cannot hold up
everybody else's. Without contention this is plain EDF; under it, no tenant gets further ahead of
another that waits than `server.fair` says, since each is charged what its own rows take. A priority
orders a tenant's own entries: it pushes nobody else's. Time is an argument, and everything pushed
comes out exactly once: run, expired, cancelled, or displaced from a full queue.
"""

import heapq
import math
from collections.abc import Mapping
from operator import itemgetter

from routing.cost import Cost
from server.batch import PRIORITIES, Batch, Entry, Slice
from server.busy import Busy
from server.fair import Fair
from server.profile import Profiles
from server.queues import Lane, Queue, Queues, Waiting, by_deadline, soonest_of
from server.room import displaced
from server.timely import efficient_rows, give_way, latest_start, rows_in_time
from server.wire import Load

_DEADLINE = itemgetter(1, 2)  # of an item of a backlog: then the arrival

BATCH_MS = 10.0
"""What a batch should take at most: nobody is interrupted, so whoever comes next waits for it. A slow ticket gains
little from more (a dense MiniLM runs 0.85 times as many texts/s in 10 ms as in 80), a fast one never gets here."""
TOLD_TENANTS = 32
"""Of so many tenants, those with the most waiting, `load` gives figures."""
_LOOK_AHEAD = 64  # how many entries at a time are looked at to find those that give way


class Scheduler:
    """The queues of one worker. Not thread-safe: the caller holds a lock."""

    def __init__(self, profiles: Profiles, *, batch_tokens: int, queue_texts: int) -> None:
        """``batch_tokens``: padded tokens a batch may have. ``queue_texts``: rows that may wait in all.

        What tickets cost is asked of ``profiles`` (sizes in tokens), which learn from every batch.
        """
        self._profiles = profiles
        self.batch_tokens = batch_tokens
        self.queue_texts = queue_texts
        self._fair = Fair()
        self._queues = Queues()
        self._running: Batch | None = None
        self._busy = Busy()

    def __len__(self) -> int:
        return len(self._queues.live)

    @property
    def texts(self) -> int:
        """Rows that wait."""
        return self._queues.texts

    def weigh(self, weights: Mapping[str, float]) -> None:
        """The tenants' weights; 1 for those not named."""
        self._fair.weigh(weights)

    # What comes and goes.

    def push(self, entry: Entry) -> list[Entry]:
        """Queue an entry. Returns what has no place now: nothing, the entry itself, or newer ones of another tenant.

        A full queue displaces what a tenant with more than its share added last (`server.room`). An
        empty one takes an entry of any size.
        """
        assert 1 <= entry.priority <= PRIORITIES
        queues = self._queues
        gone: list[Entry] = []
        if not queues.live:
            if self._running is None:
                self._fair.rest()
        elif queues.texts + entry.texts - entry.done > self.queue_texts:
            out = self._make_room(entry)
            if out is None:
                return [entry]
            gone = [waiting.entry for waiting in out]
            for waiting in out:
                self._remove(waiting)
        cost = self._profiles.cost(entry.ticket)
        latest, row_ms = latest_start(entry, cost), cost.row_ms + entry.longest * cost.unit_ms
        if queues.add(entry, latest=latest, row_ms=row_ms, fixed_ms=cost.fixed_ms):
            self._fair.join(entry.tenant)
        return gone

    def cancel(self, entry_id: int) -> Entry | None:
        """Take an entry out before (the rest of) it runs; None when nothing of it waits."""
        waiting = self._queues.live.get(entry_id)
        if waiting is None:
            return None
        self._remove(waiting)
        return waiting.entry

    def expired(self, now: float) -> list[Entry]:
        """Take out the entries that can no longer be answered before their deadlines, however it goes; and, under
        overload, those that could be only at the expense of more others (`server.timely`).
        """
        by_time = self._queues.by_time
        gone: list[Entry] = []
        while (item := by_time.first()) is not None and item[0] <= now:
            waiting: Waiting = item[-1]
            latest = latest_start(waiting.entry, self._profiles.cost(waiting.entry.ticket))
            if latest <= now:
                self._remove(waiting)
                gone.append(waiting.entry)
            else:  # part of it has run since, or its ticket turned out to be faster
                by_time.pop()
                by_time.push((latest, waiting.arrival, waiting))
        gone += [waiting.entry for waiting in self._in_the_way(now)]
        return gone

    # What runs.

    def take(self, now: float) -> Batch | None:
        """The next batch, or None when nothing waits. Call ``expired(now)`` first, ``finished`` after the run."""
        if not self._queues.live:
            return None
        limit = self._fair.limit()
        ticket = self._first(limit).entry.ticket
        slices, tokens = self._fill(self._queues.queues[ticket], limit, now)
        texts = sum(piece.stop - piece.start for piece in slices)
        cost = self._profiles.cost(ticket)
        batch = Batch(
            ticket=ticket,
            slices=slices,
            texts=texts,
            tokens=tokens,
            predicted_ms=self._charge(slices, texts, cost),
            began=now,
        )
        self._running = batch
        self._busy.begin(now)
        return batch

    def finished(self, batch: Batch, now: float, *, is_sample: bool = True) -> float | None:
        """A batch has ended. Returns how many times as long as predicted it took, where that was more than a guess.

        ``is_sample``: whether its time says something about the next ones (not that of a batch that failed).
        """
        self._running = None
        self._busy.end(now)
        if not is_sample:
            return None
        ratio = (now - batch.began) * 1000 / max(batch.predicted_ms, 1e-3)
        return ratio if self._profiles.learn(batch.ticket, ratio) else None

    # How busy it is.

    def wait_ms(self, now: float) -> float:
        """Predicted time until everything that runs and waits now has run."""
        return self._running_ms(now) + self._queues.ms

    def load(self, now: float) -> Load:
        """The same in parts, for those who predict waits from outside."""
        queues = self._queues
        backlogs = list(queues.backlogs.values())
        weight = sum(self._fair.weight(backlog.tenant) for backlog in backlogs)
        if len(backlogs) > TOLD_TENANTS:
            backlogs = heapq.nlargest(TOLD_TENANTS, backlogs, key=lambda one: one.rows_ms + one.fixed_ms)
        return Load(
            running_ms=self._running_ms(now),
            queued_ms=queues.ms,
            tenants={backlog.tenant: queues.ms_of(backlog) for backlog in backlogs},
            active_weight=weight,
            busy=self._busy.fraction(now),
        )

    def _running_ms(self, now: float) -> float:
        """Until what runs ends. Once overdue it grows again: what runs for twice as long as it should is as
        likely to take that long again, and a runtime that hangs must look busier and busier."""
        if self._running is None:
            return 0.0
        return abs(self._running.predicted_ms - (now - self._running.began) * 1000)

    def _remove(self, waiting: Waiting) -> None:
        if self._queues.remove(waiting):
            self._fair.leave(waiting.entry.tenant)

    def _make_room(self, entry: Entry) -> list[Waiting] | None:
        queues = self._queues
        held = {backlog.tenant: backlog.texts for backlog in queues.backlogs.values()}
        amount = entry.texts - entry.done
        return displaced(
            entry.tenant, amount, queues.texts + amount - self.queue_texts, held, weight=self._fair.weight,
            newest=lambda tenant: (
                (one, one.entry.texts - one.entry.done) for one in reversed(queues.backlogs[tenant].live.values())
            ),
        )  # fmt: skip

    def _first(self, limit: float) -> Waiting:
        """The most urgent of what tenants within the limit have first. Something waits."""
        counters, backlogs = self._fair.counters, self._queues.backlogs.values()
        # Over the tenants that wait (a microsecond for two), never over what they have waiting.
        heads = [
            item
            for backlog in backlogs
            if counters[backlog.tenant] <= limit and (item := backlog.heap.first()) is not None
        ]
        first: Waiting = (heads[0] if len(heads) == 1 else min(heads, key=_DEADLINE))[-1]
        return first

    def _in_the_way(self, now: float) -> list[Waiting]:
        """Take out what is given up for others (`server.timely`).

        Work gives way to its own tenant's that has more time. It gives way to other tenants' only where
        its tenant has been served more than the least served, or where it would hardly be in time all by
        itself: else a flood would do to everybody what it does to itself.
        """
        gone: list[Waiting] = []
        while len(self._queues.live) > 1:
            limit = self._fair.limit()
            first = self._first(limit)
            entry = first.entry
            cost = self._profiles.cost(entry.ticket)
            most = self._most_rows(entry.ticket, entry.longest)
            rows = min(efficient_rows(cost, entry.longest), most)
            in_time = rows_in_time(cost, entry.longest, (entry.deadline - now) * 1000)
            if in_time >= rows:
                break
            lanes = self._well_served(entry.ticket, limit)
            if first.lane not in lanes:
                if in_time < 1 and len(self._queues.live) > rows:
                    self._remove(first)
                    gone.append(first)
                    continue
                lanes = [first.lane]
            soonest = soonest_of(lanes, rows + _LOOK_AHEAD)
            count = give_way(cost, entry.longest, [(one.entry.deadline - now) * 1000 for one in soonest], most)
            if not count:
                break
            for waiting in soonest[:count]:
                self._remove(waiting)
            gone += soonest[:count]
        return gone

    def _well_served(self, ticket: str, limit: float) -> list[Lane]:
        """What waits for a ticket of the tenants that may be served, but have been served more than the least."""
        counters, least = self._fair.counters, limit - self._fair.lead_ms
        return [lane for lane in self._queues.queues[ticket].lanes.values() if least < counters[lane.tenant] <= limit]

    def _fill(self, queue: Queue, limit: float, now: float) -> tuple[list[Slice], int]:
        """Take slices of a ticket's entries out of the queues, and their padded tokens."""
        slices: list[Slice] = []
        texts, longest, in_time = 0, 1, math.inf
        counters = self._fair.counters
        lanes = [lane for lane in queue.lanes.values() if counters[lane.tenant] <= limit]
        for waiting in by_deadline(lanes):
            entry = waiting.entry
            start, stop = entry.done, entry.texts
            longest_with = longest if longest > entry.longest else entry.longest
            if in_time == math.inf:  # the first that can be in time at all is not made late by who joins it
                own = rows_in_time(self._profiles.cost(entry.ticket), longest_with, (entry.deadline - now) * 1000)
                in_time = own if own > texts else math.inf
            room = int(max(min(self._most_rows(entry.ticket, longest_with), in_time) - texts, 0 if slices else 1))
            if room <= 0:
                break
            texts, longest = texts + min(room, stop - start), longest_with
            if room < stop - start:  # the batch is full; the rest keeps its place by deadline
                slices.append(Slice(entry=entry, start=start, stop=start + room))
                self._queues.advance(waiting, room)
                break
            slices.append(Slice(entry=entry, start=start, stop=stop))
            self._remove(waiting)
            entry.done = stop
        return slices, texts * longest

    def _most_rows(self, ticket: str, size: int) -> int:
        """Rows of this size that a batch may have: by its tokens, and by its time."""
        cost = self._profiles.cost(ticket)
        row_ms = cost.marginal(1, size)
        most = self.batch_tokens // size
        if row_ms > 0:
            most = min(most, int((BATCH_MS - cost.fixed_ms) / row_ms))
        return max(1, most)

    def _charge(self, slices: list[Slice], texts: int, cost: Cost) -> float:
        """Charge each tenant for its rows and for its part of the call; the sum."""
        each_ms = cost.fixed_ms / texts + cost.row_ms
        charges: dict[str, float] = {}
        for piece in slices:
            entry = piece.entry
            ms = (piece.stop - piece.start) * (each_ms + entry.longest * cost.unit_ms)
            charges[entry.tenant] = charges.get(entry.tenant, 0.0) + ms
        for tenant, ms in charges.items():
            self._fair.charge(tenant, ms)
        return sum(charges.values())
