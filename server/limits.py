"""Admission by tenants' limits in one gateway: who may come in is decided here and now, Redis is asked in between.

Owns the shares of the tenants that have limits, and the one task that reports on the active ones (`Limiter.run`). What
a share decides is `routing.share`, what Redis makes of a report `routing.redis.shares`, what callers are told
`server.meter`. A tenant without limits costs two failed look-ups.
"""

import asyncio
import contextlib
import math
import random
import secrets
import time
from collections.abc import Callable, Mapping
from itertools import islice

import structlog

from routing.account import Account, Limits
from routing.limits import PERIOD_S, UNKNOWN_GATEWAYS, is_limited
from routing.redis.shares import LeasingRefused, Shares
from routing.store import StoreCorrupt, StoreUnavailable
from server.meter import FREE, Meter, Permit

GAP_S = 0.01
"""The least time between two reports, however hungry the shares are."""
HEARTBEAT_S = 1.0
"""How often a gateway without an active tenant says that it is there."""
LOOK_S = 0.25
"""How often changed limits are looked for."""
RETRY_S = 0.5
PATIENCE_S = 0.05
"""How long a request may wait for Redis's next answer where that is believed to hold more; else it is refused."""
FORGET_S = 120.0
"""A share that nobody has asked for this long, and whose credit is due again, is forgotten."""
_AT_ONCE = 128

log = structlog.get_logger()


