"""The permit: one request's admission by its tenant's limits, and what callers are told of them.

Owns the words of a refusal and the RateLimit headers (draft-ietf-httpapi-ratelimit-headers-03, with RateLimit-Policy).
Counts in them are what this gateway knows. Whether a request is admitted is decided in `routing.share`.
"""

import math
import time
from typing import Protocol

from routing.account import Limits
from routing.limits import DAY_S, Limit
from routing.share import Share
from server.errors import RateLimited

HeaderList = list[tuple[bytes, bytes]]


class Permit(Protocol):
    """One request's admission."""

    def release(self) -> None:
        """The request has ended, however. Call it exactly once."""
        ...

    def headers(self) -> HeaderList:
        """What the answer says of the tenant's limits."""
        ...


class _Free:
    def release(self) -> None:
        """Nothing is held."""

    def headers(self) -> HeaderList:
        """Nothing is limited."""
        return []


FREE: Permit = _Free()
"""The admission of a request whose tenant has no limits."""


class Meter:
    """A tenant's share and its words in headers; the permit of each of its requests."""

    def __init__(self, tenant: str, limits: Limits, now: float) -> None:
        self.tenant = tenant
        self.share = Share(limits, now, now + DAY_S - time.time() % DAY_S)
        self.release = self.share.release
        self._describe()

    def use(self, limits: Limits) -> None:
        """Work by ``limits`` from now on."""
        self.share.use(limits)
        self._describe()

    def headers(self) -> HeaderList:
        """The limit that is nearest to being used up, as this gateway knows it."""
        if self._main is None:
            return []
        main = self._main
        if main == "rate" and self.share.limits.daily_requests and self.share.remaining("day") < self.share.burst:
            main = min("rate", "day", key=self.share.remaining)
        left = self.share.remaining(main)
        return self._headers(main, left, self._reset_s(main, left))

    def refusal(self, limit: Limit, now: float) -> RateLimited:
        """The error of a request that is over ``limit``."""
        limits = self.share.limits
        if limit == "rate":
            rate = limits.rate_per_s or 1.0
            part = rate / self.share.gateways if self.share.is_alone else rate
            wait_s = 1.0 / part
            message = f"the rate of {rate:g} requests per second (burst {self.share.burst}) is used up"
        elif limit == "concurrency":
            wait_s = 1.0
            message = f"{limits.concurrency} requests are in flight already: wait for answers before you send more"
        else:
            wait_s = max(1.0, self.share.day_ends - now)
            message = f"the day's {limits.daily_requests} requests are used up; the next day begins at midnight UTC"
        error = RateLimited(f"{message} (limit: {limit})", retry_after_s=wait_s)
        error.limit = limit
        error.headers = tuple(self._headers(limit, 0, max(1, math.ceil(wait_s))))
        return error

    def _describe(self) -> None:
        limits, share = self.share.limits, self.share
        sizes: dict[Limit, int] = {}
        policies = []
        if limits.rate_per_s:
            sizes["rate"] = share.burst
            policies.append(_policy(limits.rate_per_s, share.burst))
        if limits.daily_requests:
            sizes["day"] = limits.daily_requests
            policies.append(f"{limits.daily_requests};w={DAY_S:.0f}")
        self._main: Limit | None = next(iter(sizes), None)
        if limits.concurrency:
            sizes["concurrency"] = limits.concurrency
        self._limit_headers = {limit: (b"ratelimit-limit", b"%d" % size) for limit, size in sizes.items()}
        self._policy = (b"ratelimit-policy", ", ".join(policies).encode()) if policies else None

    def _headers(self, limit: Limit, left: int, reset_s: int) -> HeaderList:
        headers = [
            self._limit_headers[limit], (b"ratelimit-remaining", b"%d" % left), (b"ratelimit-reset", b"%d" % reset_s),
        ]  # fmt: skip
        if self._policy is not None:
            headers.append(self._policy)
        return headers

    def _reset_s(self, limit: Limit, left: int) -> int:
        if limit == "day":
            return max(0, math.ceil(self.share.day_ends - time.perf_counter()))
        return max(0, math.ceil((self.share.burst - left) / (self.share.limits.rate_per_s or 1.0)))


def _policy(rate_per_s: float, burst: int) -> str:
    """The rate in whole requests: ``10;w=1;burst=20``; a slow one over a longer window."""
    window_s = 1 if rate_per_s >= 1 and rate_per_s == int(rate_per_s) else max(1, math.ceil(1 / rate_per_s))
    if rate_per_s * window_s != int(rate_per_s * window_s):
        window_s = 3600
    return f"{math.floor(rate_per_s * window_s)};w={window_s};burst={burst}"
