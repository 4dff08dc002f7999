"""One tenant's changes are paced; nobody else's are."""

import pytest

from server.admin.pace import CHANGES_AT_ONCE, Pace
from server.errors import RateLimited


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_so_many_at_once_and_then_one_a_second() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(CHANGES_AT_ONCE):
        pace.take("acme")
    with pytest.raises(RateLimited, match="too fast") as refused:
        pace.take("acme")
    assert refused.value.retry_after_s == pytest.approx(1.0)
    clock.now = 2.0
    pace.take("acme")
    pace.take("acme")
    with pytest.raises(RateLimited):
        pace.take("acme")


def test_another_tenant_is_not_held_up_by_it() -> None:
    pace = Pace(Clock())
    for _ in range(CHANGES_AT_ONCE):
        pace.take("acme")
    pace.take("rival")


def test_a_tenant_at_rest_has_its_whole_allowance_again_and_is_forgotten() -> None:
    clock = Clock()
    pace = Pace(clock)
    for number in range(50):
        pace.take(f"t{number}")
    clock.now = CHANGES_AT_ONCE + 1.0
    for _ in range(CHANGES_AT_ONCE):
        pace.take("t0")
    assert set(pace._left) == {"t0"}