class Limiter:
    """One gateway's. `run` must run beside it: without reports it lets in no more than the first credits."""

    def __init__(
        self, shares: Shares | None, name: str, accounts: Callable[[], Mapping[str, Account]],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        """``accounts`` gives the accounts in use; it must give another mapping when one of them has changed."""
        self.state = "connected"
        """Or "cut off": Redis is out of reach. Or "refused": Redis is there and will not do it; that must be mended."""
        self._shares = shares
        self._holder = f"{name}.{secrets.token_hex(4)}"  # a gateway that starts again holds nothing of its former life
        self._accounts = accounts
        self._clock = clock
        self._random = random.Random()
        self._seen: Mapping[str, Account] | None = None
        self._limits: dict[str, Limits] = {}
        self._meters: dict[str, Meter] = {}
        self._active: dict[str, Meter] = {}
        self.gateways = UNKNOWN_GATEWAYS
        """How many gateways there are, as Redis last knew."""
        self.reports = 0
        """Round trips that Redis has answered."""
        self._wake = asyncio.Event()
        self._answered: asyncio.Future[None] | None = None
        self.use_accounts()

    @classmethod
    def unlimited(cls) -> "Limiter":
        """One that lets everything in."""
        return cls(None, "unlimited", dict)

    @property
    def active(self) -> int:
        """Tenants of which something is held here, or wanted."""
        return len(self._active)

    @property
    def tracked(self) -> int:
        """Tenants that have a share here, in use or not."""
        return len(self._meters)

    def admit(self, tenant: str, now: float, *, is_last: bool = False) -> Permit | None:
        """Let a request in; None where only Redis's next answer can tell: `admit_soon`. Raises RateLimited.

        ``now`` is on this limiter's clock, by default `time.perf_counter`; ``is_last``: there is no time to wait.
        """
        meter = self._meters.get(tenant)
        if meter is None:
            limits = self._limits.get(tenant)
            if limits is None:
                return FREE
            meter = self._begin(tenant, limits, now)
        share = meter.share
        if share.is_quiet:
            self._active[tenant] = meter
        limit = share.take(now)
        if share.is_hungry:
            self._wake.set()
        if limit is None:
            return meter
        if not is_last and share.hopes(limit, now):
            return None
        raise meter.refusal(limit, now)

    async def admit_soon(self, tenant: str) -> Permit:
        """As `admit`, after waiting up to `PATIENCE_S` for Redis's next answers. Raises RateLimited."""
        ends = self._clock() + PATIENCE_S
        while True:
            meter = self._meters.get(tenant)
            if meter is not None:
                meter.share.waiting += 1
                try:
                    await self._answer(ends - self._clock())
                finally:
                    meter.share.waiting -= 1
            now = self._clock()
            permit = self.admit(tenant, now, is_last=now >= ends)
            if permit is not None:
                return permit

    async def run(self) -> None:
        """Report on the active tenants until cancelled; then give back what is held."""
        if self._shares is None:
            return
        reported_at = -math.inf
        try:
            while True:
                await self._until_due(reported_at)
                self.use_accounts()
                is_hungry, now = self._wake.is_set(), self._clock()
                if self._active or (self._limits and now - reported_at >= HEARTBEAT_S):
                    if is_hungry and now - reported_at < GAP_S:
                        await asyncio.sleep(GAP_S - (now - reported_at))
                    reported_at = self._clock()
                    await self._report(self._shares)
                else:
                    self._wake.clear()
        finally:
            with contextlib.suppress(StoreUnavailable, StoreCorrupt):
                await self._give_back(self._shares)

    def use_accounts(self) -> None:
        """Use the limits of the accounts that are now in use."""
        accounts = self._accounts()
        if accounts is self._seen:
            return
        self._seen = accounts
        limits = {
            name: account.limits
            for name, account in accounts.items()
            if is_limited(account.limits) and not account.is_suspended
        }
        for tenant, meter in list(self._meters.items()):
            wanted = limits.get(tenant)
            if wanted is None:  # requests in flight release what nobody looks at any more
                del self._meters[tenant]
                self._active.pop(tenant, None)
            elif wanted != meter.share.limits:
                meter.use(wanted)
                if not meter.share.is_quiet:
                    self._active[tenant] = meter
        self._limits = limits

    def _begin(self, tenant: str, limits: Limits, now: float) -> Meter:
        meter = self._meters[tenant] = self._active[tenant] = Meter(tenant, limits, now)
        meter.share.gateways = self.gateways
        if self.state != "connected" or self._shares is None:
            meter.share.cut_off(now)
        return meter

    async def _until_due(self, reported_at: float) -> None:
        """Until a share is hungry, or until the next regular report."""
        if self.state != "connected":
            await asyncio.sleep(RETRY_S)
            return
        # at uneven times: gateways in step would leave what comes in to whoever reports first
        period_s = PERIOD_S * self._random.uniform(0.5, 1.5)
        pause_s = max(0.0, reported_at + period_s - self._clock()) if self._active else LOOK_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._wake.wait()

    async def _report(self, shares: Shares) -> None:
        """One round trip for every `_AT_ONCE` active tenants."""
        self._wake.clear()
        answered, self._answered = self._answered, None
        try:
            for meters in _parts(list(self._active.values())) or [[]]:
                await self._report_on(shares, meters)
        except (StoreUnavailable, StoreCorrupt) as error:
            self._lose(error)
        else:
            if self.state != "connected":
                self.state = "connected"
                log.info("limits_shared_again")
        finally:
            if answered is not None and not answered.done():
                answered.set_result(None)
        now = self._clock()
        for tenant, meter in list(self._active.items()):
            if meter.share.is_quiet:
                del self._active[tenant]
        self._forget(now)

    async def _report_on(self, shares: Shares, meters: list[Meter]) -> None:
        now = self._clock()
        reports = [meter.share.report(meter.tenant, now) for meter in meters]
        state, grants = await shares.lease(self._holder, reports)
        now, self.gateways = self._clock(), state.gateways
        self.reports += 1
        for meter, report, grant in zip(meters, reports, grants, strict=True):
            meter.share.settle(report, grant, state, now)

    def _lose(self, error: Exception) -> None:
        state = "refused" if isinstance(error, LeasingRefused) else "cut off"
        if state != self.state:
            self.state = state
            if state == "refused":
                log.error("limits_refused", error=str(error), goes_on_with=f"1/{self.gateways} of each limit")
            else:
                log.warning("limits_cut_off", error=str(error), goes_on_with=f"1/{self.gateways} of each limit")
        now = self._clock()
        for meter in self._meters.values():
            meter.share.gateways = self.gateways
            meter.share.cut_off(now)

    async def _answer(self, within_s: float) -> None:
        """Wait for the end of the next report that begins after now."""
        self._wake.set()
        if self._answered is None:
            self._answered = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._answered)

    async def _give_back(self, shares: Shares) -> None:
        now = self._clock()
        for meters in _parts(list(self._active.values())):
            await shares.lease(self._holder, [meter.share.farewell(meter.tenant, now) for meter in meters])

    def _forget(self, now: float) -> None:
        for tenant, meter in list(islice(self._meters.items(), 4)):  # a few at a time, in turns
            del self._meters[tenant]
            if not meter.share.is_forgettable(now, FORGET_S):
                self._meters[tenant] = meter


def _parts(meters: list[Meter]) -> list[list[Meter]]:
    return [meters[at : at + _AT_ONCE] for at in range(0, len(meters), _AT_ONCE)]
