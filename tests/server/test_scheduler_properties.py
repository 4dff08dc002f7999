"""The scheduler under thousands of random workloads: nothing lost, deadlines first, nobody far behind a fair share.

A workload is tenants with weights and habits, tickets with costs, and time that passes while batches run; it is
made from a seed, so that whatever fails can be run again.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.cost import FAIR_LEAD_MS, Cost
from server.batch import Batch, Entry
from server.profile import Profiles
from server.scheduler import Scheduler
from server.timely import efficient_rows, rows_in_time

SEEDS = 1000
CHUNKS = 12


class World:
    """A random workload, and what has been seen of it."""

    def __init__(self, seed: int, *, tenants: int = 5, tickets: int = 6, hurry: float = 1.0) -> None:
        """``hurry`` below 1 gives deadlines so short that much of the work expires."""
        self.dice = random.Random(seed)
        self.tenants = [f"t{i}" for i in range(self.dice.randint(2, tenants))]
        self.weights = {tenant: self.dice.choice([0.5, 1.0, 1.0, 4.0]) for tenant in self.tenants}
        self.costs = {
            f"k{i}": Cost(self.dice.choice([0.0, 0.2, 2.0]), self.dice.uniform(0, 1), self.dice.uniform(0, 0.1), 0.1)
            for i in range(self.dice.randint(1, tickets))
        }
        self.hurry = hurry
        profiles = Profiles()
        for ticket, cost in self.costs.items():
            profiles.know(ticket, cost)
        self.budget = self.dice.choice([16, 128, 512])
        self.made = Scheduler(profiles, batch_tokens=self.budget, queue_texts=self.dice.choice([30, 10**6]))
        self.made.weigh(self.weights)
        self.waiting: dict[int, Entry] = {}
        self.ended: Counter[int] = Counter()
        self.rows: Counter[int] = Counter()
        self.numbers = 0
        self.now = 0.0

    def entry(self, tenant: str) -> Entry:
        self.numbers += 1
        return Entry(
            id=self.numbers,
            ticket=self.dice.choice(list(self.costs)),
            tenant=tenant,
            deadline=self.now + self.hurry * self.dice.uniform(0.001, 10.0),
            texts=self.dice.choice([1, 1, 1, 3, 20]),
            longest=self.dice.randint(1, 40),
            priority=self.dice.choice([1, 2, 2, 2, 3]),
        )

    def push(self, tenant: str) -> None:
        self.put(self.entry(tenant))

    def put(self, entry: Entry) -> None:
        self.waiting[entry.id] = entry
        for gone in self.made.push(entry):
            self.leave(gone)

    def leave(self, entry: Entry) -> None:
        self.ended[entry.id] += 1
        del self.waiting[entry.id]

    def expire(self) -> None:
        for entry in self.made.expired(self.now):
            cost = self.costs[entry.ticket]
            left_ms = (entry.deadline - self.now) * 1000
            efficient = min(efficient_rows(cost, entry.longest), max(1, self.budget // entry.longest))
            is_hopeless = cost.of(entry.texts - entry.done, entry.longest) > left_ms - 1e-6
            assert is_hopeless or rows_in_time(cost, entry.longest, left_ms) < efficient  # it was in others' way
            self.leave(entry)

    def run(self) -> Batch | None:
        """One batch, which takes as long as predicted."""
        batch = self.made.take(self.now)
        assert (batch is None) == (not self.waiting), "something runs whenever something waits"
        if batch is not None:
            self.check(batch)
            self.now += batch.predicted_ms / 1000
            self.made.finished(batch, self.now)
        return batch

    def check(self, batch: Batch) -> None:
        """What holds of every batch: one ticket, the budget, rows once and in order, its price."""
        assert {piece.entry.ticket for piece in batch.slices} == {batch.ticket}
        padded = batch.texts * max(piece.entry.longest for piece in batch.slices)
        assert padded <= self.budget or batch.texts == 1
        assert batch.texts == sum(piece.stop - piece.start for piece in batch.slices) >= 1
        for piece in batch.slices:
            assert piece.start == self.rows[piece.entry.id] < piece.stop
            self.rows[piece.entry.id] = piece.stop
            if piece.is_last:
                self.leave(piece.entry)
        assert batch.predicted_ms == pytest.approx(sum(self.charges(batch).values()))

    def charges(self, batch: Batch) -> dict[str, float]:
        """What each tenant's rows take, and its part of the call: worked out again."""
        cost = self.costs[batch.ticket]
        charges: dict[str, float] = defaultdict(float)
        for piece in batch.slices:
            rows = piece.stop - piece.start
            charges[piece.entry.tenant] += cost.marginal(rows, piece.entry.longest) + cost.fixed_ms * rows / batch.texts
        return charges

    def backlogged(self) -> set[str]:
        return {entry.tenant for entry in self.waiting.values()}


