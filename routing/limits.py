"""The words of a tenant's limits: what a gateway reports, what Redis grants, and tokens that lie in between.

Owns the types, the constants that the bounds are made of, and `Pot`, tokens of one kind at one gateway. Pure: times are
passed in. Whether a request is let in is decided in `routing.share`; what Redis does with a `Report` stands in
`routing.redis.shares`; when one is sent, in `server.limits`; the bounds are proved in docs/limits.md.
"""

import math
from typing import Literal

import msgspec

from routing.account import Limits

Limit = Literal["rate", "concurrency", "day"]

PERIOD_S = 0.1
"""How often a gateway reports on the tenants that are active."""
LEAD_S = 0.2
"""A gateway asks for what it will need for this long."""
HORIZON_S = 0.2
"""What lies unspent at all gateways together is counted as the bucket's, save for this much of the rate. Reports are
too rare for a smaller burst."""
CREDIT_S = 0.05
"""The credit of a gateway that holds nothing yet: this much of the rate, at least 1."""
DAY_CREDIT = 10
DAY_S = 86_400.0
DAY_GRACE_S = 900.0
"""How long a gateway that is cut off from Redis goes on with its part of the day's quota."""
UNKNOWN_GATEWAYS = 4
"""How many gateways one that has never reached Redis believes there are."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway tells Redis of one tenant. Absolute, so that it may be lost or arrive twice."""

    tenant: str
    rate_per_s: float
    """0: no limit; so with the other three limits."""
    burst: int
    concurrency: int
    daily: int
    serial: int
    rate_used: int
    """Tokens spent since this gateway began; ``rate_fresh`` since the last report that was answered."""
    rate_fresh: int
    rate_held: int
    """Tokens that it keeps, and ``rate_want``: how many it would like to have then."""
    rate_want: int
    rate_alone: int
    """Requests let in while Redis was out of reach; they take the bucket to 0 at most."""
    places_held: int
    """Places that it keeps, at least its requests in flight; ``places_want`` as with the rate."""
    places_want: int
    day: int
    """The day that the following four are about, in days since 1970; -1: it does not know."""
    day_used: int
    day_fresh: int
    day_held: int
    day_want: int


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What Redis answers to a report."""

    rate: int
    """Tokens that come in addition; ``rate_left``: what the bucket then holds (below 0: credits to be worked off)."""
    rate_left: float
    places: int
    """Places that it has now, and ``places_aim``: how many it should come down to."""
    places_aim: int
    places_free: int
    day: int
    day_left: int


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all grants of one answer, by Redis's clock."""

    gateways: int
    """How many gateways have reported lately, this one included."""
    day: int
    day_left_s: float


class Pot:
    """Tokens of one kind that lie here. At most one credit is out at a time, and none that Redis could not cover."""

    __slots__ = ("credit", "credit_at", "fresh", "held", "left", "low", "owes", "used")

    def __init__(self, credit: int, full: int) -> None:
        self.credit = credit
        self.credit_at = -math.inf
        self.held = 0
        self.used = 0
        self.fresh = 0
        self.left: float = full
        """What Redis had when it last answered; before that, all of it."""
        self.low = 0.0
        self.owes: Literal["nothing", "credit", "reported credit"] = "nothing"

    def has(self, now: float) -> bool:
        """Whether a token lies here; takes the credit where none does and it may."""
        if self.held >= 1:
            return True
        if self.owes != "nothing" or now < self.credit_at:
            return False
        self.held, self.owes = self.credit, "credit"
        return True

    def spend(self) -> bool:
        """Take one token; whether it is time to ask for more."""
        self.held -= 1
        self.used += 1
        self.fresh += 1
        return self.held < self.low or self.owes == "credit"

    def report(self, want: int) -> int:
        """Keep at most ``want`` tokens, the others go back; how many are kept."""
        self.held = min(self.held, want)
        if self.owes == "credit":
            self.owes = "reported credit"
        return self.held

    def settle(self, fresh: int, grant: int, left: float, credit_at: float) -> None:
        """Take in an answer to a report that told of ``fresh`` tokens spent."""
        self.fresh -= fresh
        self.held += grant
        self.left = left
        self.low = self.held / 2 if left >= 1 else 0.0
        self.credit_at = credit_at
        if self.owes == "reported credit":
            self.owes = "nothing"

    def forfeit(self) -> None:
        """Nothing that lies here counts any more."""
        self.held, self.low, self.credit_at = 0, 0.0, math.inf


def is_limited(limits: Limits) -> bool:
    """Whether requests are limited at all."""
    return bool(limits.rate_per_s or limits.concurrency or limits.daily_requests)


def burst_of(limits: Limits) -> int:
    """What the bucket holds when it is full: the burst (else a second's worth), at least `HORIZON_S` worth."""
    rate_per_s = limits.rate_per_s or 0.0
    return max(limits.burst or math.ceil(rate_per_s), math.floor(rate_per_s * HORIZON_S), 1)


def credit_of(limits: Limits) -> int:
    """Requests that a gateway may let in before Redis has answered it."""
    return min(burst_of(limits), max(1, round((limits.rate_per_s or 0.0) * CREDIT_S)))


def day_credit_of(limits: Limits) -> int:
    """As `credit_of`, of the day's quota."""
    return max(1, min(DAY_CREDIT, (limits.daily_requests or 0) // 1000))
