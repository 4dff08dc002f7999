"""Sessions: the tickets a worker has in memory, ready to run.

Owns what is held, within a budget of bytes that were measured, not declared; what is known of
tickets that were held before; and the memory of loads that failed. Everything public may be called
from any thread. Who leaves is decided by `server.shelf`, the order of loads by `server.loader`, how a
ticket is opened by `server.opening`; when it runs is left to `server.scheduler`.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from routing.cost import Cost
from server.baseline import Baselines
from server.loader import Loader, tell
from server.memory import heap_bytes, return_promptly, trim
from server.opening import MIN_BYTES, LoadError, Opened, open_ticket
from server.quarantine import Marker, Quarantine
from server.runtime import prime
from server.sharing import Shared
from server.shelf import Shelf
from server.task import Task
from server.worker_metrics import WorkerMetrics
from tickets.bundle import Bundle, BundleError
from tickets.registry import Registry, TicketMissing

log = structlog.get_logger()

FAILURE_REMEMBERED_S = 2.0
TRIM_EVERY_S = 5.0
_MAX_FAILURES = 1024
_MAX_KNOWN = 4096
_RATIO, _RATIO_GAIN = 1.5, 0.2  # memory over bundle: 1.2 where the tokenizer is shared, 1.8 where it is not


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What has come into memory, with what it costs in the units of `server.task.Work`, and what has gone."""

    loaded: dict[str, Cost] = {}
    unloaded: list[str] = []


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a ticket when it was last loaded."""

    cost: Cost
    own_bytes: int
    part_bytes: dict[str, int]


class Sessions:
    """The tickets in memory. ``changed`` is called, from any thread, with every change of what is held."""

    def __init__(
        self,
        registry: Registry,
        metrics: WorkerMetrics,
        *,
        memory_bytes: int,
        providers: Sequence[str],
        changed: Callable[[Change], None] = lambda _: None,
        marker: Marker | None = None,
        quarantine: Quarantine | None = None,
        heap: Callable[[], int] = heap_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``heap``: bytes allocated by this process, as the budget counts them."""
        self._registry = registry
        self._metrics = metrics
        self._providers = list(providers)
        self.changed = changed
        self._marker = marker or Marker(None)
        self._quarantine = quarantine or Quarantine(None)
        self._clock = clock
        self._lock = threading.Lock()
        self._shelf = Shelf(memory_bytes)
        self._shared = Shared(heap)
        self._held: dict[str, Opened] = {}
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._failed: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._ratio = _RATIO
        self._to_trim = False
        self._trimmed = clock()
        return_promptly()
        prime()
        self._baselines = Baselines(metrics.answers, self._find)
        metrics.resident_limit_bytes.set(memory_bytes)
        self._loader = Loader(self._load, self._rest)

    def get(self, ticket: str, tenant: str = "") -> Task | None:
        """The ticket's task if it is in memory and may run, which counts as a use of it by ``tenant``."""
        if self._quarantine.reason(ticket) is not None:
            return None
        with self._lock:
            held = self._held.get(ticket)
            if held is None:
                return None
            self._shelf.use(ticket, tenant)
            return held.task

    def failure(self, ticket: str) -> str | None:
        """Why this ticket may not be loaded, or why it recently could not; None when it may be tried (again)."""
        quarantined = self._quarantine.reason(ticket)
        if quarantined is not None:
            self.unload([ticket], "quarantine")
            return quarantined
        with self._lock:
            reason, until = self._failed.get(ticket, ("", 0.0))
            return reason if self._clock() < until else None

    def load(self, ticket: str, done: Callable[[str | None], None], *, tenant: str = "", urgent: bool = True) -> None:
        """Bring a ticket into memory for ``tenant``; ``done(None)`` or ``done(reason)`` on the loader thread.

        Callers who ask while it loads share the one load. Urgent loads go before the others.
        """
        self._loader.add(ticket, done, tenant=tenant, urgent=urgent)

    def fits(self, ticket: str) -> bool:
        """Whether the ticket would fit beside those in memory. Raises OSError or TicketMissing."""
        size = self._registry.path(ticket).stat().st_size
        with self._lock:
            return self._shelf.fits(self._expected_bytes(ticket, size))

    def holds(self) -> list[str]:
        """The ids of the tickets in memory, sorted."""
        with self._lock:
            return sorted(self._held)

    def cost(self, ticket: str) -> Cost | None:
        """What the ticket was measured to cost here, in the units of `server.task.Work`, if it is in memory."""
        with self._lock:
            held = self._held.get(ticket)
            return held.cost if held is not None else None

    def used_bytes(self) -> int:
        """What the tickets in memory take, of the budget; what they share counts once."""
        with self._lock:
            return self._shelf.used_bytes

    def reserve(self, shares: Mapping[str, int]) -> None:
        """Bytes by tenant that others do not push this tenant's tickets out of. Replaces what was said before."""
        with self._lock:
            self._shelf.reserve(shares)

    def unload(self, tickets: Sequence[str], reason: str = "asked") -> None:
        """Let go of those of the tickets that are here; what runs them still, runs to its end."""
        with self._lock:
            gone = {ticket: self._held.pop(ticket) for ticket in tickets if ticket in self._held}
            for ticket in gone:
                self._shelf.remove(ticket)
        self._let_go(gone, reason)

    def close(self) -> None:
        """Stop the loader thread after the load in progress, and let every session go."""
        self._loader.close()
        with self._lock:
            self._held.clear()

    # On the loader thread.

    def _load(self, ticket: str, tenant: str) -> str | None:
        """Load a ticket unless it is here: None, or why it cannot be."""
        if self.get(ticket, tenant) is not None:
            return None
        quarantined = self._quarantine.reason(ticket)
        if quarantined is not None:
            return quarantined
        self._marker.loading(ticket)
        try:
            self._open(ticket, tenant)
        except (LoadError, TicketMissing, BundleError, OSError) as error:
            return self._remember_failure(ticket, str(error))
        except Exception as error:
            log.exception("load_crashed", ticket=ticket)
            return self._remember_failure(ticket, f"{type(error).__name__} while loading")
        finally:
            self._marker.clear_loading()
            if self._clock() - self._trimmed >= TRIM_EVERY_S:  # it is never quiet
                self._give_back()
        return None

    def _open(self, ticket: str, tenant: str) -> None:
        began = self._clock()
        bundle = self._registry.get(ticket)
        with self._lock:
            known = self._known.get(ticket)
            size = self._expected_bytes(ticket, bundle.size_bytes)
        self._make_room(size, tenant)
        opened = open_ticket(bundle, self._providers, self._shared, known.cost if known is not None else None)
        seconds = self._clock() - began
        self._place(ticket, opened, tenant, seconds * 1000)
        self._learn(ticket, bundle, opened)
        self._metrics.loaded(ticket=ticket, resident_bytes=opened.own_bytes, seconds=seconds)
        self._baselines.add(ticket)
        log.info("ticket_loaded", ticket=ticket, name=bundle.manifest.name, load_ms=round(seconds * 1000, 1))
        tell(self.changed, Change(loaded={ticket: opened.cost}))

    def _make_room(self, size: int, tenant: str) -> None:
        """Let tickets go until ``size`` more bytes fit. Raises LoadError when they never will, and then none goes."""
        with self._lock:
            tickets = self._shelf.make_room(size, tenant=tenant)
            if tickets is None:
                raise self._no_room(size)
            gone = {ticket: self._held.pop(ticket) for ticket in tickets}
        self._let_go(gone)

    def _place(self, ticket: str, opened: Opened, tenant: str, reload_ms: float) -> None:
        """Account for what was really measured, which may be more than was expected. Raises LoadError."""
        parts = opened.part_bytes()
        with self._lock:
            self._shelf.put(ticket, own_bytes=opened.own_bytes, parts=parts, reload_ms=reload_ms, tenant=tenant)
            tickets = self._shelf.make_room(0, tenant=tenant, keep=ticket)
            if tickets is None:
                self._shelf.remove(ticket)
                raise self._no_room(opened.own_bytes + sum(parts.values()))
            gone = {other: self._held.pop(other) for other in tickets}
            self._held[ticket] = opened
        self._let_go(gone)
        self._metrics.resident_bytes.set(self.used_bytes())

    def _no_room(self, size: int) -> LoadError:
        capacity = self._shelf.capacity_bytes
        if size > capacity:
            return LoadError(f"needs about {size} bytes of memory; this worker's whole budget is {capacity}")
        return LoadError("this worker's memory is reserved for other tenants")

    def _let_go(self, gone: dict[str, Opened], reason: str = "room") -> None:
        """Free what has been taken off, outside the lock, and say so."""
        if not gone:
            return
        tickets = list(gone)
        gone.clear()  # takes a while
        self._to_trim = True
        for ticket in tickets:
            self._metrics.unloaded(ticket=ticket, reason=reason)
            log.info("ticket_unloaded", ticket=ticket)
        self._metrics.resident_bytes.set(self.used_bytes())
        tell(self.changed, Change(unloaded=tickets))

    def _rest(self) -> bool:
        """What there is time for in the quiet; whether there is more."""
        self._give_back()
        if not self._baselines.next:
            return False
        self._marker.loading(self._baselines.next)
        try:
            return self._baselines.step()
        finally:
            self._marker.clear_loading()

    def _find(self, ticket: str) -> tuple[Bundle, Task] | None:
        with self._lock:
            held = self._held.get(ticket)
        try:
            return (self._registry.get(ticket), held.task) if held is not None else None
        except (TicketMissing, BundleError, OSError):
            return None

    def _give_back(self) -> None:
        """Give back what unloading has freed. It holds the allocator up for milliseconds, so not after every load."""
        if self._to_trim:
            self._to_trim, self._trimmed = False, self._clock()
            trim()

    def _expected_bytes(self, ticket: str, bundle_bytes: int) -> int:
        known = self._known.get(ticket)
        if known is None:
            return max(MIN_BYTES, int(bundle_bytes * self._ratio))
        missing = (size for key, size in known.part_bytes.items() if self._shared.find(key) is None)
        return known.own_bytes + sum(missing)

    def _learn(self, ticket: str, bundle: Bundle, opened: Opened) -> None:
        with self._lock:
            if opened.own_bytes > MIN_BYTES:
                self._ratio += _RATIO_GAIN * (opened.added_bytes / bundle.size_bytes - self._ratio)
            self._known[ticket] = Known(cost=opened.cost, own_bytes=opened.own_bytes, part_bytes=opened.part_bytes())
            self._known.move_to_end(ticket)
            while len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)

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
