"""What waits in a worker, in the orders in which it is looked for: by tenant, by ticket, by time left.

Owns the records behind `server.scheduler`: each waiting entry is in three heaps, and dies in place
in all of them when it leaves; the dead are dropped when they surface, or when they are the most.
Nothing here decides anything. Pure.
"""

import heapq
from collections.abc import Iterator
from typing import Any

from server.batch import PRIORITIES, Entry

_FEW = 64


class Waiting:
    """An entry that waits, and where. ``row_ms`` is what one of its rows was predicted to add to a batch."""

    __slots__ = ("arrival", "backlog", "entry", "is_live", "lane", "row_ms")

    def __init__(self, entry: Entry, arrival: int, lane: "Lane", backlog: "Backlog", row_ms: float) -> None:
        self.entry = entry
        self.arrival = arrival
        self.lane = lane
        self.backlog = backlog
        self.row_ms = row_ms
        self.is_live = True


Item = tuple[Any, ...]
"""What it is ordered by, then the `Waiting`; the arrival among the first makes every item differ."""


class Heap:
    """A heap of waiting entries. Whoever kills one takes it off ``alive``."""

    __slots__ = ("alive", "items")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.alive = 0

    def push(self, item: Item) -> None:
        """Put in an item whose entry lives."""
        self.alive += 1
        heapq.heappush(self.items, item)
        if len(self.items) > 2 * self.alive + _FEW:
            self.items = [one for one in self.items if one[-1].is_live]
            heapq.heapify(self.items)

    def first(self) -> Item | None:
        """The least item whose entry lives."""
        items = self.items
        while items:
            item = items[0]
            if item[-1].is_live:
                return item
            heapq.heappop(items)
        return None

    def pop(self) -> None:
        """Drop the least item, whose entry lives on."""
        heapq.heappop(self.items)
        self.alive -= 1


class Backlog:
    """What one tenant has waiting, over all tickets: by priority, then deadline, then arrival."""

    __slots__ = ("fixed_ms", "heap", "live", "priorities", "rows_ms", "tenant", "texts")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.heap = Heap()
        self.live: dict[int, Waiting] = {}
        """By entry, in order of arrival."""
        self.priorities = [0] * (PRIORITIES + 1)
        """How many entries of each."""
        self.texts = 0
        """Rows."""
        self.rows_ms = 0.0
        self.fixed_ms = 0.0

    def is_first(self, priority: int) -> bool:
        """Whether nothing of a smaller number waits, for whatever ticket."""
        counts = self.priorities
        return priority == 1 or not (counts[1] or (priority == 3 and counts[2]))


class Lane:
    """What one tenant has waiting for one ticket, in the same order."""

    __slots__ = ("backlog", "fixed_ms", "heap", "tenant")

    def __init__(self, backlog: Backlog, fixed_ms: float) -> None:
        self.backlog = backlog
        self.tenant = backlog.tenant
        self.heap = Heap()
        self.fixed_ms = fixed_ms

    def next(self) -> Item | None:
        """What is to run next of it; None while its tenant has something with a smaller number elsewhere."""
        item = self.heap.first()
        return item if item is not None and self.backlog.is_first(item[0]) else None

    def soonest(self, most: int) -> list[Waiting]:
        """Up to so many of it, the most urgent first, of the priority of the first. They stay where they are."""
        items, found = self.heap.items, list[Waiting]()
        frontier = [(items[0], 0)] if items else []
        while frontier and len(found) < most:
            item, at = heapq.heappop(frontier)
            if item[-1].is_live:
                if found and item[0] != found[0].entry.priority:
                    break
                found.append(item[-1])
            for child in (2 * at + 1, 2 * at + 2):
                if child < len(items):
                    heapq.heappush(frontier, (items[child], child))
        return found


class Queue:
    """What waits for one ticket."""

    __slots__ = ("fixed_ms", "lanes")

    def __init__(self, fixed_ms: float) -> None:
        self.lanes: dict[str, Lane] = {}
        self.fixed_ms = fixed_ms


