"""Many tickets in one worker's memory: bytes of each, how long loads take, and whom they disturb.

A thousand distinct tickets are made from the starter family's fast ones, in three ways: with one word
table and tokenizer for all (a family of classifiers), each with a word table of its own, and each with
a tokenizer of its own too, so that nothing is shared. One process loads them all into 2 GiB through
`server.sessions`, runs one hot ticket on a schedule while others come and go, then lets all go.
Latencies count from the intended time. Files come from the page cache.
"""

import gc
import itertools
import json
import multiprocessing
import os
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import structlog
from prometheus_client import CollectorRegistry

from loadtest.sentences import BANKING
from server.graph_tables import find_tables
from server.memory import heap_bytes, is_exact, resident_bytes, trim
from server.sessions import Sessions
from server.worker_metrics import WorkerMetrics
from tickets import bundle as bundles
from tickets.registry import Registry

TICKETS = 1000
BUDGET_BYTES = 2 << 30
VARIANTS: dict[str, tuple[str, ...]] = {
    "one word table": (),
    "own word tables": ("table",),
    "own tables and tokenizers": ("table", "tokenizer"),
}
HOT_EVERY_S = 0.005
HOT_TEXTS = 8
HOT_S = 3.0
TURNS = 3
PATIENCE_S = 60.0
COLUMNS = (
    "tickets", "held", "file, MB", "accounted, MB", "resident, MB", "load p50/p99, ms", "hot p99 alone, ms",
    "while loading, ms", "ratio", "left after unloading all, MB",
)  # fmt: skip
ELEMENT_BYTES = 4


def measure_many(announce: Callable[[str], None], tickets: int = TICKETS) -> list[dict[str, Any]]:
    """One entry per variant; see `_measure` for what is in it."""
    results = []
    for variant, different in VARIANTS.items():
        announce(f"many: making {tickets} tickets, {variant}")
        with tempfile.TemporaryDirectory() as folder:
            make_tickets(Path(folder), tickets, different)
            announce(f"many: {variant}")
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process of its own, for its memory
                results.append({"variant": variant} | pool.apply(_measure, (folder,)))
    return results


def table(results: list[dict[str, Any]]) -> list[list[str]]:
    """Rows for COLUMNS; bytes are per ticket."""
    rows = []
    for entry in results:
        load, alone, beside = entry["load_ms"], entry["hot_alone_ms"], entry["hot_beside_loads_ms"]
        left = entry["after_unloading_all"]["rss"] - entry["start"]["rss"]
        per_ticket = (entry["bundle_bytes"], entry["accounted_per_ticket"], entry["rss_per_ticket"])
        rows.append(
            [
                entry["variant"], f"{entry['held']:,} of {entry['tickets']:,}",
                *(f"{size / 1e6:.2f}" for size in per_ticket),
                f"{load['p50']:.0f}/{load['p99']:.0f}", f"{alone['p99']:.1f}", f"{beside['p99']:.1f}",
                f"{statistics.median(entry['hot_p99_ratios']):.1f}", f"{left / 1e6:.0f}",
            ]
        )  # fmt: skip
    return rows


