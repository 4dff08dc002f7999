"""Makes a load: the preflight, then each step in turn with a fresh schedule, on one client.

The one place that composes schedule, workload, client and sender; the command line, the search for
the highest rate and the benchmarks call it. Steps are separated by a drain, so that one
step's backlog is never charged to the next.
"""

import asyncio
import contextlib
import datetime
import functools
import resource
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from loadtest.client import Client, Endpoint
from loadtest.connection import Reply
from loadtest.record import Record, Run
from loadtest.schedule import Arrivals, Step, arrivals
from loadtest.send import Read, Sender, read_answer
from loadtest.workload import Requests

T = TypeVar("T")
Watch = Callable[[Sender, Step], None]
PREFLIGHT_PAUSE_S = 0.25
NOT_YET = (429, 503, 504)


class PreflightError(Exception):
    """The load cannot begin: nobody listens, the key is unknown, a domain or tier does not exist, ..."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send, and when."""

    url: str
    steps: list[Step]
    arrivals: Arrivals = "poisson"
    seed: int = 0
    timeout_s: float = 10.0
    max_connections: int = 1024
    preflight_s: float = 10.0
    """How long a server may refuse or not answer (a ticket that still loads) before the load is called off."""


async def run_load(
    plan: Plan,
    workload: Requests,
    *,
    stop: asyncio.Event | None = None,
    watch: Watch | None = None,
    read: Read = read_answer,
) -> tuple[Run, list[Record]]:
    """Make the load of ``plan`` and return its raw records. Raises PreflightError before anything is counted.

    ``stop`` ends it early (the records so far come back). ``watch`` is called about once a second. ``read`` tells a
    good reply from a bad one.
    """
    stop = stop or asyncio.Event()
    allow_open_files(plan.max_connections)
    records: list[Record] = []
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    client = Client(Endpoint.parse(plan.url), max_connections=plan.max_connections, timeout_s=plan.timeout_s)
    try:
        await preflight(client, workload, plan, stop, read)
        for index, step in enumerate(plan.steps):
            if stop.is_set():
                break
            sender = Sender(client, step, index=index, read=read)
            seed = f"{plan.seed}/{index}"
            due = arrivals(step, plan.arrivals, seed)
            look = functools.partial(watch, sender, step) if watch else _see_nothing
            await _watched(sender.run(due, workload.requests(seed), stop), look)
            records += sender.records
    finally:
        await client.close()
    run = Run(
        url=plan.url,
        arrivals=plan.arrivals,
        seed=plan.seed,
        steps=plan.steps,
        timeout_s=plan.timeout_s,
        max_connections=plan.max_connections,
        started=started,
        interrupted=stop.is_set(),
    )
    return run, records


async def preflight(
    client: Client, workload: Requests, plan: Plan, stop: asyncio.Event, read: Read = read_answer
) -> None:
    """One request per target. Raises PreflightError with what to do, unless every one of them is answered well.

    Refusals and timeouts are tried again for ``plan.preflight_s``: a ticket may still be loading, and an earlier
    load be worked off.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + plan.preflight_s
    for request in workload.examples():
        while not stop.is_set():
            reply = await client.request(request.payload)
            code = read(request, reply)[0]
            if not code:
                break
            if (reply.status in NOT_YET or code == "timeout") and loop.time() < give_up:
                await asyncio.sleep(PREFLIGHT_PAUSE_S)
                continue
            target = request.target
            what = f"tenant {target.tenant}, domain {target.domain}" + (f", tier {target.tier}" if target.tier else "")
            raise PreflightError(_advice(plan.url, what, reply, code))


def _advice(url: str, what: str, reply: Reply, code: str) -> str:
    said = reply.body.decode(errors="replace").strip()[:300]
    if code in ("connect_refused", "connect_failed", "connect_timeout"):
        return (
            f"{url}: no connection ({said}). Is the server running? Start it with `tombola up`, or name it with --url."
        )
    if reply.failure:
        return f"{url}: no answer ({code}{': ' + said if said else ''}). Is this the gateway's data port?"
    if reply.status == 401:
        return f"{url}: the server does not know this key ({what}). Give another with --key or TOMBOLA_KEY."
    if reply.status == 404:
        return f"{url}: not found ({what}): {said}. Name others with --domain and --tier."
    if code == "bad_body":
        return f"{url}: answers 200, but not as POST /v1/classify does ({what}): {said}"
    return f"{url}: the first request was answered {reply.status} {code} ({what}): {said}"


def _see_nothing() -> None:
    """Nobody watches."""


async def _watched(work: Coroutine[Any, Any, None], look: Callable[[], object]) -> None:
    """Await ``work``, calling ``look`` once a second and at the end."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait((task,), timeout=1.0))[0]:
            look()
    finally:
        if not task.done():
            task.cancel()
    look()
    await task


def allow_open_files(connections: int) -> None:
    """Raise this process's limit on open files, where it may, so that every connection gets a descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 128
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if limit > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def run_on_loop(main: Callable[[], Awaitable[T]]) -> T:
    """Run ``main`` on uvloop where it is installed, else on asyncio's own loop."""
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):  # not on every platform
        from uvloop import new_event_loop

    async def call() -> T:
        return await main()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(call())
