"""Sessions: the tickets a worker has in memory, ready to run.

Owns loading (one loader thread, one load per ticket at a time, warmed up before it counts as
held), unloading (least recently used first, within a budget of bytes) and the memory of loads
that failed. Everything public may be called from any thread. How a graph is opened is left to
`server.runtime`, what a ticket computes to its task module, when it runs to `server.scheduler`.
"""

import ctypes
import itertools
import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec
import structlog

from server.runtime import GraphError, is_on_cpu, open_graph
from server.task import Task
from server.telemetry import WorkerMetrics
from server.text_classification import TextClassification
from tickets.bundle import Bundle, BundleError
from tickets.registry import Registry, TicketMissing

log = structlog.get_logger()

TASKS: dict[str, Callable[..., Task]] = {"text-classification": TextClassification}
"""The module of each task that a manifest may name."""

FAILURE_REMEMBERED_S = 2.0
_MAX_FAILURES = 1024
_SESSION_OVERHEAD_BYTES = 8 << 20
_LOADER_NICENESS = 10
_CALL_TOKENS_CPU, _CALL_TOKENS_DEVICE = 32, 4096  # see text_classification.cut_by_length


class LoadError(Exception):
    """A ticket that cannot be served here, and why."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket in memory: ``resident_bytes`` is an estimate made from its bundle."""

    ticket: str
    task: Task
    resident_bytes: int


def resident_bytes(bundle: Bundle) -> int:
    """What a loaded ticket takes, estimated: measured growth of the process was 1.1 to 1.3 times the bundle,
    plus a few MB of scratch memory."""
    return bundle.size_bytes * 5 // 4 + _SESSION_OVERHEAD_BYTES


def open_task(bundle: Bundle, providers: Sequence[str]) -> Task:
    """Open a bundle's graph and run it once. Raises LoadError with the reason."""
    make = TASKS.get(bundle.manifest.task)
    if make is None:
        raise LoadError(f"this worker knows no task {bundle.manifest.task!r}; it knows {sorted(TASKS)}")
    call_tokens = _CALL_TOKENS_CPU if is_on_cpu(providers) else _CALL_TOKENS_DEVICE
    try:
        task = make(bundle, open_graph(bytes(bundle.members["model.onnx"]), providers), call_tokens=call_tokens)
        task.warm_up()
    except GraphError as error:
        raise LoadError(str(error)) from error
    except Exception as error:  # the task, the tokenizer and the runtime raise what they like on a bad ticket
        raise LoadError(f"{type(error).__name__}: {str(error)[:500]}") from error
    return task


