"""The ladder, step by step: when it goes down, when it goes up, and what it takes no notice of.

The family costs 20, 10 and 2 ms a row, the tier's deadline is 100 ms. What it does under a load that
goes on is in test_ladder_load.py.
"""

import math

import msgspec
import pytest

from routing.cost import Cost
from routing.ladder import DWELL_S, SOON_DWELLS, WARM_AGAIN_S, Ladder
from routing.table import Ask, Fleet, Refusal, Route, Tier, Warm, WorkerView
from tests.routing.tables import ACCURATE, BALANCED, FAST, example_table

COSTS = {ACCURATE: Cost(0.0, 20.0, 0.0), BALANCED: Cost(0.0, 10.0, 0.0), FAST: Cost(0.0, 2.0, 0.0)}
TABLE = example_table()
ASK = Ask(tenant="acme", domain="banking", tier="accurate")


def view(wait_ms: float, name: str = "w", busy: float = 0.9) -> WorkerView:
    return WorkerView(name=name, costs=COSTS, running_ms=wait_ms, busy=busy)


def climb(ladder: Ladder, ask: Ask, *, wait_ms: float = 0.0, busy: float = 0.0, start_s: float, stop_s: float) -> float:
    """Ask every 100 ms until the best ticket answers; when that was, or infinity."""
    fleet = Fleet(workers=(view(wait_ms, busy=busy),))
    for i in range(round((stop_s - start_s) * 10)):
        route = ladder.choose(ask, TABLE, fleet, start_s + i / 10)
        if isinstance(route, Route) and route.step == 0:
            return start_s + i / 10
    return math.inf


def step_of(ladder: Ladder, ask: Ask, fleet: Fleet, now_s: float) -> int:
    route = ladder.choose(ask, TABLE, fleet, now_s)
    assert isinstance(route, Route)
    return route.step


BUSY, FREE = Fleet(workers=(view(95.0),)), Fleet(workers=(view(0.0, busy=0.1),))


class TestSteps:
    def test_it_goes_down_at_once_and_says_why_it_stays(self) -> None:
        ladder = Ladder()
        assert step_of(ladder, ASK, BUSY, 0.0) == 2
        route = ladder.choose(ASK, TABLE, FREE, 0.1)
        assert isinstance(route, Route)
        assert (route.ticket, route.step) == (FAST, 2)
        assert route.because == "stepped down from accurate: more than the workers can carry for now"

    def test_it_goes_up_step_by_step_a_dwell_each(self) -> None:
        ladder = Ladder()
        step_of(ladder, ASK, BUSY, 0.0)
        steps = [step_of(ladder, ASK, FREE, i / 20) for i in range(1, 80)]
        assert sorted(set(steps), reverse=True) == [2, 1, 0]
        assert steps == sorted(steps, reverse=True)
        assert steps.count(1) / 20 == pytest.approx(DWELL_S, abs=0.2)

    def test_it_stays_while_the_better_ticket_would_make_its_workers_too_busy(self) -> None:
        """A fifth of a worker with the fast ticket is a whole one with the balanced: the deadline alone would fit."""
        ladder = Ladder()
        step_of(ladder, ASK, BUSY, 0.0)
        rare = Fleet(workers=(view(0.0, busy=0.2),))
        assert {step_of(ladder, ASK, rare, i / 100) for i in range(1, 2000)} == {2}

    def test_other_flows_load_counts_as_it_is_and_ones_own_as_it_would_become(self) -> None:
        """The workers are half busy, but hardly with this flow: moving it up adds little."""
        ladder = Ladder()
        step_of(ladder, ASK, BUSY, 0.0)
        shared = Fleet(workers=(view(0.0, busy=0.5),))
        for i in range(1, 20):
            step_of(ladder, ASK, shared, i / 4)
        assert step_of(ladder, ASK, shared, 5.0) == 0

    def test_a_better_ticket_that_did_not_fit_all_the_time_starts_the_dwell_again(self) -> None:
        ladder = Ladder()
        step_of(ladder, ASK, BUSY, 0.0)
        for i in range(1, 100):
            assert step_of(ladder, ASK, BUSY if i % 8 == 0 else FREE, i / 10) == 2

    def test_a_step_up_that_fails_soon_doubles_the_next_dwell_up_to_a_bound(self) -> None:
        ladder, now_s, dwells = Ladder(), 0.0, []
        for _ in range(7):
            assert step_of(ladder, ASK, Fleet(workers=(view(85.0),)), now_s) == 1
            up_s = climb(ladder, ASK, start_s=now_s + 0.1, stop_s=now_s + 100.0)
            dwells.append(up_s - now_s)
            now_s = up_s + 0.5
        assert dwells == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0], abs=0.3)

    def test_a_step_up_that_lasts_is_forgiven_and_forgotten(self) -> None:
        ladder = Ladder()
        step_of(ladder, ASK, Fleet(workers=(view(85.0),)), 0.0)
        up_s = climb(ladder, ASK, start_s=0.1, stop_s=50.0)
        held = []
        for i in range(1, 40):
            assert step_of(ladder, ASK, FREE, up_s + i / 10) == 0
            held.append(len(ladder))
        assert held == sorted(held, reverse=True)
        assert sum(held) / 10 == pytest.approx(SOON_DWELLS * DWELL_S, abs=0.3)

    def test_many_flows_do_not_go_up_at_the_same_moment(self) -> None:
        """Each takes 0.1 of the worker more with the better ticket, and 0.4 of it is busy: each would fit, all six
        together would not, and what has just gone up is not in ``busy`` yet."""
        ladder = Ladder()
        table = example_table(**{f"tier{i}": Tier(deadline_ms=100.0) for i in range(6)})
        asks = [msgspec.structs.replace(ASK, tier=f"tier{i}") for i in range(6)]
        for ask in asks:
            ladder.choose(ask, table, Fleet(workers=(view(85.0),)), 0.0)
        assert len(ladder) == 6
        fleet = Fleet(workers=(view(0.0, busy=0.4),))
        for i in range(1, 13):
            for ask in asks:
                ladder.choose(ask, table, fleet, i / 10)
        assert ladder.ups == 3


