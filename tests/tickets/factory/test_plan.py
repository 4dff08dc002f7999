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
    plan = replace(DEFAULT_PLAN, student=replace(DEFAULT_PLAN.student, epochs=24))
    assert plan.student_of(ask).epochs == epochs


def test_a_short_plan_stays_short() -> None:
    """Who asks for one epoch gets one."""
    plan = replace(DEFAULT_PLAN, student=replace(DEFAULT_PLAN.student, epochs=1))
    assert plan.student_of(Ask("accurate", speedup=4)).epochs == 1
