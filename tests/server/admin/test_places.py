"""Seats and places at the gate: bounded, in order, and shared fairly between tenants."""

import asyncio

import pytest

from server.admin.places import Places
from server.errors import Overloaded


async def test_seats_are_bounded_by_tenant_and_in_all() -> None:
    places = Places(seats=2, seats_each=1)
    with places.seat("a"):
        with pytest.raises(Overloaded), places.seat("a"):
            pass
        with places.seat("b"), pytest.raises(Overloaded), places.seat("c"):
            pass
        with places.seat("c"):
            pass
    with places.seat("a"):
        pass


async def test_a_place_that_is_left_goes_to_the_next() -> None:
    places, order = Places(gates=1), []

    async def one(name: str) -> None:
        async with places.gate(name):
            order.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(*(one(name) for name in "abc"))
    assert order == ["a", "b", "c"]


async def test_a_tenant_that_has_its_part_is_passed_by_others() -> None:
    places, inside, leave = Places(gates=2, gates_each=1), [], asyncio.Event()

    async def one(name: str) -> None:
        async with places.gate(name):
            inside.append(name)
            await leave.wait()

    tasks = [asyncio.create_task(one(name)) for name in "aab"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(inside) == ["a", "b"]
    leave.set()
    await asyncio.gather(*tasks)


async def test_who_waits_too_long_is_told_to_come_again_and_holds_nothing() -> None:
    places = Places(gates=1)
    async with places.gate("a"):
        with pytest.raises(Overloaded):
            async with places.gate("b", wait_s=0.01):
                pass
    async with places.gate("b", wait_s=0.01):
        pass


async def test_who_goes_away_while_waiting_holds_nothing() -> None:
    places = Places(gates=1)

    async def one() -> None:
        async with places.gate("b"):
            pass

    async with places.gate("a"):
        task = asyncio.create_task(one())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with places.gate("c", wait_s=0.01):
        pass


async def test_who_goes_away_just_as_its_turn_comes_passes_it_on() -> None:
    places = Places(gates=1)
    first = places.gate("a")
    await first.__aenter__()

    async def one() -> None:
        async with places.gate("b"):
            pass

    task = asyncio.create_task(one())
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with places.gate("c", wait_s=0.01):
        pass
