"""The dashboard of one gateway: samples all processes every five seconds, and answers overviews from that.

Owns the sampling task, the thread in which samples are reduced and overviews are made (so that requests do not wait for
either), and the cache: an overview is made once in two seconds for each window, tenant and role, however many pages are
open, and is kept as the bytes that go out. What an overview says is `server.dashboard.view`'s.
"""

import asyncio
import contextlib
import gzip
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

import msgspec
import structlog

from routing.access import Caller, Right
from routing.store import Store, StoreCorrupt, StoreUnavailable
from server.dashboard.facts import Facts, Users
from server.dashboard.history import SLOTS, STEP_S, History
from server.dashboard.news import News
from server.dashboard.series import Reader
from server.dashboard.view import look
from server.errors import NotReady
from server.gateway import Gateway
from server.overseer import CanaryStanding

FRESH_S = 2.0
"""How long an overview is given out again before it is made anew."""
USUAL_S = 1.0
"""Redis is away when it has not answered for so long: it is asked four times a second."""

log = structlog.get_logger()


class Judge(Protocol):
    """Tells how a canary stands."""

    async def standing(self, tenant: str, domain: str) -> CanaryStanding | None:
        """What has been counted and found of a domain's canary; None where it has none."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """An overview as it goes out."""

    plain: bytes
    zipped: bytes


_Wanted = tuple[int, str | None, Right]


class Dashboard:
    """One gateway's. ``collect`` asks every process for its metrics: bytes by name, empty for no answer.

    `run` must run beside it: without samples overviews have no numbers. ``clock`` gives seconds since 1970.
    """

    def __init__(
        self, gateway: Gateway, store: Store, collect: Callable[[], Awaitable[Mapping[str, bytes]]], *,
        name: str, judge: Judge | None = None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.made = 0
        """Overviews made: those given out again are not counted."""
        self._gateway = gateway
        self._collect = collect
        self._name = name
        self._judge = judge
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._reader = Reader()
        self._history = History()
        self._users = Users(SLOTS * STEP_S)
        self._used: Mapping[str, frozenset[str]] = {}
        self._news = News(store)
        self._standings: dict[tuple[str, str], CanaryStanding] = {}
        self._asked_at = -FRESH_S
        self._kept: dict[_Wanted, tuple[float, asyncio.Task[Body]]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dashboard")

    async def run(self) -> None:
        """Sample until cancelled. A sample that fails is left out: the gateway does not fall for its dashboard."""
        due = self._loop.time()
        try:
            while True:
                try:
                    await self.sample()
                except Exception:
                    log.exception("dashboard_sample_failed")
                due = max(due + STEP_S, self._loop.time())
                await asyncio.sleep(due - self._loop.time())
        finally:
            self.close()

    def close(self) -> None:
        """End its thread: no more samples, no more overviews."""
        for _, task in self._kept.values():
            task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def sample(self) -> None:
        """Ask every process, and add what they say to the history."""
        dumps = await self._collect()
        table = self._gateway.dispatcher.table
        if table is not None:
            self._used = self._users.see(table, self._clock())
        workers = frozenset(self._gateway.fleet.known)
        await self._loop.run_in_executor(self._thread, partial(self._add, self._clock(), dumps, workers))

    async def overview(self, caller: Caller, window_s: int) -> Body:
        """What ``caller`` sees of the last ``window_s`` seconds, at most two seconds old."""
        wanted = (window_s, caller.tenant, caller.role)
        now = self._loop.time()
        kept = self._kept.get(wanted)
        if kept is None or now >= kept[0] or _has_failed(kept[1]):
            self._kept = {key: one for key, one in self._kept.items() if now < one[0]}  # what is old is large, too
            kept = (now + FRESH_S, asyncio.create_task(self._make(caller, window_s), name="overview"))
            self._kept[wanted] = kept
        return await asyncio.shield(kept[1])  # who goes away does not take it from the others that wait

    async def _make(self, caller: Caller, window_s: int) -> Body:
        facts = await self._facts(caller)
        self.made += 1
        return await self._loop.run_in_executor(self._thread, partial(self._render, caller, window_s, facts))

    async def _facts(self, caller: Caller) -> Facts:
        gateway = self._gateway
        away_s = self._loop.time() - gateway.fleet.redis_seen_at - USUAL_S
        not_ready = ""
        try:
            gateway.check_ready()
        except NotReady as error:
            not_ready = error.message
        if away_s <= 0:
            await self._ask_judge()
        events = await self._news.of(caller.tenant, may_look=away_s <= 0)
        return Facts(
            at=self._clock(), version=gateway.version, gateway=self._name, table=gateway.dispatcher.table,
            accounts=gateway.doorman.accounts, workers=gateway.fleet.linked, not_ready=not_ready,
            redis_away_s=away_s if away_s > 0 else None, missing=gateway.catalogue.missing,
            standings=dict(self._standings), users=self._used, events=events,
            are_events_fresh=self._news.are_fresh,
        )  # fmt: skip

    async def _ask_judge(self) -> None:
        """How the canaries stand, for all who watch. What cannot be asked now is not known."""
        now, table = self._loop.time(), self._gateway.dispatcher.table
        if self._judge is None or table is None or now - self._asked_at < FRESH_S:
            return
        self._asked_at = now
        found: dict[tuple[str, str], CanaryStanding] = {}
        for tenant, domain in table.canaries:
            with contextlib.suppress(StoreUnavailable, StoreCorrupt):
                standing = await self._judge.standing(tenant, domain)
                if standing is not None:
                    found[tenant, domain] = standing
        self._standings = found

    def _add(self, at: float, dumps: Mapping[str, bytes], workers: frozenset[str]) -> None:
        """In the dashboard's thread."""
        self._history.add(at, [self._reader.read(name, dumped, workers) for name, dumped in dumps.items()])

    def _render(self, caller: Caller, window_s: int, facts: Facts) -> Body:
        """In the dashboard's thread."""
        plain = msgspec.json.encode(look(caller, window_s, self._history.window(window_s), facts))
        return Body(plain=plain, zipped=gzip.compress(plain, 1, mtime=0))


def _has_failed(task: asyncio.Task[Body]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
