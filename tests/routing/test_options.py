"""The options: the order of choice, and that no ticket stands in it that another one beats at its own price."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.cost import Cost
from routing.explain import explain
from routing.options import Options, find_options, without_dominated
from routing.table import (
    Ask,
    Canary,
    Cascade,
    FamilyTicket,
    Fleet,
    Refusal,
    Route,
    Table,
    TicketState,
    WorkerView,
)
from tests.routing.tables import ACCURATE, BALANCED, FAST, example_table

ASK = Ask(tenant="acme", domain="banking", tier="accurate")


def table(*figures: tuple[str, float, float]) -> Table:
    """Acme's banking family with these tickets: id, quality, service_ms."""
    family = [FamilyTicket(id=id_, tier="t", quality=quality, service_ms=ms) for id_, quality, ms in figures]
    return msgspec.structs.replace(example_table(), families={**example_table().families, "banking": family})


FOUND = table((ACCURATE, 0.944, 0.47), (BALANCED, 0.933, 0.30), (FAST, 0.942, 0.13))
"""The figures of the starter's banking family, where fast is both better and cheaper than balanced."""


def options(of: Table, **changes: object) -> list[str]:
    found = find_options(msgspec.structs.replace(ASK, **changes), of)
    assert isinstance(found, Options)
    return [ticket.id for ticket in found.tickets]


def test_every_step_down_is_a_cheaper_ticket() -> None:
    """A dearer and worse one would only take more of the time that is short."""
    assert options(FOUND) == [ACCURATE, FAST]


def test_a_ticket_that_is_beaten_still_answers_where_the_better_one_is_lost_or_it_is_asked_for() -> None:
    """The one that beats it cannot be loaded; or the caller has pinned it."""
    assert options(FOUND, not_tickets=frozenset({FAST})) == [ACCURATE, BALANCED]
    assert options(FOUND, version=BALANCED[:8]) == [BALANCED]


def test_of_two_that_cost_the_same_the_better_one_is_left() -> None:
    """And of two that are alike in all, one."""
    assert options(table((FAST, 0.9, 1.0), (BALANCED, 0.95, 1.0))) == [BALANCED]
    assert len(options(table((FAST, 0.9, 1.0), (BALANCED, 0.9, 1.0)))) == 1


def test_load_steps_past_the_ticket_that_is_beaten() -> None:
    """The worker holds all three; accurate would be late, and fast answers, although balanced is in memory, too."""
    costs = {ACCURATE: Cost(60.0, 60.0, 0.0), BALANCED: Cost(1.0, 1.0, 0.0), FAST: Cost(0.5, 0.5, 0.0)}
    fleet = Fleet(workers=(WorkerView(name="w", costs=costs, queued_ms=5.0),))
    explained = explain(ASK, FOUND, fleet)
    assert isinstance(explained.outcome, Route)
    assert explained.outcome.ticket == FAST
    reasons = {item.ticket.id: item.why for item in explained.considered}
    assert reasons[BALANCED] == "another is at least as good and costs no more"


def of_states(*states: TicketState) -> Table:
    """The banking family with these states, from accurate to fast."""
    family = [
        msgspec.structs.replace(ticket, state=state)
        for ticket, state in zip(example_table().families["banking"], states, strict=True)
    ]
    return msgspec.structs.replace(example_table(), families={**example_table().families, "banking": family})


def test_without_a_version_only_promoted_tickets_answer() -> None:
    assert options(of_states("registered", "promoted", "canary")) == [BALANCED]


@pytest.mark.parametrize("state", ["registered", "canary", "promoted"])
def test_a_version_may_be_any_ticket_of_the_family(state: TicketState) -> None:
    assert options(of_states(state, "promoted", "promoted"), version=ACCURATE[:8]) == [ACCURATE]


def test_a_domain_of_which_nothing_is_promoted_says_so() -> None:
    found = find_options(ASK, of_states("registered", "registered", "registered"))
    assert isinstance(found, Refusal)
    assert (found.code, found.retry_after_s) == ("not_promoted", None)
    assert found.message == "no ticket of domain banking has been promoted yet: promote one, or name one as version"


def test_a_tiers_own_ticket_bounds_policy_tier_only_while_it_is_promoted() -> None:
    found = with_policy(of_states("promoted", "promoted", "promoted"), policy="tier")
    assert options(found, tier="balanced") == [BALANCED, FAST]
    found = with_policy(of_states("promoted", "registered", "promoted"), policy="tier")
    assert options(found, tier="balanced") == [ACCURATE, FAST]


def test_a_cascade_waits_until_both_its_tickets_are_promoted() -> None:
    rule = Cascade(small=FAST, large=ACCURATE, threshold=0.9, accuracy=0.96)
    for table, is_cascade in (
        (of_states("promoted", "promoted", "promoted"), True),
        (of_states("registered", "promoted", "promoted"), False),
    ):
        found = find_options(ASK, with_policy(table, policy="cascade", cascade=rule))
        assert isinstance(found, Options)
        assert (found.cascade is not None) == is_cascade


def test_the_explanation_says_what_each_state_means() -> None:
    table = of_states("registered", "promoted", "canary")
    table = with_policy(table, canary=Canary(ticket=FAST, current=BALANCED, share=0.2))
    explained = explain(ASK, table, Fleet(workers=(WorkerView(name="w"),)))
    reasons = {item.ticket.id: item.why for item in explained.considered}
    assert reasons[ACCURATE] == "registered, not promoted: it answers only who names it as version"
    assert reasons[FAST] == "a canary: it answers 20% of the asks that bbbbbbbbbbbb would answer"


def with_policy(of: Table, **changes: Any) -> Table:
    """With these fields of acme's banking domain."""
    acme = of.tenants["acme"]
    banking = msgspec.structs.replace(acme.domains["banking"], **changes)
    acme = msgspec.structs.replace(acme, domains={"banking": banking})
    return msgspec.structs.replace(of, tenants={**of.tenants, "acme": acme})


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_stay_what_they_are(count: int) -> None:
    tickets = FOUND.families["banking"][:count]
    assert list(without_dominated(tickets)) == tickets


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=12))
def test_exactly_those_that_nobody_beats_are_left_and_costs_fall(figures: list[tuple[int, int]]) -> None:
    """Against the definition of dominance."""
    tickets = [
        FamilyTicket(id=f"{i:064x}", tier="t", quality=quality / 5, service_ms=float(ms))
        for i, (quality, ms) in enumerate(figures)
    ]
    left = without_dominated(sorted(tickets, key=lambda t: (-t.quality, t.service_ms, t.id)))
    beaten = {
        one.id
        for one in tickets
        for other in tickets
        if (other.quality, -other.service_ms) != (one.quality, -one.service_ms)
        and other.quality >= one.quality
        and other.service_ms <= one.service_ms
    }
    assert {(t.quality, t.service_ms) for t in left} == {
        (t.quality, t.service_ms) for t in tickets if t.id not in beaten
    }
    costs = [ticket.service_ms for ticket in left]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == len(costs)