class TestWhatIsNoLoad:
    def test_an_ask_with_a_deadline_of_its_own_does_not_hold_others_back(self) -> None:
        ladder = Ladder()
        for i in range(10):
            assert step_of(ladder, msgspec.structs.replace(ASK, deadline_ms=5.0), FREE, i / 10) == 2
            assert step_of(ladder, ASK, FREE, i / 10) == 0
        assert (ladder.downs, len(ladder)) == (0, 0)

    def test_an_ask_with_many_rows_does_not_hold_others_back(self) -> None:
        ladder = Ladder()
        assert step_of(ladder, msgspec.structs.replace(ASK, rows=8), FREE, 0.0) == 1
        assert step_of(ladder, msgspec.structs.replace(ASK, rows=8), Fleet(workers=(view(30.0),)), 0.1) == 2
        assert len(ladder) == 1
        assert step_of(ladder, ASK, FREE, 0.2) == 0

    def test_of_asks_of_like_size_the_largest_do_not_take_the_others_down(self) -> None:
        """Four rows are held at the balanced ticket; seven in 65 ms are too much for it even where nothing waits."""
        ladder = Ladder()
        four, seven = msgspec.structs.replace(ASK, rows=4), msgspec.structs.replace(ASK, rows=7, deadline_ms=65.0)
        assert step_of(ladder, four, Fleet(workers=(view(30.0),)), 0.0) == 1
        for i in range(1, 8):
            assert step_of(ladder, seven, FREE, i / 10) == 2
            assert step_of(ladder, four, FREE, i / 10 + 0.02) == 1
        assert len(ladder) == 1

    def test_a_deadline_that_is_longer_than_the_tiers_makes_no_other_flow(self) -> None:
        ladder = Ladder()
        step_of(ladder, ASK, BUSY, 0.0)
        assert step_of(ladder, msgspec.structs.replace(ASK, deadline_ms=9e9), FREE, 0.1) == 2

    def test_a_retry_neither_moves_the_step_nor_escapes_it(self) -> None:
        ladder = Ladder()
        retry = msgspec.structs.replace(ASK, not_workers=frozenset({"w"}))
        two = Fleet(workers=(view(0.0), view(95.0, "v")))
        assert step_of(ladder, retry, two, 0.0) == 2
        assert len(ladder) == 0
        step_of(ladder, ASK, BUSY, 0.1)
        assert step_of(ladder, retry, Fleet(workers=(view(0.0), view(0.0, "v"))), 0.2) == 2

    def test_a_pinned_version_is_answered_by_that_version(self) -> None:
        ladder = Ladder()
        step_of(ladder, ASK, BUSY, 0.0)
        route = ladder.choose(msgspec.structs.replace(ASK, version=ACCURATE), TABLE, FREE, 0.1)
        assert isinstance(route, Route)
        assert route.ticket == ACCURATE

    def test_one_tenants_load_costs_no_other_tenants_quality(self) -> None:
        banking = TABLE.tenants["acme"].domains["banking"]
        globex = msgspec.structs.replace(TABLE.tenants["globex"], domains={"banking": banking})
        table = msgspec.structs.replace(TABLE, tenants={**TABLE.tenants, "globex": globex})
        flooded = WorkerView(name="w", costs=COSTS, queued_ms=95.0, tenants={"acme": 95.0}, active_weight=1.0, busy=1.0)
        ladder = Ladder()
        for i in range(100):
            noisy, quiet = (
                ladder.choose(msgspec.structs.replace(ASK, tenant=name), table, Fleet(workers=(flooded,)), i / 100)
                for name in ("acme", "globex")
            )
            assert isinstance(noisy, Route)
            assert isinstance(quiet, Route)
            assert (noisy.step, quiet.step) == (2, 0)

    def test_a_flow_that_pauses_is_forgotten(self) -> None:
        ladder = Ladder()
        step_of(ladder, ASK, BUSY, 0.0)
        assert step_of(ladder, ASK, FREE, DWELL_S) == 0
        assert len(ladder) == 0