class Queues:
    """Everything that waits, by entry, tenant and ticket; what it is predicted to take."""

    def __init__(self) -> None:
        self.live: dict[int, Waiting] = {}
        self.backlogs: dict[str, Backlog] = {}
        self.queues: dict[str, Queue] = {}
        self.by_time = Heap()
        """By the time after which it cannot be run any more; the key may be out of date."""
        self.texts = 0
        self.rows_ms = 0.0
        self.fixed_ms = 0.0
        self._arrivals = 0

    @property
    def ms(self) -> float:
        """To run all of it: its rows, and one call for every ticket."""
        return self.rows_ms + self.fixed_ms

    def ms_of(self, backlog: Backlog) -> float:
        """To run what one tenant has, by itself."""
        return min(backlog.rows_ms + backlog.fixed_ms, self.ms)

    def add(self, entry: Entry, *, latest: float, row_ms: float, fixed_ms: float) -> bool:
        """Put an entry in; whether its tenant had nothing waiting."""
        tenant, priority = entry.tenant, entry.priority
        backlog = self.backlogs.get(tenant)
        is_new = backlog is None
        if backlog is None:
            backlog = self.backlogs[tenant] = Backlog(tenant)
        queue = self.queues.get(entry.ticket)
        if queue is None:
            queue = self.queues[entry.ticket] = Queue(fixed_ms)
            self.fixed_ms += fixed_ms
        lane = queue.lanes.get(tenant)
        if lane is None:
            lane = queue.lanes[tenant] = Lane(backlog, fixed_ms)
            backlog.fixed_ms += fixed_ms
        self._arrivals = arrival = self._arrivals + 1
        waiting = Waiting(entry, arrival, lane, backlog, row_ms)
        item = (priority, entry.deadline, arrival, waiting)
        backlog.heap.push(item)
        lane.heap.push(item)
        self.by_time.push((latest, arrival, waiting))
        backlog.priorities[priority] += 1
        backlog.live[entry.id] = self.live[entry.id] = waiting
        self._count(backlog, entry.texts - entry.done, row_ms)
        return is_new

    def advance(self, waiting: Waiting, rows: int) -> None:
        """So many rows of it, but not all, wait no more."""
        waiting.entry.done += rows
        self._count(waiting.backlog, -rows, waiting.row_ms)

    def remove(self, waiting: Waiting) -> bool:
        """Take out an entry, with what is left of it; whether its tenant has nothing more waiting."""
        entry, lane, backlog = waiting.entry, waiting.lane, waiting.backlog
        waiting.is_live = False
        del self.live[entry.id], backlog.live[entry.id]
        self._count(backlog, entry.done - entry.texts, waiting.row_ms)
        backlog.priorities[entry.priority] -= 1
        self.by_time.alive -= 1
        backlog.heap.alive -= 1
        lane.heap.alive -= 1
        if not lane.heap.alive:
            lane.heap.items.clear()  # the dead refer to their lane: nothing is left to the garbage collector
            queue = self.queues[entry.ticket]
            del queue.lanes[entry.tenant]
            backlog.fixed_ms -= lane.fixed_ms
            if not queue.lanes:
                del self.queues[entry.ticket]
                self.fixed_ms -= queue.fixed_ms
            if not self.live:
                self.rows_ms = self.fixed_ms = 0.0  # exactly, whatever rounding has left
        if backlog.live:
            return False
        backlog.heap.items.clear()
        del self.backlogs[entry.tenant]
        return True

    def _count(self, backlog: Backlog, rows: int, row_ms: float) -> None:
        backlog.texts += rows
        self.texts += rows
        ms = rows * row_ms
        backlog.rows_ms += ms
        self.rows_ms += ms


def by_deadline(lanes: list[Lane]) -> Iterator[Waiting]:
    """What the lanes have to run next, the most urgent first; each must have left its lane before the next is asked."""
    heads = [item[1:] for lane in lanes if (item := lane.next()) is not None]  # deadline, arrival, what waits
    heapq.heapify(heads)
    while heads:
        waiting: Waiting = heads[0][2]
        yield waiting
        item = waiting.lane.next()
        if item is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, item[1:])


def soonest_of(lanes: list[Lane], most: int) -> list[Waiting]:
    """Up to so many of what waits in the lanes, the most urgent first; see `Lane.soonest`."""
    if len(lanes) == 1:
        return lanes[0].soonest(most)
    found = [waiting for lane in lanes for waiting in lane.soonest(most)]
    return heapq.nsmallest(most, found, key=lambda waiting: (waiting.entry.deadline, waiting.arrival))