def make_tickets(folder: Path, count: int, different: tuple[str, ...]) -> None:
    """Distinct tickets as files of a registry: matrices, calibrations and ids differ, and what ``different`` names.

    The weights are the original's in another order, so answers mean nothing, and cost the same.
    """
    original = bundles.read(Path("tickets/starter/banking-fast.ticket"))
    members = {name: bytes(data) for name, data in original.members.items()}
    model = onnx.load_from_string(members["model.onnx"])
    large = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= 16 << 10]
    tables = {table.name for table in find_tables(members["model.onnx"])}
    changing = [tensor for tensor in large if "table" in different or tensor.name not in tables]
    weights = {tensor.name: np.frombuffer(tensor.raw_data, np.uint8) for tensor in changing}
    words = json.loads(members["tokenizer.json"])
    vocabulary = words["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    for number in range(1, count + 1):
        for tensor in changing:
            tensor.raw_data = np.roll(weights[tensor.name], number * tensor.dims[1] * ELEMENT_BYTES).tobytes()
        members["model.onnx"] = model.SerializeToString()
        if "tokenizer" in different:
            words["model"]["vocab"] = {word if word != last else f"zz{number}": i for word, i in vocabulary.items()}
            members["tokenizer.json"] = json.dumps(words, ensure_ascii=False).encode()
        calibration = msgspec.structs.replace(original.manifest.calibration, temperature=1.0 + number / 1e6)
        manifest = msgspec.structs.replace(original.manifest, calibration=calibration)
        data = bundles.pack(manifest, members)
        (folder / f"{bundles.ticket_id(data)}.ticket").write_bytes(data)


def _measure(folder: str) -> dict[str, Any]:
    """In a process of its own: what one variant takes, in bytes and milliseconds."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    registry = Registry(Path(folder))
    sessions = Sessions(
        registry, WorkerMetrics(CollectorRegistry()), memory_bytes=BUDGET_BYTES, providers=["CPUExecutionProvider"]
    )
    tickets = registry.ids()
    _load(sessions, tickets[0])
    sessions.unload(tickets)
    start = _memory()
    loads_ms = [_load(sessions, ticket) for ticket in tickets]
    held = sessions.holds()
    full, accounted = _memory(), sessions.used_bytes()
    alone_ms, beside_ms, ratios = _hot_turns(sessions, tickets)
    sessions.unload(sessions.holds())
    end = _memory()
    sessions.close()
    return {
        "tickets": len(tickets),
        "held": len(held),
        "bundle_bytes": registry.path(tickets[0]).stat().st_size,
        "exact": is_exact(),
        "accounted_per_ticket": accounted / len(held),
        "rss_per_ticket": (full["rss"] - start["rss"]) / len(held),
        "heap_per_ticket": (full["heap"] - start["heap"]) / len(held),
        "load_ms": _percentiles(loads_ms),
        "hot_alone_ms": _percentiles(alone_ms),
        "hot_beside_loads_ms": _percentiles(beside_ms),
        "hot_p99_ratios": ratios,
        "start": start,
        "full": full,
        "after_unloading_all": end,
    }


def _memory() -> dict[str, int]:
    gc.collect()
    trim()
    return {"rss": resident_bytes(), "heap": heap_bytes()}


def _load(sessions: Sessions, ticket: str) -> float:
    """Milliseconds until the ticket is in memory."""
    done: queue.Queue[str | None] = queue.Queue()
    start = time.perf_counter()
    sessions.load(ticket, done.put)
    reason = done.get(timeout=PATIENCE_S)
    if reason is not None:
        raise RuntimeError(f"ticket {ticket} was not loaded: {reason}")
    return (time.perf_counter() - start) * 1000


def _hot_turns(sessions: Sessions, tickets: Sequence[str]) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds from the intended time of a hot ticket's batches, alone and while others load, and the
    ratio of the two 99th percentiles in each turn."""
    hot, *others = tickets
    _load(sessions, hot)
    alone: list[float] = []
    beside: list[float] = []
    ratios = []
    turn_of = itertools.cycle(others)
    for _ in range(TURNS):
        quiet = _run_hot(sessions, hot)
        stop = threading.Event()
        thread = threading.Thread(target=_come_and_go, args=(sessions, turn_of, stop))
        thread.start()
        busy = _run_hot(sessions, hot)
        stop.set()
        thread.join()
        alone += quiet
        beside += busy
        ratios.append(_percentiles(busy)["p99"] / _percentiles(quiet)["p99"])
    return alone, beside, ratios


def _come_and_go(sessions: Sessions, tickets: Iterator[str], stop: threading.Event) -> None:
    """Unload a ticket and load it again, one after the other, without a pause."""
    while not stop.is_set():
        ticket = next(tickets)
        sessions.unload([ticket])
        _load(sessions, ticket)


def _run_hot(sessions: Sessions, ticket: str) -> list[float]:
    """As a worker's run thread does: a batch every HOT_EVERY_S; milliseconds from when each should have begun."""
    latencies_ms: list[float] = []

    def run() -> None:
        start = time.perf_counter()
        for number in range(int(HOT_S / HOT_EVERY_S)):
            intended = start + number * HOT_EVERY_S
            time.sleep(max(0.0, intended - time.perf_counter()))
            task = sessions.get(ticket)
            assert task is not None
            task.run([BANKING[(number + i) % len(BANKING)] for i in range(HOT_TEXTS)])
            latencies_ms.append((time.perf_counter() - intended) * 1000)

    thread = threading.Thread(target=run, name="run")
    thread.start()
    thread.join()
    return latencies_ms


def _percentiles(values: list[float]) -> dict[str, float]:
    return {"p50": float(np.percentile(values, 50)), "p99": float(np.percentile(values, 99)), "max": max(values)}
