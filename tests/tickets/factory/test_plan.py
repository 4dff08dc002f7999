"""The plan: how long each tier's child is trained."""

from dataclasses import replace

import pytest

from tickets.factory.plan import DEFAULT_PLAN, Ask
from tickets.factory.shrink import Target


@pytest.mark.parametrize(
    ("ask", "epochs"),
    [
        (Ask("dense", speedup=1), 3), (Ask("accurate", speedup=4), 3), (Ask("balanced", speedup=8), 6),
        (Ask("fast", speedup=16), 12), (Ask("instant", speedup=32), 24), (Ask("atom", speedup=64), 24),
        (Ask("timed", budget_ms=1.0), 24), (Ask("given", target=Target(1, 3, 64)), 24),
    ],
)  # fmt: skip
def test_slow_tiers_have_fewer_epochs(ask: Ask, epochs: int) -> None:
    """In proportion to their speed, never fewer than three, and only where a speed was asked for."""
    recipe = replace(DEFAULT_PLAN.student, epochs=24)
    plan = replace(DEFAULT_PLAN, student=recipe, fastest=recipe)
    assert plan.student_of(ask).epochs == epochs


@pytest.mark.parametrize(
    ("ask", "weight"),
    [(Ask("fast", speedup=31), 10.0), (Ask("instant", speedup=32), 1.0), (Ask("given", target=Target(1, 3, 64)), 10.0)],
)
def test_the_fastest_tiers_follow_the_sentence_vector_less(ask: Ask, weight: float) -> None:
    assert DEFAULT_PLAN.student_of(ask).vector_weight == weight


def test_a_short_plan_stays_short() -> None:
    """Who asks for one epoch gets one."""
    plan = replace(DEFAULT_PLAN, student=replace(DEFAULT_PLAN.student, epochs=1))
    assert plan.student_of(Ask("accurate", speedup=4)).epochs == 1


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (Ask("balanced", speedup=7.7), ""),
        (Ask("balanced", speedup=8), "speed: 6.9x, asked for 8x"),
        (Ask("timed", budget_ms=1.4), ""),
        (Ask("timed", budget_ms=1.2), "speed: 1.5 ms a batch, asked for 1.2 ms"),
        (Ask("given", target=Target(1, 3, 64)), ""),
    ],
)
def test_a_ticket_slower_than_its_tier_asks_for_says_so(ask: Ask, told: str) -> None:
    """A tenth is the machine's noise; more is a promise that was not kept."""
    assert ask.missed(speedup=6.94, batch_ms=1.5) == told
