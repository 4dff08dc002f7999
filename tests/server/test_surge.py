"""The surge: what could not be looked at in time is refused, and only that."""

import asyncio

from server.surge import FIRST_COST_S, SHARE, Surge


async def test_a_turn_admits_what_half_a_usual_deadline_holds() -> None:
    """At 100 us each, ten milliseconds hold a hundred requests; the next turn begins anew."""
    refused: list[int] = []
    surge = Surge(lambda: 20.0, lambda: refused.append(1))
    held = round(SHARE * 20.0 / 1000 / FIRST_COST_S)
    admitted = sum(surge.admit() for _ in range(3 * held))
    assert held <= admitted <= held + 1
    assert len(refused) == 3 * held - admitted
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert surge.admit()


async def test_nobody_is_refused_where_nobody_is_in_a_hurry() -> None:
    surge = Surge(lambda: 1000.0)
    assert all(surge.admit() for _ in range(4000))


async def test_a_gateway_that_turns_out_slow_admits_fewer() -> None:
    surge = Surge(lambda: 20.0)
    before = sum(surge.admit() for _ in range(1000))
    for _ in range(20):  # turns that take a second
        surge._learn(10, asyncio.get_running_loop().time() - 1.0)
    await asyncio.sleep(0)
    assert sum(surge.admit() for _ in range(1000)) < before / 10
