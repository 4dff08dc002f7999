"""How the store's operations end: in time, in our words, and at once when they are cancelled."""

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, ResponseError

from routing.redis.errors import StoreCorrupt, StoreUnavailable, bounded, translated


@pytest.mark.parametrize(
    ("raised", "ours", "text"),
    [
        (ResponseError("WRONGTYPE Operation against a key"), StoreCorrupt, "something else stands"),
        (ResponseError("OOM command not allowed"), StoreUnavailable, "Redis refuses: OOM"),
        (RedisConnectionError("Error 111"), StoreUnavailable, "cannot be reached: Error 111"),
        (RedisClusterException("cannot be connected"), StoreUnavailable, "cannot be reached"),
        (ConnectionResetError("reset"), StoreUnavailable, "cannot be reached: reset"),
        (TimeoutError(), StoreUnavailable, "does not answer in time"),
    ],
)
def test_each_error_is_told_in_our_words(raised: Exception, ours: type[Exception], text: str) -> None:
    with pytest.raises(ours, match=text), translated():
        raise raised


async def test_an_operation_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(StoreUnavailable, match="in time"):
        async with bounded(0.0):
            await asyncio.Event().wait()


async def test_a_cancellation_is_never_lost() -> None:
    """`asyncio.wait_for` of Python 3.11, through which redis-py writes, loses one that comes just as it ends."""
    written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    went_on = False

    async def operate() -> None:
        nonlocal went_on
        async with bounded():
            await asyncio.wait_for(written, 60.0)
        went_on = True

    task = asyncio.create_task(operate())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    written.set_result(None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not went_on
