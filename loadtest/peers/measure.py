"""What is measured of a running system, and how: readiness, saturation, open loop, best rate, overload.

Knows a system only by its URL, its workload and its process tree. Starting it is `loadtest.peers.start`'s,
in which order and how often `loadtest.peers.turns`'s.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.client import Client, Endpoint
from loadtest.peers.closed_loop import saturate
from loadtest.peers.dialects import WRONG, Answer, Dialect, PeerWorkload
from loadtest.peers.environments import PeerFailed
from loadtest.peers.processes import ProcessTree, Usage
from loadtest.peers.results import Cost, Point, Saturated
from loadtest.record import Record, Run
from loadtest.report import Sla, reduce_run
from loadtest.run import Plan, PreflightError, run_load, run_on_loop
from loadtest.schedule import Step
from loadtest.search import Found, HttpTrials, find_max_rate

Answers = Mapping[str, Answer]
"""What the bare loop says of each text."""

READY_WITHIN_S = 90.0
TIMEOUT_S = 2.0
"""How long an open-loop request is waited for: 80 times the limit is late enough."""
WORKED_OFF_S = 20.0
"""What the last answers of a load get after it."""
MAX_LATENESS_MS = 10.0


class Running(NamedTuple):
    """A system that answers."""

    url: str
    workload: PeerWorkload
    patient: PeerWorkload
    """Asks without a deadline that matters, for closed loops."""
    tree: ProcessTree
    scratch: Path
    qualities: Mapping[str, float]
    """Held-out accuracy by ticket id, where known."""


def wait_until_right(url: str, dialect: Dialect, workload: PeerWorkload, answers: Answers, tree: ProcessTree) -> None:
    """Return when every text is answered as the bare loop answers it.

    Raises PeerFailed when an answer is another one, when the process ends, or after READY_WITHIN_S.
    """
    give_up = time.monotonic() + READY_WITHIN_S
    while reason := run_on_loop(lambda: _ask_all(url, dialect, workload, answers)):
        tree.check()
        if time.monotonic() > give_up:
            raise PeerFailed(f"not ready within {READY_WITHIN_S:g} s: {reason}")
        time.sleep(0.1)


async def _ask_all(url: str, dialect: Dialect, workload: PeerWorkload, answers: Answers) -> str:
    """Why not every text is answered yet; empty when it is."""
    client = Client(Endpoint.parse(url), timeout_s=10.0)
    try:
        for request, (text, answer) in zip(workload.all(), answers.items(), strict=True):
            reply = await client.request(request.payload)
            code = workload.read(request, reply)[0]
            if code not in ("", WRONG):
                return f"{text!r} is answered {code} {reply.body[:200]!r}"
            found = dialect.read(reply.body)
            if request.expected and not found.agrees(answer):
                raise PeerFailed(f"{text!r} is answered {found}; the bare loop says {answer}")
    finally:
        await client.close()
    return ""


def measure_saturated(running: Running, connections: int, seconds: float) -> Saturated:
    """A closed loop, and what it cost."""
    before = running.tree.usage()
    closed = saturate(running.url, running.patient, connections=connections, seconds=seconds, scratch=running.scratch)
    return Saturated(closed=closed, cost=cost_between(before, running.tree.usage(), round(closed.per_s * seconds)))


def cost_between(before: Usage, after: Usage, answers: int) -> Cost:
    """What so many answers took, and the memory held afterwards."""
    return Cost(
        cpu_s_per_1000=1000 * (after.cpu_s - before.cpu_s) / answers if answers else None,
        pss_bytes=after.pss_bytes,
        rss_bytes=after.rss_bytes,
        processes=after.processes,
    )


def measure_rate(running: Running, step: Step, limit_ms: float, *, seed: int) -> Point:
    """One open-loop run. Raises PeerFailed when the system no longer answers at all."""
    plan = _plan(running.url, step, seed)
    before = running.tree.usage()
    try:
        run, records = run_on_loop(lambda: _bounded_load(plan, running, step))
    except PreflightError as error:
        raise PeerFailed(f"no answer before {step.rate_per_s:g}/s: {error}") from error
    except TimeoutError as error:
        raise PeerFailed(f"{step.rate_per_s:g}/s: its answers did not end {WORKED_OFF_S:g} s after the load") from error
    after = running.tree.usage()
    report = reduce_run(run, records, Sla(default_ms=limit_ms), max_lateness_ms=MAX_LATENESS_MS)
    total = report.steps[0].total
    answered = sum(not record.code for record in records)
    return Point(
        rate_per_s=step.rate_per_s,
        is_valid=report.valid,
        answered_per_s=total.answered_per_s,
        goodput_per_s=total.goodput_per_s,
        good_after_sending_per_s=_sent_in_time(records, limit_ms) / step.duration_s,
        sent_per_s=total.sent_per_s,
        p50_ms=total.from_intended.p50_ms,
        p99_ms=total.from_intended.p99_ms,
        p99_after_sending_ms=total.from_send.p99_ms,
        errors=total.errors,
        tickets=total.tickets,
        cost=cost_between(before, after, answered),
        quality=_mean_quality(total.tickets, running.qualities),
    )


async def _bounded_load(plan: Plan, running: Running, step: Step) -> tuple[Run, list[Record]]:
    """The load, given up where its last answers do not come: a queue without a bound may take minutes to empty."""
    async with asyncio.timeout(step.warmup_s + step.duration_s + WORKED_OFF_S):
        return await run_load(plan, running.workload, read=running.workload.read)


def find_best_rate(running: Running, *, start_per_s: float, step: Step, limit_ms: float) -> Found:
    """The highest rate whose p99 stays within the limit, to 5 %, looked for around ``start_per_s``.

    ``step`` says how long each trial is.
    """

    async def search() -> Found:
        trials = HttpTrials(
            _plan(running.url, step, 100),
            running.workload,
            Sla(default_ms=limit_ms),
            limit_ms=limit_ms,
            max_lateness_ms=MAX_LATENESS_MS,
            read=running.workload.read,
        )
        return await find_max_rate(
            trials, limit_ms=limit_ms, start_per_s=start_per_s, growth=1.25, lowest_per_s=start_per_s / 12
        )

    try:
        return run_on_loop(search)
    except PreflightError as error:
        raise PeerFailed(f"no answer during the search: {error}") from error


def _plan(url: str, step: Step, seed: int) -> Plan:
    return Plan(url=url, steps=[step], seed=seed, timeout_s=TIMEOUT_S)


def _sent_in_time(records: Iterable[Record], limit_ms: float) -> int:
    return sum(
        1000.0 * (record.done_s - record.sent_s) <= limit_ms
        for record in records
        if not record.warmup and not record.code and record.sent_s is not None
    )


def _mean_quality(tickets: Mapping[str, int], qualities: Mapping[str, float]) -> float | None:
    known = [(count, qualities[ticket]) for ticket, count in tickets.items() if ticket in qualities]
    total = sum(count for count, _ in known)
    return sum(count * quality for count, quality in known) / total if total else None


def rates_up_to(rates: Sequence[float], capacity_per_s: float) -> list[float]:
    """The rates worth asking for: those up to a quarter above the capacity, and at least the lowest."""
    return [rate for rate in rates if rate <= 1.25 * capacity_per_s] or sorted(rates)[:1]
