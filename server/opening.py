"""Opening: from a verified bundle to a task that has run, with what it costs in time and memory.

Owns which module runs which task, and the measuring around it: bytes from the allocator's own count,
milliseconds from `server.measure`. Which tickets are opened, and when they leave, is left to
`server.sessions`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from routing.cost import Cost
from server.measure import measure
from server.memory import is_exact
from server.runtime import GraphError, is_on_cpu, open_graph
from server.sharing import Part, Parts, Shared
from server.task import Task
from server.tensors_task import TensorsTask
from server.text_classification import open_text
from tickets.bundle import Bundle

TASKS: dict[str, Callable[..., Task]] = {"text-classification": open_text, "tensors": TensorsTask}
"""What makes each task that a manifest may name, of a bundle and its opened graph."""

MIN_BYTES = 256 << 10
"""A ticket counts for at least this: what else allocates meanwhile makes the measurement as uncertain."""
_MOST_TIMES, _MOST_MORE_BYTES = 4, 4 << 20  # of its bundle; what is measured beyond is not the ticket's doing

_LOOKS, _BETWEEN_LOOKS_S = 4, 0.0003

_CALL_TOKENS_CPU, _CALL_TOKENS_DEVICE = 32, 4096  # see text_classification.cut_by_length


class LoadError(Exception):
    """A ticket that cannot be served here, and why."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket in memory. ``own_bytes`` is what it takes beside ``parts``, which others may share;
    ``added_bytes`` is by how much memory has grown, for some parts may have been there."""

    task: Task
    cost: Cost
    own_bytes: int
    added_bytes: int
    parts: list[Part[Any]]

    def part_bytes(self) -> dict[str, int]:
        """Bytes of each part, by its key."""
        return {part.key: part.bytes for part in self.parts}


def open_ticket(bundle: Bundle, providers: Sequence[str], shared: Shared, cost: Cost | None = None) -> Opened:
    """Open a bundle's graph, run it, and measure it. ``cost``: where it is known already. Raises LoadError."""
    make = TASKS.get(bundle.manifest.task)
    if make is None:
        raise LoadError(f"this worker knows no task {bundle.manifest.task!r}; it knows {sorted(TASKS)}")
    on_cpu = is_on_cpu(providers)
    parts = Parts(shared)
    before = _low(shared.heap)
    try:
        graph = open_graph(bytes(bundle.members["model.onnx"]), providers, parts)
        task = make(bundle, graph, call_tokens=_CALL_TOKENS_CPU if on_cpu else _CALL_TOKENS_DEVICE, parts=parts)
        task.warm_up()
        cost = cost or measure(task, on_cpu=on_cpu)
    except GraphError as error:
        raise LoadError(str(error)) from error
    except Exception as error:  # the task, the tokenizer and the runtime raise what they like on a bad ticket
        raise LoadError(f"{type(error).__name__}: {str(error)[:500]}") from error
    own_bytes = _own_bytes(bundle, _low(shared.heap) - before - parts.made_bytes)
    return Opened(
        task=task,
        cost=cost,
        own_bytes=own_bytes,
        added_bytes=own_bytes + parts.made_bytes,
        parts=list(parts.taken.values()),
    )


def _own_bytes(bundle: Bundle, measured: int) -> int:
    """What a ticket counts for. Where bytes cannot be counted, memory that is used again shows no growth at all."""
    least = MIN_BYTES if is_exact() else max(MIN_BYTES, bundle.size_bytes * 5 // 4)
    most = _MOST_TIMES * bundle.size_bytes + _MOST_MORE_BYTES
    return max(least, min(measured, most))


def _low(heap: Callable[[], int]) -> int:
    """The least of a few looks at the heap: batches that run meanwhile come and go with their scratch memory."""
    least = heap()
    for _ in range(_LOOKS - 1):
        time.sleep(_BETWEEN_LOOKS_S)
        least = min(least, heap())
    return least
