"""What a gateway measures of the control plane: table, accounts, registrations, limits, canaries; and how Redis looks
from any process that announces itself.

Callers only say what happened; nothing here is on the way of a request that is let in. Names are bounded as in
`server.labels`; outcomes are codes of ours. Times are in seconds, moments in seconds since 1970.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Gauge

from routing.canary import Arm, Counts, Trial
from server.labels import LOAD_SECONDS, TRIP_SECONDS, Names
from server.tally import Labels, Tally

REGISTERED, KNOWN = "registered", "known"
"""Outcomes of a registration beside the refusals: the ticket is new, or was registered already."""


class RedisMetrics:
    """How Redis looks from one process: by the announcement of its lease, once a second."""

    def __init__(self, tally: Tally, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._up: float | None = None
        trips = tally.histogram(
            "tombola_redis_seconds", "Round trip of announcing this process's lease to Redis.", bounds=TRIP_SECONDS
        )
        failures = tally.counter("tombola_redis_failures", "Announcements of the lease that Redis did not take.")
        self._trips, self._failures = trips.of(), failures.of()
        tally.reading(
            "tombola_redis_up", "Whether Redis took the last announcement of this process's lease.", (),
            lambda: [] if self._up is None else [((), self._up)],
        )  # fmt: skip

    @contextlib.contextmanager
    def trip(self) -> Iterator[None]:
        """Around an announcement: its time where it succeeds, a failure where it raises."""
        began = self._clock()
        try:
            yield
        except Exception:
            self._up = 0.0
            self._failures.value += 1.0
            raise
        self._up = 1.0
        self._trips.observe(self._clock() - began)


class ControlMetrics:
    """A gateway's. ``canaries`` says what this gateway has counted of the trials that run now."""

    def __init__(self, registry: CollectorRegistry, tally: Tally, tenants: Names, domains: Names) -> None:
        self._tenants, self._domains, self._codes, self._step_names = tenants, domains, Names(40), Names(16)
        self._table_used_at: float | None = None
        self._accounts: tuple[int, float] | None = None
        self.canaries: Callable[[], Mapping[Trial, Counts]] = dict
        self.redis = RedisMetrics(tally)
        self.table_version = Gauge("tombola_table_version", "Version of the routing table in use.", registry=registry)
        self.table_stale_seconds = Gauge(
            "tombola_table_stale_seconds", "Time since the control plane last confirmed the table.", registry=registry
        )
        self._registrations = tally.counter(
            "tombola_registrations", "Uploads of tickets, by how they ended: registered, known, or why not.",
            ("tenant", "outcome"),
        )  # fmt: skip
        self._steps = tally.histogram(
            "tombola_registration_step_seconds", "A step of a registration, the gate's among them.", ("step",),
            bounds=LOAD_SECONDS,
        )  # fmt: skip
        self._limited = tally.counter(
            "tombola_limit_refusals", "Requests refused because a tenant's limit was used up.", ("tenant", "limit")
        )
        self._judged = tally.counter(
            "tombola_canaries_judged", "Trials that the overseer has ended, by its verdict: passed (promoted) or bad.",
            ("tenant", "domain", "verdict"),
        )  # fmt: skip
        self._read_from(tally)

    def _read_from(self, tally: Tally) -> None:
        tally.reading(
            "tombola_table_used_timestamp_seconds", "When the table in use was taken up.", (),
            lambda: [] if self._table_used_at is None else [((), self._table_used_at)],
        )  # fmt: skip
        tally.reading(
            "tombola_accounts", "Accounts in use.", (),
            lambda: [] if self._accounts is None else [((), self._accounts[0])],
        )  # fmt: skip
        tally.reading(
            "tombola_accounts_used_timestamp_seconds", "When the accounts in use were taken up.", (),
            lambda: [] if self._accounts is None else [((), self._accounts[1])],
        )  # fmt: skip
        tally.reading(
            "tombola_canary_asks", "Asks of the trials that run, by side (canary, current) and outcome.",
            ("tenant", "domain", "side", "outcome"), self._trials, kind="counter",
        )  # fmt: skip

    def use_table(self, version: int, now: float | None = None) -> None:
        """A table is in use from ``now`` on; absent: the wall clock's now."""
        self.table_version.set(version)
        self._table_used_at = time.time() if now is None else now

    def use_accounts(self, count: int, now: float | None = None) -> None:
        """So many accounts are in use from ``now`` on."""
        self._accounts = (count, time.time() if now is None else now)

    def registered(self, tenant: str, outcome: str) -> None:
        """An upload has ended: REGISTERED, KNOWN, the gate's refusal or an error's code."""
        self._registrations.of(self._tenants.resolve(tenant), self._codes.resolve(outcome)).value += 1.0

    def registration_step(self, step: str, seconds: float) -> None:
        """A step of a registration has ended."""
        self._steps.of(self._step_names.resolve(step)).observe(seconds)

    def limited(self, tenant: str, limit: str) -> None:
        """A request was refused because this limit of the tenant (rate, concurrency, day) was used up."""
        self._limited.of(self._tenants.resolve(tenant), self._codes.resolve(limit)).value += 1.0

    def judged(self, tenant: str, domain: str, verdict: str) -> None:
        """The overseer has ended a trial: ``bad`` (rolled back) or ``passed`` (promoted)."""
        who = (self._tenants.resolve(tenant), self._domains.resolve(domain))
        self._judged.of(*who, self._codes.resolve(verdict)).value += 1.0

    def _trials(self) -> Iterator[tuple[Labels, float]]:
        found: dict[Labels, float] = {}
        for trial, counts in self.canaries().items():
            who = (self._tenants.resolve(trial.tenant), self._domains.resolve(trial.domain))
            for side, arm in (("canary", counts.canary), ("current", counts.current)):
                for outcome, asks in _outcomes(arm):
                    labels = (*who, side, outcome)
                    found[labels] = found.get(labels, 0.0) + asks
        yield from found.items()


def _outcomes(arm: Arm) -> tuple[tuple[str, int], ...]:
    return ("ok", arm.asks - arm.errors - arm.late), ("error", arm.errors), ("late", arm.late)
