"""What a gateway believes of one worker: what it holds, what that costs there, how long work would wait.

Owns the figures between a worker's reports: what has been sent since the last Load, what time has
worked off, and what is overdue. Other gateways' work is in the worker's own figures; nothing here
takes a queue to be ours alone. Pure: time is an argument, in seconds of any one clock. Connections
are `server.link`'s, deciding is `routing.decide`'s.
"""

import math
from collections.abc import Mapping

from routing.cost import Cost
from routing.table import WorkerView
from server.wire import Costs, Load, Share, Shares, Unloaded

HOP_UP, HOP_DOWN = 0.2, 0.05
"""How fast the estimate of the way there and back follows longer and shorter ones: it is to be kept, mostly."""
MAX_HOP_MS = 50.0
LASTING_HOP_MS = 1.0
HOP_HALF_LIFE_S = 0.05
"""Beyond what lasts, the way is halved in so long without an answer: a busy gateway's event loop makes it long, and
if that made every deadline look hopeless, nothing would be sent that could show that it is over."""
HOP_STEP_MS = 0.25
"""The way is counted in such steps: between equal workers noise must not decide, but the ticket's placement."""
_NO_LOAD = Load(0.0, 0.0)
_ONE = Share()


class Estimate:
    """The gateway's picture of one worker, kept up to date by what it says and by what it is sent."""

    def __init__(self, name: str, now: float) -> None:
        self._name = name
        self._costs: Mapping[str, Cost] = {}
        self._shares: Mapping[str, Share] = {}
        self._load = _NO_LOAD
        self._load_at = self._runs_until = self._busy_until = now
        self._unseen: dict[int, tuple[str, float]] = {}
        self._unseen_of: dict[str, float] = {}
        self._owed_warm = 0
        self._is_stuck = False
        self._has_answered = False
        self._hop_ms = 0.0
        self._hop_at = now
        self._is_merged = True
        self._tenants: Mapping[str, float] = {}
        self._active_weight = 0.0

    def costs(self, message: Costs) -> None:
        """Tickets came into memory, or their cost has changed."""
        self._costs = {**self._costs, **message.costs}

    def unloaded(self, message: Unloaded) -> None:
        """Tickets are no longer in memory."""
        gone = frozenset(message.tickets)
        self._costs = {ticket: cost for ticket, cost in self._costs.items() if ticket not in gone}

    def shares(self, message: Shares) -> None:
        """What the worker has been told about the tenants' weights."""
        self._shares = message.tenants

    def load(self, load: Load, now: float) -> None:
        """The worker says how busy it is: what it has seen of ours is in it, the rest comes on top."""
        is_owed = self._owed_warm > 0 and not self._has_answered
        self._is_stuck = is_owed and load.running_ms > self._load.running_ms > 0.0
        self._has_answered = False
        self._load, self._load_at = load, now
        self._forget_seen(load.seen)
        self._runs_until = now + load.running_ms / 1000
        unseen_ms = sum(self._unseen_of.values())
        self._busy_until = self._runs_until + (load.queued_ms + unseen_ms) / 1000
        self._is_merged = False

    def sent(
        self, ask_id: int, *, ticket: str, tenant: str, rows: int, row_bytes: float, service_ms: float, now: float
    ) -> float | None:
        """An ask has been sent: it counts towards the wait until the worker says that it has seen it.

        ``service_ms`` is what a row is expected to take where the worker has not said. Returns in how many
        milliseconds it will have run, the way there and back left out; None where the ticket has to be loaded
        first, which takes as long as it takes.
        """
        cost = self._costs.get(ticket)
        ms = rows * service_ms if cost is None else cost.marginal(rows, row_bytes)
        if self._owed_warm == 0 and self._busy_until < now:
            self._busy_until = now  # it was idle: its time begins now
        self._busy_until += ms / 1000
        self._unseen[ask_id] = (tenant, ms)
        self._unseen_of[tenant] = self._unseen_of.get(tenant, 0.0) + ms
        self._is_merged = False
        if cost is None:
            return None
        self._owed_warm += 1
        return (self._busy_until - now) * 1000

    def ended(self, ask_id: int, *, was_warm: bool, is_settled: bool) -> None:
        """An ask was settled by the worker or given up: nothing is owed for it any more."""
        if was_warm:
            self._owed_warm -= 1
        self._has_answered |= is_settled
        unseen = self._unseen.pop(ask_id, None)
        if unseen is not None:
            tenant, ms = unseen
            left = self._unseen_of[tenant] - ms
            if left > 1e-9:
                self._unseen_of[tenant] = left
            else:
                del self._unseen_of[tenant]
            self._busy_until -= ms / 1000
            self._is_merged = False

    def took(self, hop_ms: float, now: float, *, at_least: bool = False) -> None:
        """An answer came ``hop_ms`` later than its queueing and running explain: the way there and back.

        ``at_least``: it had not come by then.
        """
        known_ms = self._hop(now)
        hop_ms = min(max(hop_ms, 0.0), MAX_HOP_MS)
        if hop_ms > known_ms:
            self._hop_ms, self._hop_at = known_ms + HOP_UP * (hop_ms - known_ms), now
        elif not at_least:
            self._hop_ms, self._hop_at = known_ms + HOP_DOWN * (hop_ms - known_ms), now

    def view(self, now: float, silent_ms: float = 0.0) -> WorkerView:
        """What routing may know. ``silent_ms``: for how long a worker that may hang has said nothing; else 0.

        The way there and back counts as running: it delays whatever is sent, however idle the worker.
        """
        if not self._is_merged:
            self._merge()
        running_ms = (self._runs_until - now) * 1000
        queued_ms = (self._busy_until - max(self._runs_until, now)) * 1000
        hop_ms = self._hop(now)
        overdue_ms = (now - self._busy_until) * 1000 - hop_ms if self._owed_warm else 0.0
        if self._is_stuck:
            overdue_ms = max(overdue_ms, self._load.running_ms + (now - self._load_at) * 1000)
        return WorkerView(
            name=self._name,
            costs=self._costs,
            running_ms=max(running_ms, overdue_ms, silent_ms, 0.0) + round(hop_ms / HOP_STEP_MS) * HOP_STEP_MS,
            queued_ms=queued_ms if queued_ms > 0.0 else 0.0,
            tenants=self._tenants,
            active_weight=self._active_weight,
            busy=self._load.busy,
        )

    def _hop(self, now: float) -> float:
        hop_ms = self._hop_ms
        if hop_ms <= LASTING_HOP_MS:
            return hop_ms
        return max(LASTING_HOP_MS, hop_ms * math.exp2((self._hop_at - now) / HOP_HALF_LIFE_S))

    def _forget_seen(self, seen: int) -> None:
        if not self._unseen:
            return
        self._unseen = {id_: sent for id_, sent in self._unseen.items() if id_ > seen} if seen else {}
        self._unseen_of = {}
        for tenant, ms in self._unseen.values():
            self._unseen_of[tenant] = self._unseen_of.get(tenant, 0.0) + ms

    def _merge(self) -> None:
        """The worker's figures per tenant with ours on top; replaced, never changed, because views refer to them."""
        self._is_merged = True
        said = self._load.tenants
        self._active_weight = self._load.active_weight
        if not self._unseen_of:
            self._tenants = said
            return
        merged = dict(said)
        for tenant, ms in self._unseen_of.items():
            if tenant not in said:
                self._active_weight += self._shares.get(tenant, _ONE).weight
            merged[tenant] = merged.get(tenant, 0.0) + ms
        self._tenants = merged
