"""The decision beyond the best ticket: where tickets come to live, and the policies of a domain.

Tables, workers and figures are those of test_decide.py.
"""

import msgspec
import pytest

from routing.placement import ranked
from routing.table import Cascade, Domain, Route, Table, Tier, Warm
from tests.routing.tables import ACCURATE, BALANCED, FAST, example_table
from tests.routing.test_decide import IDLE, NAMES, decide, decide_by, worker


def with_policy(policy: str, cascade: Cascade | None = None, **changes: Tier) -> Table:
    """The example table with another policy for acme's banking."""
    table = example_table(**changes)
    tenant = table.tenants["acme"]
    domain: Domain = msgspec.structs.replace(tenant.domains["banking"], policy=policy, cascade=cascade)
    tenant = msgspec.structs.replace(tenant, domains={"banking": domain})
    return msgspec.structs.replace(table, tenants={**table.tenants, "acme": tenant})


class TestPlacement:
    def test_a_ticket_that_nobody_holds_goes_to_the_worker_that_it_ranks_first(self) -> None:
        """Every gateway computes the same, and losing another worker moves nothing."""
        workers = [worker(f"w{i}", 0, "") for i in range(8)]
        for ticket in NAMES.values():
            first = ranked(ticket, [w.name for w in workers])[0]
            for lost in [None, *(w for w in workers if w.name != first)]:
                route = decide(*(w for w in workers if w is not lost), tier="accurate", version=ticket)
                assert isinstance(route, Route)
                assert route.worker == first

    def test_it_goes_to_the_next_in_rank_only_when_the_first_is_too_busy(self) -> None:
        names = ranked(ACCURATE, ["w1", "w2", "w3"])
        busy = {names[0]: 90.0, names[1]: 0.0, names[2]: 0.0}
        route = decide(*(worker(name, wait, "") for name, wait in busy.items()), tier="accurate")
        assert isinstance(route, Route)
        assert route.worker == names[1]

    def test_a_better_ticket_that_would_do_but_for_its_loading_is_wished_for(self) -> None:
        """The answer comes from one that is ready: nobody waits for a load that cannot end in time."""
        names = ranked(ACCURATE, ["w1", "w2"])
        route = decide(*(worker(name, 0, "fast") for name in names))
        assert isinstance(route, Route)
        assert (route.ticket, route.warm) == (FAST, Warm(ticket=ACCURATE, worker=names[0]))

    def test_nothing_is_wished_for_where_everything_better_is_held_or_hopeless(self) -> None:
        for workers in ([worker("a", 16)], [worker("a", 16, "fast")], [worker("a")]):
            route = decide(*workers)
            assert isinstance(route, Route)
            assert route.warm is None or route.ticket == FAST
        hopeless = decide(worker("a", 0, "fast"), tier="fast", deadline_ms=5.0)
        assert isinstance(hopeless, Route)
        assert hopeless.warm is None


class TestPolicies:
    CASCADE = Cascade(small=BALANCED, large=ACCURATE, threshold=0.9, accuracy=0.96)

    def test_policy_tier_begins_at_the_ticket_found_for_the_tier(self) -> None:
        table = with_policy("tier")
        found = {tier: decide_by(table, *IDLE, tier=tier) for tier in ("accurate", "balanced", "fast", "strict")}
        tickets = {tier: route.ticket for tier, route in found.items() if isinstance(route, Route)}
        assert tickets == {"accurate": ACCURATE, "balanced": BALANCED, "fast": FAST, "strict": ACCURATE}

    def test_a_cascade_begins_with_its_small_ticket_and_says_what_is_next(self) -> None:
        route = decide_by(with_policy("cascade", self.CASCADE), *IDLE, tier="accurate")
        assert isinstance(route, Route)
        assert (route.ticket, route.step, route.cascade) == (BALANCED, 0, self.CASCADE)
        assert route.because == (
            "cascade within 100 ms: balanced answers where its confidence is at least 0.9, else accurate"
        )

    def test_under_load_the_small_ticket_of_a_cascade_answers_alone_and_then_cheaper_ones(self) -> None:
        """Both in a row take 30 ms: with 21 ms of wait for either that is more than 50 ms."""
        table = with_policy("cascade", self.CASCADE)
        alone = decide_by(table, worker("a", 11), deadline_ms=50.0, tier="accurate")
        assert isinstance(alone, Route)
        assert (alone.ticket, alone.step, alone.cascade) == (BALANCED, 1, None)
        assert alone.because == "stepped down from the cascade: predicted 52 ms > 50 ms on every worker"
        cheaper = decide_by(table, worker("a", 41), deadline_ms=50.0, tier="accurate")
        assert isinstance(cheaper, Route)
        assert (cheaper.ticket, cheaper.step) == (FAST, 2)

    def test_the_ladder_takes_a_cascade_down_to_its_small_ticket(self) -> None:
        route = decide_by(with_policy("cascade", self.CASCADE), *IDLE, tier="accurate", skip=1)
        assert isinstance(route, Route)
        assert (route.ticket, route.cascade) == (BALANCED, None)
        assert route.because == "stepped down from the cascade: more than the workers can carry for now"

    @pytest.mark.parametrize("ask", [{"version": FAST}, {"not_tickets": [BALANCED]}, {"tier": "strict"}])
    def test_without_its_small_ticket_there_is_no_cascade(self, ask: dict[str, object]) -> None:
        """Pinned to another, not to be loaded, or below the floor: no answer ever comes from under a floor."""
        route = decide_by(with_policy("cascade", self.CASCADE), *IDLE, **{"tier": "accurate", **ask})
        assert isinstance(route, Route)
        assert route.cascade is None
        assert route.ticket == (FAST if "version" in ask else ACCURATE)
