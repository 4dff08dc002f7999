"""The overseer: judges the canaries by what all gateways have counted, and does what the verdict says.

Every gateway has one. Owns writing this gateway's counts to Redis, once a second, and the lease by which one gateway
judges for all; when that one dies, another takes over within LEASE_S. A bad canary is rolled back by itself, a good one
promoted where its trial says so, with the numbers as the reason. What counts prove is `routing.verdict`'s, what a move
makes of the table `routing.lifecycle`'s. Without Redis trials go on, unjudged.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
import structlog

from routing.canary import Counts, Trial
from routing.change import Change
from routing.document import DocumentError
from routing.lifecycle import LifecycleError, promote, withdraw
from routing.redis.trials import Trials
from routing.store import Store, StoreCorrupt, StoreUnavailable, VersionConflict
from routing.table import Canary, Table
from routing.verdict import USUAL, Thresholds, Verdict, judge

LOOK_EVERY_S = 1.0
LEASE_S = 3.0
DUTY = "overseer"
_ATTEMPTS = 20  # each lost one means that somebody else's change of the table won

log = structlog.get_logger()


class CanaryStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How a trial stands, over all gateways."""

    tenant: str
    domain: str
    ticket: str
    current: str
    mode: Literal["canary", "shadow"]
    share: float
    is_automatic: bool
    started_at: float
    counts: Counts
    verdict: Verdict


class Overseer:
    """One gateway's. ``table`` and ``counts`` say what it uses and what it has counted now."""

    def __init__(
        self, store: Store, trials: Trials, name: str, table: Callable[[], Table | None],
        counts: Callable[[], Mapping[Trial, Counts]], judged: Callable[[str, str, str], None] = lambda *_: None,
        thresholds: Thresholds = USUAL,
    ) -> None:  # fmt: skip
        """``judged`` is told tenant, domain and verdict of each trial that is ended here."""
        self.actor = f"overseer/{name}"
        self._store = store
        self._trials = trials
        self._counter = f"{name}/{uuid.uuid4().hex[:12]}"
        self._table = table
        self._counts = counts
        self._judged = judged
        self._thresholds = thresholds
        self._written: dict[Trial, Counts] = {}
        self._passed: set[Trial] = set()

    async def run(self) -> None:
        """Look again and again, until cancelled; then leave the duty to another at once."""
        is_away = False
        try:
            while True:
                try:
                    await self.look()
                    is_away = False
                except (StoreUnavailable, StoreCorrupt) as error:
                    if not is_away:
                        log.warning("canaries_not_judged", error=str(error))
                    is_away = True
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            with contextlib.suppress(StoreUnavailable, StoreCorrupt):
                await self._trials.hand_over(DUTY, self._counter)

    async def look(self) -> None:
        """Write what this gateway has counted; judge, where the duty is its own. Raises StoreUnavailable."""
        counts = dict(self._counts())
        await self._trials.record(self._counter, {t: c for t, c in counts.items() if self._written.get(t) != c})
        self._written = counts
        table = self._table()
        if table is None or not table.canaries:
            return
        if not await self._trials.lead(DUTY, self._counter, LEASE_S):
            return
        for (tenant, domain), canary in table.canaries.items():
            trial = _trial(tenant, domain, canary)
            verdict = judge(await self._trials.counts(trial), self._thresholds)
            if verdict.outcome == "bad" or (verdict.outcome == "passed" and canary.is_automatic):
                await self._carry_out(trial, verdict)
            elif verdict.outcome == "passed" and trial not in self._passed:
                self._passed.add(trial)
                log.info("canary_passed", tenant=tenant, domain=domain, ticket=canary.ticket, words=verdict.words)

    async def standing(self, tenant: str, domain: str) -> CanaryStanding | None:
        """How the domain's trial stands; None where none runs. Raises StoreUnavailable, StoreCorrupt."""
        table = self._table()
        canary = None if table is None else table.canaries.get((tenant, domain))
        if canary is None:
            return None
        counts = await self._trials.counts(_trial(tenant, domain, canary))
        return CanaryStanding(
            tenant=tenant, domain=domain, ticket=canary.ticket, current=canary.current, mode=canary.mode,
            share=canary.share, is_automatic=canary.is_automatic, started_at=canary.started_at, counts=counts,
            verdict=judge(counts, self._thresholds),
        )  # fmt: skip

    async def _carry_out(self, trial: Trial, verdict: Verdict) -> None:
        """Roll the canary back, or promote it, unless its trial has ended meanwhile."""
        for _ in range(_ATTEMPTS):
            table = await self._store.load_table()
            canary = None if table is None else table.canaries.get((trial.tenant, trial.domain))
            if table is None or canary is None or _trial(trial.tenant, trial.domain, canary) != trial:
                return
            try:
                move: dict[str, Any] = {
                    "tenant": trial.tenant,
                    "domain": trial.domain,
                    "ticket": trial.ticket,
                    "actor": self.actor,
                }
                if verdict.outcome == "bad":
                    new, event = withdraw(table, **move, reason=verdict.words[:2000], is_rolled_back=True)
                else:
                    new, event = promote(table, **move, reason=verdict.words[:2000])
                await self._store.commit(Change(event=event, table=new))
            except VersionConflict:
                continue
            except (LifecycleError, DocumentError) as error:
                log.warning("canary_not_moved", ticket=trial.ticket, outcome=verdict.outcome, error=str(error))
                return
            self._judged(trial.tenant, trial.domain, verdict.outcome)
            log.warning("canary_judged", tenant=trial.tenant, domain=trial.domain, ticket=trial.ticket,
                        outcome=verdict.outcome, words=verdict.words)  # fmt: skip
            return


def _trial(tenant: str, domain: str, canary: Canary) -> Trial:
    return Trial(tenant=tenant, domain=domain, ticket=canary.ticket, started_at=canary.started_at)