class TestRefusals:
    def test_before_a_refusal_the_better_tickets_are_tried_too(self) -> None:
        """Only the accurate ticket lives on the idle worker."""
        ladder = Ladder()
        step_of(ladder, ASK, BUSY, 0.0)
        free = WorkerView(name="v", costs={ACCURATE: COSTS[ACCURATE]}, running_ms=75.0)
        busy = WorkerView(name="w", costs=COSTS, running_ms=500.0)
        route = ladder.choose(ASK, TABLE, Fleet(workers=(busy, free)), 0.1)
        assert isinstance(route, Route)
        assert (route.worker, route.ticket) == ("v", ACCURATE)

    def test_a_refusal_is_passed_on(self) -> None:
        ladder = Ladder()
        step_of(ladder, ASK, BUSY, 0.0)
        refusal = ladder.choose(ASK, TABLE, Fleet(workers=(view(500.0),)), 0.1)
        assert isinstance(refusal, Refusal)
        assert (refusal.code, refusal.retry_after_s) == ("overloaded", 0.5)


class TestMemory:
    def test_it_is_bounded_whoever_asks(self) -> None:
        ladder = Ladder(max_flows=8)
        table = example_table(**{f"tier{i}": Tier(deadline_ms=100.0) for i in range(100)})
        for i in range(100):
            ladder.choose(msgspec.structs.replace(ASK, tier=f"tier{i}"), table, BUSY, i / 1000)
            assert len(ladder) == min(i + 1, 8)

    def test_a_wish_to_load_a_ticket_is_uttered_once_a_second(self) -> None:
        ladder = Ladder()
        bare = Fleet(workers=(WorkerView(name="w", costs={FAST: COSTS[FAST]}),))
        ask = msgspec.structs.replace(ASK, deadline_ms=25.0)
        wishes = []
        for i in range(250):
            route = ladder.choose(ask, TABLE, bare, i / 100)
            assert isinstance(route, Route)
            assert route.ticket == FAST
            wishes.append(route.warm)
        spoken = [i / 100 for i, wish in enumerate(wishes) if wish is not None]
        assert spoken == [0.0, WARM_AGAIN_S, 2 * WARM_AGAIN_S]
        assert wishes[0] == Warm(ticket=ACCURATE, worker="w")
