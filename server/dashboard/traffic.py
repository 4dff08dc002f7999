"""The traffic of a window: rates, latencies, outcomes and promises by tenant, domain and tier. Pure.

Owns the numbers of `Traffic`, for one flow or for many together, and who answered a flow and why. Who may see which of
them is `server.dashboard.view`'s to decide.
"""

from collections import defaultdict
from collections.abc import Iterable

import msgspec
import numpy as np

from routing.table import FamilyTicket
from server.dashboard import series
from server.dashboard.buckets import Floats, Points, listed, quantile, quantiles
from server.dashboard.history import STEP_S, Window
from server.dashboard.shapes import Answered, Sla, Spark, Step, Traffic
from server.labels import OTHER
from server.telemetry import OBJECTIVE

MAX_POINTS = 60
"""A curve has about so many points at most."""

Who = tuple[str, str, str]
"""Tenant, domain, tier: as the metrics name them."""


class Sums(msgspec.Struct, kw_only=True):
    """What one flow, or several together, came to."""

    buckets: Floats
    """Requests by point of the curve and bucket of latency."""
    outcomes: dict[str, float] = {}
    results: dict[str, float] = {}
    """Met and missed."""
    parts_s: dict[str, float] = {}
    queued: dict[str, float] = {}
    """Sum and count."""

    def add(self, other: "Sums") -> None:
        """Take the other's too."""
        self.buckets = self.buckets + other.buckets
        for mine, more in (
            (self.outcomes, other.outcomes), (self.results, other.results), (self.parts_s, other.parts_s),
            (self.queued, other.queued),
        ):  # fmt: skip
            for name, value in more.items():
                mine[name] = mine.get(name, 0.0) + value