def chunk(number: int) -> Iterator[int]:
    return iter(range(number * SEEDS // CHUNKS, (number + 1) * SEEDS // CHUNKS))


@pytest.mark.parametrize("number", range(CHUNKS))
def test_every_row_leaves_exactly_once_and_the_bookkeeping_returns_to_nothing(number: int) -> None:
    """Whatever mixes of pushes, cancels, passing time and batches: run, expired, cancelled or displaced, once."""
    for seed in chunk(number):
        world = World(seed, hurry=0.02)
        for _ in range(60):
            match world.dice.choice(["push", "push", "push", "run", "cancel", "time"]):
                case "push":
                    world.push(world.dice.choice(world.tenants))
                case "run":
                    world.expire()
                    world.run()
                case "cancel":
                    number_ = world.dice.randint(1, world.numbers + 1)
                    gone = world.made.cancel(number_)
                    assert (gone is not None) == (number_ in world.waiting)
                    if gone is not None:
                        world.leave(gone)
                case "time":
                    world.now += world.dice.uniform(0.0, 0.05)
            assert world.made.texts == sum(entry.texts - entry.done for entry in world.waiting.values())
        while world.waiting:
            world.expire()
            world.run()
        assert world.ended == Counter(range(1, world.numbers + 1))
        load = world.made.load(world.now)
        assert (load.queued_ms, load.tenants, load.active_weight, world.made.texts) == (0.0, {}, 0.0, 0)
        queues = world.made._queues
        assert (queues.live, queues.backlogs, queues.queues, queues.by_time.alive) == ({}, {}, {}, 0)


class Fairness:
    """Follows, for every two tenants, how much more one was served than the other since both have work waiting."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.served: dict[str, float] = dict.fromkeys(world.tenants, 0.0)
        self.since: dict[tuple[str, str], list[float]] = {}
        self.largest_ms = 0.0
        self.worst = 0.0

    def saw(self, batch: Batch) -> None:
        charges = self.world.charges(batch)
        self.largest_ms = max(self.largest_ms, *charges.values())
        for tenant, ms in charges.items():
            self.served[tenant] += ms / self.world.weights[tenant]

    def look(self) -> None:
        """To be called at every moment at which somebody may have begun or ended to wait."""
        both = self.world.backlogged()
        for one in self.world.tenants:
            for other in self.world.tenants:
                if one < other:
                    self._look(one, other, is_joint={one, other} <= both)

    def _look(self, one: str, other: str, *, is_joint: bool) -> None:
        """The extremes of the difference while both wait: their distance is the worst over all intervals."""
        if not is_joint:
            self.since.pop((one, other), None)
            return
        ahead = self.served[one] - self.served[other]
        seen = self.since.setdefault((one, other), [ahead, ahead])
        seen[:] = [min(seen[0], ahead), max(seen[1], ahead)]
        weights = self.world.weights
        bound = 2 * FAIR_LEAD_MS + self.largest_ms / weights[one] + self.largest_ms / weights[other]
        assert seen[1] - seen[0] <= bound + 1e-6
        self.worst = max(self.worst, (seen[1] - seen[0]) / bound)


@pytest.mark.parametrize("number", range(CHUNKS))
def test_no_interval_in_which_two_tenants_wait_serves_one_of_them_far_beyond_its_share(number: int) -> None:
    """|ΔS_i/w_i - ΔS_j/w_j| <= 2 FAIR_LEAD_MS + B/w_i + B/w_j over every interval in which both have work waiting,
    for B the most that a batch serves one tenant: with weights, many tickets, priorities, comings and goings."""
    for seed in chunk(number):
        world = World(seed)
        fairness = Fairness(world)
        flood = world.dice.choice(world.tenants)
        for _ in range(15):
            for tenant in world.tenants:
                for _ in range(world.dice.choice([0, 0, 1, 4]) + (6 if tenant == flood else 0)):
                    world.push(tenant)
            fairness.look()
            for _ in range(world.dice.randint(1, 6)):
                batch = world.run()
                if batch is None:
                    break
                fairness.saw(batch)
                fairness.look()


@pytest.mark.parametrize("seed", range(60))
def test_tenants_that_begin_together_stay_within_the_lead_and_a_batch_whatever_their_priorities(seed: int) -> None:
    """|S_i/w_i - S_j/w_j| <= FAIR_LEAD_MS + B/w while all have work waiting, though one names everything urgent."""
    world = World(seed)
    pushy = world.tenants[0]
    for tenant in world.tenants:
        for _ in range(120):
            entry = world.entry(tenant)
            entry.priority = 1 if tenant == pushy else 3
            if tenant == pushy:
                entry.deadline /= 1000
            world.put(entry)
    fairness = Fairness(world)
    while world.backlogged() == set(world.tenants):
        batch = world.run()
        assert batch is not None
        fairness.saw(batch)
        if world.backlogged() == set(world.tenants):
            for one in world.tenants:
                for other in world.tenants:
                    ahead = fairness.served[one] - fairness.served[other]
                    assert ahead <= FAIR_LEAD_MS + fairness.largest_ms / world.weights[one] + 1e-6


@pytest.mark.parametrize("seed", range(40))
def test_nobody_starves_however_urgent_the_others_are(seed: int) -> None:
    """One ask without hurry, against floods that are always more urgent: it runs after a bounded amount of service."""
    world = World(seed)
    patient, *others = world.tenants
    last = world.entry(patient)
    last.deadline, last.texts, last.priority = 1e9, 1, 3
    for _ in range(30):
        for tenant in others:
            world.push(tenant)
    world.put(last)
    served, largest = 0.0, 0.0
    while last.id in world.waiting:
        for tenant in others:
            if tenant not in world.backlogged():
                world.push(tenant)
        batch = world.run()
        assert batch is not None
        served += batch.predicted_ms
        largest = max(largest, batch.predicted_ms)
        weights = sum(world.weights[tenant] for tenant in others)
        assert served <= weights * FAIR_LEAD_MS + (len(others) + 1) * largest + 1e-6


@pytest.mark.parametrize("number", range(CHUNKS))
def test_without_contention_every_batch_begins_with_the_earliest_deadline(number: int) -> None:
    """As long as nobody has been served more than the lead, tenants make no difference: it is plain EDF."""
    for seed in chunk(number):
        world = World(seed)
        for ticket in world.costs:
            world.made._profiles.know(ticket, Cost(0.002, 0.002, 0.0, 0.1))
            world.costs[ticket] = Cost(0.002, 0.002, 0.0, 0.1)
        for _ in range(10):
            for _ in range(world.dice.randint(0, 6)):
                entry = world.entry(world.dice.choice(world.tenants))
                entry.priority = 2
                world.put(entry)
            order = sorted((entry.deadline, entry.id) for entry in world.waiting.values())
            batch = world.run()
            if batch is not None:
                taken = [(piece.entry.deadline, piece.entry.id) for piece in batch.slices]
                assert taken == sorted(taken)
                assert taken[0] == order[0]


entries = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(1, 3), st.integers(1, 9), st.integers(1, 12)),
    min_size=1,
    max_size=14,
)


@given(entries)
def test_nothing_runs_while_its_tenant_has_something_more_important(
    specs: list[tuple[str, str, int, int, int]],
) -> None:
    made = Scheduler(Profiles(), batch_tokens=16, queue_texts=10**6)
    waiting = {}
    for i, (ticket, tenant, priority, deadline, texts) in enumerate(specs):
        waiting[i] = Entry(
            id=i, ticket=ticket, tenant=tenant, deadline=float(deadline), texts=texts, longest=4, priority=priority
        )
        made.push(waiting[i])
    while (batch := made.take(0.0)) is not None:
        for piece in batch.slices:
            own = [entry.priority for entry in waiting.values() if entry.tenant == piece.entry.tenant]
            assert piece.entry.priority == min(own)
            if piece.is_last:
                del waiting[piece.entry.id]
        made.finished(batch, 0.0)
    assert not waiting