class Sessions:
    """The tickets in memory. ``changed`` is called, from any thread, whenever ``holds`` has changed."""

    def __init__(
        self,
        registry: Registry,
        metrics: WorkerMetrics,
        *,
        memory_bytes: int,
        providers: Sequence[str],
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._memory_bytes = memory_bytes
        self._providers = list(providers)
        self.changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Held] = OrderedDict()  # least recently used first
        self._loading: dict[str, list[Callable[[str | None], None]]] = {}
        self._failed: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._jobs: queue.PriorityQueue[tuple[int, int, str | None]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._loader = threading.Thread(target=self._load_jobs, name="loader", daemon=True)
        self._loader.start()

    def get(self, ticket: str) -> Task | None:
        """The ticket's task if it is in memory, which counts as a use of it."""
        with self._lock:
            held = self._held.get(ticket)
            if held is not None:
                self._held.move_to_end(ticket)
            return held.task if held is not None else None

    def failure(self, ticket: str) -> str | None:
        """Why a recent load of this ticket failed; None when it may be tried (again)."""
        with self._lock:
            reason, until = self._failed.get(ticket, ("", 0.0))
            return reason if self._clock() < until else None

    def load(self, ticket: str, done: Callable[[str | None], None], *, urgent: bool = True) -> None:
        """Bring a ticket into memory, and call ``done(None)`` or ``done(reason)`` on the loader thread.

        Callers who ask while it loads share the one load. Urgent loads go before the others.
        """
        with self._lock:
            waiting = self._loading.setdefault(ticket, [])
            waiting.append(done)
            if len(waiting) == 1 or urgent:  # asked again urgently: goes to the front, and the old job finds nothing
                self._jobs.put((0 if urgent else 1, next(self._numbers), ticket))

    def fits(self, ticket: str) -> bool:
        """Whether the ticket would fit beside those in memory. Raises OSError or TicketMissing."""
        size = self._registry.path(ticket).stat().st_size * 5 // 4 + _SESSION_OVERHEAD_BYTES
        with self._lock:
            return self._used_bytes() + size <= self._memory_bytes

    def holds(self) -> list[str]:
        """The ids of the tickets in memory, sorted."""
        with self._lock:
            return sorted(self._held)

    def close(self) -> None:
        """Stop the loader thread after the load in progress, and let every session go."""
        self._jobs.put((-1, next(self._numbers), None))
        self._loader.join()
        with self._lock:
            self._held.clear()

    def _load_jobs(self) -> None:
        _be_nice()
        while True:
            _, _, ticket = self._jobs.get()
            if ticket is None:
                return
            with self._lock:
                is_wanted = ticket in self._loading
            if is_wanted:
                reason = None if self.get(ticket) is not None else self._load(ticket)
                with self._lock:
                    waiting = self._loading.pop(ticket)
                for done in waiting:
                    _tell(done, reason)

    def _load(self, ticket: str) -> str | None:
        began = self._clock()
        try:
            bundle = self._registry.get(ticket)
            size = resident_bytes(bundle)
            self._make_room(size)
            held = Held(ticket=ticket, task=open_task(bundle, self._providers), resident_bytes=size)
        except (LoadError, TicketMissing, BundleError, OSError) as error:
            return self._remember_failure(ticket, str(error))
        except Exception as error:
            log.exception("load_crashed", ticket=ticket)
            return self._remember_failure(ticket, f"{type(error).__name__} while loading")
        seconds = self._clock() - began
        with self._lock:
            self._held[ticket] = held
        self._metrics.loaded(ticket=ticket, resident_bytes=size, seconds=seconds)
        log.info("ticket_loaded", ticket=ticket, name=bundle.manifest.name, load_ms=round(seconds * 1000, 1))
        _tell(self.changed)
        return None

    def _make_room(self, size: int) -> None:
        if size > self._memory_bytes:
            raise LoadError(f"needs about {size} bytes of memory; this worker's whole budget is {self._memory_bytes}")
        gone = []
        with self._lock:
            while self._held and self._used_bytes() + size > self._memory_bytes:
                gone.append(self._held.popitem(last=False)[0])
        if gone:
            for ticket in gone:
                self._metrics.unloaded(ticket=ticket)
                log.info("ticket_unloaded", ticket=ticket)
            _tell(self.changed)
            _return_memory()

    def _used_bytes(self) -> int:
        return sum(held.resident_bytes for held in self._held.values())

    def _remember_failure(self, ticket: str, reason: str) -> str:
        self._metrics.load_failed()
        log.warning("load_failed", ticket=ticket, reason=reason)
        root = str(self._registry.root)  # callers are told the reason, but not our paths
        reason = reason.replace(f"{root}/", "").replace(f" {root}", "")
        with self._lock:
            self._failed[ticket] = (reason, self._clock() + FAILURE_REMEMBERED_S)
            self._failed.move_to_end(ticket)
            while len(self._failed) > _MAX_FAILURES:
                self._failed.popitem(last=False)
        return reason


def _tell(listener: Callable[..., None], *arguments: object) -> None:
    """Call a listener; one that fails (its loop may be gone) must not end the loader thread."""
    try:
        listener(*arguments)
    except Exception:
        log.exception("listener_failed")


def _be_nice() -> None:
    """Loads give way to running tickets. On Linux niceness belongs to the thread; elsewhere leave it."""
    if os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOADER_NICENESS)


def _return_memory() -> None:
    """Ask the allocator to give freed pages back to the system (glibc keeps them otherwise)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return  # another C library