class Flows:
    """The flows of one window."""

    def __init__(self, window: Window, window_s: float, tenant: str | None = None) -> None:
        """``window_s``: what was asked for, which decides how fine the curves are. ``tenant``: whose; None: all."""
        self._window = window
        self._tenant = tenant
        point_s = STEP_S * max(1, round(window_s / STEP_S / MAX_POINTS))
        self.points = Points(window.at, window.seconds, point_s=point_s, step_s=STEP_S)
        self._bounds = window.bounds.get(series.SECONDS, np.array([np.inf]))
        self.sums: dict[Who, Sums] = {}
        """Of every flow with traffic."""
        self._steps: dict[Who, dict[str, dict[str, float]]] = defaultdict(dict)
        self._answers: dict[Who, dict[str, float]] = defaultdict(dict)
        self._gather()

    def of(self, whos: Iterable[Who]) -> Traffic:
        """The traffic of some flows together."""
        together = self._nothing()
        for who in whos:
            if who in self.sums:
                together.add(self.sums[who])
        return self._shown(together)

    def steps(self, who: Who) -> list[Step]:
        """How far down the family those stood that answered a flow."""
        found = self._steps.get(who, {})
        total = sum(sum(reasons.values()) for reasons in found.values())
        return [
            Step(step=step, answers=_tidy(sum(reasons.values())), share=round(sum(reasons.values()) / total, 4),
                 reasons={reason: _tidy(count) for reason, count in sorted(reasons.items())})
            for step, reasons in sorted(found.items())
        ]  # fmt: skip

    def answers(self, who: Who) -> dict[str, float]:
        """A flow's answers by ticket, as metrics name it."""
        return self._answers.get(who, {})

    def answered(self, who: Who, tickets: dict[str, FamilyTicket]) -> list[Answered]:
        """Which tickets answered a flow; ``tickets`` are those of the table, by their labels."""
        found = self.answers(who)
        total = sum(found.values())
        rows = []
        for label, count in sorted(found.items(), key=lambda item: (-item[1], item[0])):
            ticket = tickets.get(label)
            rows.append(
                Answered(
                    ticket=None if ticket is None else ticket.id, tier=None if ticket is None else ticket.tier,
                    answers=_tidy(count), share=round(count / total, 4),
                )
            )  # fmt: skip
        return rows

    def _gather(self) -> None:
        window, keys_of = self._window, self._keys_of
        keys: dict[Who, list[series.Key]] = defaultdict(list)
        for key in keys_of(series.SECONDS):
            keys[_who(key)].append(key)
        for who, of_flow in keys.items():
            self._at(who).buckets = self._buckets(of_flow)
        for key in keys_of(series.REQUESTS):
            self._at(_who(key)).outcomes[key[4]] = window.total(key)
        for key in keys_of(series.SLA):
            self._at(_who(key)).results[key[4]] = window.total(key)
        for key in keys_of(series.PARTS):
            self._at(_who(key)).parts_s[key[4]] = window.total(key)
        for key in keys_of(series.QUEUE):
            self._at(_who(key)).queued[key[4]] = window.total(key)
        for key in keys_of(series.STEPS):
            self._steps[_who(key)].setdefault(key[4], {})[key[5]] = window.total(key)
        for key in keys_of(series.ANSWERS):
            self._answers[_who(key)][key[4]] = window.total(key)

    def _keys_of(self, name: str) -> Iterable[series.Key]:
        keys = self._window.keys(name)
        return keys if self._tenant is None else [key for key in keys if is_own(key[1], self._tenant)]

    def _at(self, who: Who) -> Sums:
        if who not in self.sums:
            self.sums[who] = self._nothing()
        return self.sums[who]

    def _buckets(self, keys: list[series.Key]) -> Floats:
        out = np.zeros((len(self.points), len(self._bounds)))
        points = self.points.add_up(self._window.steps(keys))
        for column, key in enumerate(keys):
            out[:, self._bounds.searchsorted(float(key[4]))] += points[:, column]
        return out

    def _nothing(self) -> Sums:
        return Sums(buckets=np.zeros((len(self.points), len(self._bounds))))

    def _shown(self, sums: Sums) -> Traffic:
        requests = sum(sums.outcomes.values())
        covered_s = self._window.covered_s
        whole, bounds = sums.buckets.sum(axis=0).tolist(), self._bounds.tolist()
        answered = sums.queued.get(series.COUNT, 0.0)
        return Traffic(
            rate_per_s=_tidy(requests / covered_s) if covered_s else 0.0,
            requests=_tidy(requests),
            p50_ms=in_ms(quantile(whole, bounds, 0.5)),
            p95_ms=in_ms(quantile(whole, bounds, 0.95)),
            p99_ms=in_ms(quantile(whole, bounds, 0.99)),
            queue_ms=in_ms(sums.queued.get(series.SUM, 0.0) / answered) if answered else None,
            parts_ms={name: _tidy(1000 * s / answered) for name, s in sorted(sums.parts_s.items())} if answered else {},
            outcomes={name: _tidy(count) for name, count in sorted(sums.outcomes.items())},
            sla=sla(sums.results),
            spark=self._spark(sums),
        )

    def _spark(self, sums: Sums) -> Spark:
        points = self.points
        return Spark(
            step_s=points.point_s, ends_at=round(points.ends_at, 3),
            rate_per_s=listed(sums.buckets.sum(axis=1) / points.seconds),
            p99_ms=listed(quantiles(sums.buckets, self._bounds, 0.99) * 1000),
        )  # fmt: skip


def sla(results: dict[str, float], objective: float = OBJECTIVE) -> Sla:
    """The promise as it was kept: ``results`` counts the met and the missed."""
    met, missed = results.get("met", 0.0), results.get("missed", 0.0)
    attainment = met / (met + missed) if met + missed else None
    return Sla(
        objective=objective,
        attainment=None if attainment is None else round(attainment, 6),
        met=_tidy(met),
        missed=_tidy(missed),
        burn=None if attainment is None else _tidy((1 - attainment) / (1 - objective)),
    )


def is_own(name: str, tenant: str | None) -> bool:
    """Whether what is counted under a tenant's name is the viewer's to see; None: an operator, who sees everything.

    What is counted as "other" may be anybody's, also where a tenant is called so.
    """
    return tenant is None or (name == tenant and name != OTHER)


def in_ms(seconds: float | None) -> float | None:
    """Seconds as milliseconds, to the microsecond."""
    return None if seconds is None else round(seconds * 1000, 3)


def _who(key: series.Key) -> Who:
    return key[1], key[2], key[3]


def _tidy(value: float) -> float:
    return round(value, 3)
