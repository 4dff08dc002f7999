"""One tenant at one gateway: a share of what Redis gives out, spent without asking anybody.

Owns the decision whether a request is within its tenant's limits, what the gateway asks for and gives back, and what
it does on its own while Redis is out of reach. Pure: times are passed in (seconds of one monotonic clock).
The types are `routing.limits`'; the bounds that follow from all this are stated and proved in docs/limits.md.
"""

import math

from routing.account import Limits
from routing.limits import (
    DAY_GRACE_S,
    DAY_S,
    LEAD_S,
    PERIOD_S,
    UNKNOWN_GATEWAYS,
    Grant,
    Limit,
    Now,
    Pot,
    Report,
    burst_of,
    credit_of,
    day_credit_of,
)  # fmt: skip

_FEW = 0.5  # less demand than this, ahead, is none


class Share:
    """One tenant at one gateway. ``take`` and ``release`` are on the request's path; the rest is not."""

    def __init__(self, limits: Limits, now: float, day_ends: float) -> None:
        """``day_ends``: midnight UTC, as well as this gateway's own clock knows it."""
        self.limits = limits
        self.in_flight = 0
        self.waiting = 0
        """Requests that wait for the next answer, because Redis is believed to have more."""
        self.is_hungry = True
        """Whether a report is due at once."""
        self.is_quiet = False
        """Whether Redis knows that nothing is held or wanted here."""
        self.is_alone = False
        """Whether Redis is out of reach: the gateway goes on with its part."""
        self.gateways = UNKNOWN_GATEWAYS
        self.day = -1
        self.day_ends = day_ends
        self.asked_at = now
        self._cap = self._free = 0
        self._places = 1
        self._peak = 0.0
        self._asked = 0
        self._demand = 0.0
        self._serial = 0
        self._reported_at = self._settled_at = now
        self._alone_tokens = 0.0
        self._alone_used = 0
        self._alone_since = self._alone_at = now
        self._rate: Pot | None = None
        self._day: Pot | None = None
        self._reported_day: Pot | None = None
        self.use(limits)

    def use(self, limits: Limits) -> None:
        """Work by ``limits`` from now on; requests in flight stay counted."""
        self.limits = limits
        if limits.concurrency and not self._cap:
            self._places, self._free = max(1, self.in_flight), limits.concurrency
        self._cap = limits.concurrency or 0
        self.burst = burst_of(limits)
        self._rate = _pot(self._rate, credit_of(limits), self.burst) if limits.rate_per_s else None
        self._day = _pot(self._day, day_credit_of(limits), limits.daily_requests) if limits.daily_requests else None
        self.is_hungry = True
        if self.is_alone:
            self.is_alone = False
            self.cut_off(self._alone_since)

    def take(self, now: float) -> Limit | None:
        """Let one request in, or name the limit that it is over. `release` it when it has ended."""
        self._asked += 1
        self.asked_at = now
        self.is_quiet = False
        if now >= self.day_ends:
            self._begin_day(now)
        if self.is_alone:
            return self._take_alone(now)
        if self._cap and self.in_flight >= self._places:
            return "concurrency"
        rate, day = self._rate, self._day
        if rate is not None and not rate.has(now):
            return "rate"
        if day is not None:
            if not day.has(now):
                return "day"
            if day.spend():
                self.is_hungry = True
        if rate is not None and rate.spend():
            self.is_hungry = True
        self._enter()
        return None

    def release(self) -> None:
        """The request has ended, however."""
        self.in_flight -= 1

    def hopes(self, limit: Limit, now: float) -> bool:
        """Whether Redis is believed to have more than lies here, so that waiting for its next answer is worth it."""
        if self.is_alone:
            return False
        idle_s = now - self._settled_at
        is_old = idle_s > 2 * PERIOD_S
        if limit == "concurrency":
            return self.waiting + 1 <= (self._cap if is_old else self._free)
        if limit == "day":
            return self._day is not None and self.waiting + 1 <= self._day.left
        regained = idle_s * (self.limits.rate_per_s or 0.0) if is_old else 0.0
        return self._rate is not None and self.waiting + 1 <= self._rate.left + regained

    def report(self, tenant: str, now: float) -> Report:
        """What to tell Redis now. What is not kept is given up here and now, whatever becomes of the report."""
        elapsed = max(0.0, now - self._reported_at)
        fading = 0.5 ** (elapsed / PERIOD_S)
        self._demand = max(self._asked / max(elapsed, PERIOD_S), self._demand * fading)
        self._peak = max(float(self.in_flight), self._peak * fading)
        ahead = self._demand * LEAD_S
        wants = (math.ceil(ahead) if ahead >= _FEW else 0) + self.waiting
        peak = math.ceil(self._peak) if self._peak >= _FEW else 0
        places = min(self._cap, peak + max(1, peak // 2) + self.waiting) if peak or wants else 0
        keep = max(self.in_flight, min(self._places, places))
        if not self.is_alone:
            self._places = keep
        self._asked, self._reported_at, self.is_hungry = 0, now, False
        self._serial += 1
        rate, day = self._rate, self._day
        self._reported_day = day
        return Report(
            tenant=tenant, rate_per_s=self.limits.rate_per_s or 0.0, burst=self.burst, concurrency=self._cap,
            daily=self.limits.daily_requests or 0, serial=self._serial,
            rate_used=rate.used if rate else 0, rate_fresh=rate.fresh if rate else 0,
            rate_held=rate.report(wants) if rate else 0, rate_want=min(wants, self.burst) if rate else 0,
            rate_alone=self._alone_used, places_held=keep if self._cap else 0, places_want=places,
            day=self.day, day_used=day.used if day else 0, day_fresh=day.fresh if day else 0,
            day_held=day.report(wants) if day and not self.is_alone else 0, day_want=wants if day else 0,
        )  # fmt: skip

    def settle(self, report: Report, grant: Grant, state: Now, now: float) -> None:
        """Take in the answer to this share's latest report."""
        self.gateways = state.gateways
        self._alone_used -= report.rate_alone
        if self.is_alone:
            self.is_alone = False
            if self._day is not None:
                self._day.held = 0
        if self._rate is not None and report.rate_per_s:
            due = state.gateways * self._rate.credit - grant.rate_left
            credit_at = now + max(0.0, due) / (self.limits.rate_per_s or report.rate_per_s)
            self._rate.settle(report.rate_fresh, grant.rate, grant.rate_left, credit_at)
        if self._cap and report.concurrency:
            self._places = min(grant.places, grant.places_aim)
            self._free = grant.places_free
        if self._day is not None and report.daily:
            self._settle_day(self._day, report, grant, state, now)
        self._settled_at = now
        is_goodbye = not (report.rate_want or report.places_want or report.day_want or report.places_held)
        self.is_quiet = is_goodbye and not (self._asked or self.in_flight or self.waiting)
        if self.is_quiet and self._cap:
            self._places = 1 if self._free else 0

    def cut_off(self, now: float) -> None:
        """Redis is out of reach: from here on, one of ``gateways`` equal parts of each limit."""
        if self.is_alone:
            return
        self.is_alone = True
        self._alone_since = self._alone_at = now
        self._alone_tokens = 1.0
        if self._rate is not None:
            self._alone_tokens = min(max(1.0, self.burst / self.gateways), float(max(1, self._rate.held)))
            self._rate.forfeit()
        if self._cap:
            self._places = max(1, self._cap // self.gateways)
        if self._day is not None:
            self._day.held += max(0, int(self._day.left)) // self.gateways
            self._day.low, self._day.left, self._day.credit_at = 0.0, 0, math.inf

    def farewell(self, tenant: str, now: float) -> Report:
        """The last report: nothing is held any more and nothing is wanted."""
        self._asked, self._demand, self._peak, self._places = 0, 0.0, 0.0, 0
        return self.report(tenant, now)

    def is_forgettable(self, now: float, idle_s: float) -> bool:
        """Whether a new share in this one's place would be the same: idle for long, and its credit due again."""
        is_idle = self.is_quiet and not (self.in_flight or self.waiting) and now - self.asked_at > idle_s
        return is_idle and all(pot is None or pot.credit_at <= now for pot in (self._rate, self._day))

    def remaining(self, limit: Limit) -> int:
        """How many more requests ``limit`` allows, as far as this gateway knows."""
        if limit == "concurrency":
            return max(0, self._cap - self.in_flight)
        pot = self._rate if limit == "rate" else self._day
        if pot is None:
            return 0
        if self.is_alone and limit == "rate":
            return int(self._alone_tokens)
        most = self.burst if limit == "rate" else self.limits.daily_requests or 0
        return min(most, max(0, pot.held) + max(0, math.floor(pot.left)))

    def _take_alone(self, now: float) -> Limit | None:
        if self._cap and self.in_flight >= self._places:
            return "concurrency"
        if self._rate is not None:
            most = max(1.0, self.burst / self.gateways)
            part = (self.limits.rate_per_s or 0.0) / self.gateways
            self._alone_tokens = min(most, self._alone_tokens + (now - self._alone_at) * part)
            self._alone_at = now
            if self._alone_tokens < 1.0:
                return "rate"
        if self._day is not None:
            if self._day.held < 1 or now > self._alone_since + DAY_GRACE_S:
                return "day"
            self._day.spend()
        self._alone_tokens -= 1.0
        self._alone_used += 1
        self._enter()
        return None

    def _enter(self) -> None:
        self.in_flight += 1
        if self.in_flight > self._peak:
            self._peak = self.in_flight
        if self._cap and self.in_flight >= self._places and self._free and not self.is_alone:
            self.is_hungry = True

    def _begin_day(self, now: float) -> None:
        self.day_ends += DAY_S * (1 + (now - self.day_ends) // DAY_S)
        self.day += self.day >= 0
        if self._day is not None and self.limits.daily_requests:
            used = self._day.used
            self._day = Pot(day_credit_of(self.limits), self.limits.daily_requests)
            self._day.used = used
            if self.is_alone:
                self._day.forfeit()
                self._day.held = self.limits.daily_requests // self.gateways

    def _settle_day(self, pot: Pot, report: Report, grant: Grant, state: Now, now: float) -> None:
        """Redis's day counts. While this gateway's is ahead by its clock, Redis's last grants are of no use."""
        if state.day < self.day or pot is not self._reported_day:
            return
        if state.day > self.day and self.day >= 0:
            pot.held = 0
        self.day, self.day_ends = state.day, now + state.day_left_s
        is_ample = grant.day_left >= state.gateways * pot.credit
        pot.settle(report.day_fresh, grant.day, grant.day_left, now if is_ample else math.inf)


def _pot(pot: Pot | None, credit: int, full: int) -> Pot:
    if pot is None:
        return Pot(credit, full)
    pot.credit, pot.held, pot.left = credit, min(pot.held, full), min(pot.left, full)
    return pot
