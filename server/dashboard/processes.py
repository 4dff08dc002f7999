"""The workers and gateways of an overview, and the control plane: for operators. Pure.

Owns their rows, made from what each process said last and what it alone has counted in the window.
"""

from collections.abc import Iterable

from routing.lease import LeaseKind
from server.dashboard import series
from server.dashboard.buckets import Points, listed
from server.dashboard.facts import Facts
from server.dashboard.history import Process, Window, of_process
from server.dashboard.overview import Control, GatewayRow, WorkerRow


def present(window: Window, kind: LeaseKind) -> Iterable[Process]:
    """The processes of a kind that are known of now, by name."""
    return sorted(
        (process for process in window.processes.values() if process.kind == kind and process.is_known),
        key=lambda process: process.name,
    )


def worker_rows(window: Window, points: Points) -> list[WorkerRow]:
    """Every worker; ``points`` are those of all curves."""
    return [_worker(window, points, process) for process in present(window, "worker")]


def gateway_rows(window: Window, facts: Facts) -> list[GatewayRow]:
    """Every gateway."""
    return [_gateway(window, process, facts.gateway) for process in present(window, "gateway")]


def control_of(window: Window, facts: Facts, *, is_operator: bool) -> Control:
    """The control plane as this gateway sees it."""
    is_up = facts.redis_away_s is None
    if not is_operator:
        return Control(is_redis_up=is_up, table_version=None, table_since=None, redis_away_s=None)
    this = window.processes.get(facts.gateway)
    return Control(
        is_redis_up=is_up,
        table_version=None if facts.table is None else facts.table.version,
        table_since=None if this is None else _gauge(this, series.TABLE_USED),
        redis_away_s=None if facts.redis_away_s is None else round(facts.redis_away_s, 1),
    )


def _worker(window: Window, points: Points, process: Process) -> WorkerRow:
    busy = points.add_up(window.steps([of_process(series.BUSY, process.name)]))[:, 0] / points.seconds
    counted = _Counted(window, process)
    return WorkerRow(
        name=process.name, is_up=process.is_up, busy=_at_most_one(counted.per_s(series.BUSY)),
        queue_texts=_gauge(process, series.QUEUE_TEXTS), wait_ms=_gauge(process, series.WAIT, 1000.0),
        texts_per_s=counted.per_s(series.TEXTS), tickets=_whole(_gauge(process, series.LOADED)),
        resident_bytes=_gauge(process, series.RESIDENT), process_bytes=_gauge(process, series.MEMORY),
        loads=counted.total(series.LOADS), evictions=counted.total(series.UNLOADS), up_since=process.started_at,
        restarts=len(process.restarts), spark_busy=listed(busy.clip(0.0, 1.0)),
    )  # fmt: skip


def _gateway(window: Window, process: Process, this: str) -> GatewayRow:
    return GatewayRow(
        name=process.name, is_up=process.is_up, is_this=process.name == this,
        in_flight=_gauge(process, series.IN_FLIGHT), rate_per_s=_Counted(window, process).per_s(series.REQUESTS),
        workers=_gauge(process, series.WORKERS), table_version=_whole(_gauge(process, series.TABLE_VERSION)),
        stale_s=_gauge(process, series.STALE), process_bytes=_gauge(process, series.MEMORY),
        up_since=process.started_at, restarts=len(process.restarts),
    )  # fmt: skip


class _Counted:
    """What one process has counted in the window; nothing is known of one that never answered in it."""

    def __init__(self, window: Window, process: Process) -> None:
        self._window = window
        self._name = process.name
        began = window.at[-1] - window.covered_s if len(window.at) else 0.0
        self._is_known = window.covered_s > 0 and process.seen_at is not None and process.seen_at > began

    def total(self, name: str) -> float | None:
        return round(self._window.total(of_process(name, self._name)), 3) if self._is_known else None

    def per_s(self, name: str) -> float | None:
        total = self.total(name)
        return None if total is None else round(total / self._window.covered_s, 3)


def _gauge(process: Process, name: str, factor: float = 1.0) -> float | None:
    """What an answering process says now."""
    value = process.gauges.get((name,)) if process.is_up else None
    return None if value is None else round(value * factor, 3)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _at_most_one(value: float | None) -> float | None:
    return None if value is None else min(1.0, value)
