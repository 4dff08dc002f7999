"""Deadlines that share a timer end blocks as `asyncio.timeout` does."""

import asyncio

import pytest

from server.deadlines import MIN_KEPT, Deadlines


async def wait(deadlines: Deadlines, seconds: float, event: asyncio.Event | None = None) -> str:
    """Say late where the deadline passes before the event."""
    try:
        with deadlines.within(seconds):
            await (event or asyncio.Event()).wait()
    except TimeoutError:
        return "late"
    return "done"


async def test_a_block_that_takes_too_long_ends_in_a_timeout_and_others_go_on() -> None:
    deadlines, event = Deadlines(), asyncio.Event()
    slow = asyncio.create_task(wait(deadlines, 3600.0, event))
    assert await wait(deadlines, 0.01) == "late"
    assert not slow.done()
    event.set()
    assert await slow == "done"


async def test_deadlines_pass_in_their_order_whatever_the_order_they_came_in() -> None:
    deadlines = Deadlines()
    ended: list[float] = []

    async def one(seconds: float) -> None:
        await wait(deadlines, seconds)
        ended.append(seconds)

    await asyncio.gather(*(one(seconds) for seconds in (0.09, 0.01, 0.05, 0.03, 0.07)))
    assert ended == sorted(ended)


async def test_a_deadline_that_has_passed_already_ends_the_block_at_its_first_wait() -> None:
    assert await wait(Deadlines(), -1.0) == "late"


async def test_a_cancellation_by_somebody_else_stays_one() -> None:
    task = asyncio.create_task(wait(Deadlines(), 3600.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_both_at_once_are_a_cancellation() -> None:
    """As with `asyncio.timeout`: who cancels a task must not be answered with a timeout."""
    deadlines = Deadlines()
    started = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def body() -> None:
        with deadlines.within(0.01):
            try:
                started.set()
                await asyncio.Event().wait()
            finally:
                tasks[0].cancel()
                await asyncio.sleep(0)

    tasks.append(asyncio.create_task(body()))
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


async def test_deadlines_nest_and_the_inner_one_leaves_the_task_usable() -> None:
    deadlines = Deadlines()
    with deadlines.within(3600.0):
        assert await wait(deadlines, 0.01) == "late"
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_error_of_the_block_is_its_own() -> None:
    with pytest.raises(ZeroDivisionError), Deadlines().within(3600.0):
        raise ZeroDivisionError


async def test_long_deadlines_that_ended_early_do_not_pile_up() -> None:
    deadlines, event = Deadlines(), asyncio.Event()
    event.set()
    for _ in range(10 * MIN_KEPT):
        assert await wait(deadlines, 3600.0, event) == "done"
    assert len(deadlines) <= MIN_KEPT + 2


async def test_a_thousand_waiters_are_all_let_go() -> None:
    deadlines = Deadlines()
    results = await asyncio.gather(*(wait(deadlines, 0.001 * (i % 7)) for i in range(1000)))
    assert set(results) == {"late"}
    assert len(deadlines) == 0
