"""Several gateways on one real Redis whose clock a test owns: the script as it is, time as the test says.

Owns virtual time, messages that are lost, late or run twice, and the record of what was admitted. It asserts nothing.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

from redis.asyncio import Redis

from routing.account import Limits
from routing.limits import DAY_S, PERIOD_S, Grant, Now, Report
from routing.redis.keys import Keys
from routing.redis.shares import LEASE, Shares
from routing.share import Share

VIRTUAL = LEASE.replace("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}")
assert VIRTUAL != LEASE
_names = itertools.count()


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class _Client:
    """A client of a real Redis that runs the leasing script by a test's clock."""

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis, self._clock = redis, clock

    async def evalsha(self, _digest: str, count: int, *arguments: Any) -> Any:
        seconds = int(self._clock.now)
        microseconds = int((self._clock.now - seconds) * 1e6)
        return await self._redis.eval(VIRTUAL, count, *arguments, seconds, microseconds)


def shares_at(redis: Redis, clock: Clock, namespace: str = "world") -> Shares:
    """The real class and the real script on a virtual clock."""
    connection: Any = SimpleNamespace(client=_Client(redis, clock), keys=Keys(namespace))
    return Shares(connection)


class Gateway:
    """A share and its reports, as `server.limits` sends them."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = f"{name}.{next(_names)}"
        self.share = Share(world.limits, world.clock.now, world.clock.now + DAY_S - world.clock.now % DAY_S)
        self.is_reporting = False
        self.reported_at = -1.0

    async def report(self) -> None:
        """One round trip that works."""
        sent = self.share.report("t", self.world.clock.now)
        state, (grant,) = await self.world.shares.lease(self.name, [sent])
        self.share.settle(sent, grant, state, self.world.clock.now)


class World:
    """Gateways, requests of random lengths, and a network that is as bad as ``loss`` (of each way) says."""

    def __init__(
        self, redis: Redis, limits: Limits, *, gateways: int = 3, seed: int = 0, loss: float = 0.0,
        lasts_s: float = 0.05, start: float = 1_000_000.0,
    ) -> None:  # fmt: skip
        self.clock = Clock(start)
        self.limits = limits
        self.shares = shares_at(redis, self.clock)
        self.random = Random(seed)
        self.loss = loss
        self.lasts_s = lasts_s
        self.gateways = [Gateway(self, f"g{i}") for i in range(gateways)]
        self.admitted: list[float] = []
        self.let_in = [0] * gateways
        self.in_flight = self.most_in_flight = 0
        self._events: list[tuple[float, int, Callable[[], Any]]] = []
        self._order = itertools.count()

    def at(self, when: float, what: Callable[[], Any]) -> None:
        heapq.heappush(self._events, (when, next(self._order), what))

    async def run_until(self, ends: float) -> None:
        while self._events and self._events[0][0] <= ends:
            self.clock.now, _, what = heapq.heappop(self._events)
            result = what()
            if asyncio.iscoroutine(result):
                await result
        self.clock.now = ends

    def hammer(self, index: int, per_s: float, until: float) -> None:
        """Requests at one gateway at random moments, ``per_s`` on average."""

        def ask() -> None:
            self.ask(index)
            if self.clock.now < until:
                self.at(self.clock.now + self.random.expovariate(per_s), ask)

        self.at(self.clock.now + self.random.expovariate(per_s), ask)

    def ask(self, index: int) -> bool:
        """One request at one gateway: whether it was let in."""
        gateway, now = self.gateways[index], self.clock.now
        refused = gateway.share.take(now)
        if not gateway.is_reporting:
            gateway.is_reporting = True
            self.at(now + 0.001, lambda: self._report(gateway))
        if refused is not None:
            return False
        self.let_in[index] += 1
        self.admitted.append(now)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.at(now + self.random.expovariate(1 / self.lasts_s), lambda: self._end(gateway))
        return True

    def restart(self, index: int) -> None:
        """The gateway is killed, and another takes its place; what it had in flight is lost with it."""
        old, self.gateways[index] = self.gateways[index], Gateway(self, f"g{index}")
        self.in_flight -= old.share.in_flight
        old.share.in_flight = -1 << 40  # its requests will never end

    def _end(self, gateway: Gateway) -> None:
        if gateway in self.gateways:
            gateway.share.release()
            self.in_flight -= 1

    def _report(self, gateway: Gateway) -> None:
        if gateway not in self.gateways:
            return
        sent = gateway.share.report("t", self.clock.now)
        took_s = self.random.uniform(0.0005, 0.02)
        if self.random.random() >= self.loss:
            self.at(self.clock.now + took_s / 2, lambda: self._arrive(gateway, sent, self.clock.now + took_s / 2))
        if self.random.random() < self.loss:  # a copy that was under way for long arrives after later ones
            self.at(self.clock.now + self.random.uniform(0.0, 0.5), lambda: self._arrive(gateway, sent, None))
        self.at(self.clock.now + took_s + 0.0001, lambda: self._next(gateway))

    async def _arrive(self, gateway: Gateway, sent: Report, answer_at: float | None) -> None:
        state, (grant,) = await self.shares.lease(gateway.name, [sent])
        if answer_at is not None and self.random.random() >= self.loss:
            self.at(answer_at, lambda: self._settle(gateway, sent, grant, state))

    def _settle(self, gateway: Gateway, sent: Report, grant: Grant, state: Now) -> None:
        gateway.share.settle(sent, grant, state, self.clock.now)

    def _next(self, gateway: Gateway) -> None:
        if gateway.share.is_quiet:
            gateway.is_reporting = False
        else:
            self.at(self.clock.now + (0.01 if gateway.share.is_hungry else PERIOD_S), lambda: self._report(gateway))


def worst_excess(times: list[float], rate_per_s: float) -> float:
    """The largest (admitted in a window - rate x its length), over all windows."""
    worst = least = 0.0
    for number, at in enumerate(times):
        before = number - rate_per_s * at
        least = before if number == 0 else min(least, before)
        worst = max(worst, before + 1 - least)
    return worst
