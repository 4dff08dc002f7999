"""What can go wrong with Redis, in our words, and how long anything may take.

Everything that talks to Redis does so inside `bounded` (or `translated`, where something else bounds the time), so
that callers meet these errors only, never redis-py's. No message holds a URL, a user or a password.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import MovedError, RedisClusterException, RedisError, ResponseError

OPERATION_S = 5.0
"""The longest that one operation of the store takes, all connections, look-ups and second tries included."""


class StoreUnavailable(Exception):
    """Redis cannot be reached, or refuses to work; trying again later may help."""


class StoreTooNew(StoreUnavailable):
    """Redis holds a layout of a later release: this program must not touch it."""


class StoreCorrupt(Exception):
    """What Redis holds under our names is not ours to understand; publishing again replaces it."""


class VersionConflict(Exception):
    """Somebody else has changed ``what`` meanwhile. ``current`` is the version that now stands (0: none does)."""

    def __init__(self, expected: int, current: int, what: str = "the table") -> None:
        super().__init__(f"{what} is at version {current}, not {expected}: somebody has published meanwhile")
        self.expected, self.current, self.what = expected, current, what


@contextmanager
def translated() -> Iterator[None]:
    """Turn what redis-py raises into this file's errors."""
    try:
        yield
    except MovedError as error:
        raise StoreUnavailable("Redis refuses: it is a node of a cluster, so name it as redis+cluster://") from error
    except ResponseError as error:
        if "WRONGTYPE" in str(error):
            raise StoreCorrupt("something else stands in Redis under the table's name: publish it again") from error
        raise StoreUnavailable(f"Redis refuses: {error}") from error
    except TimeoutError as error:
        raise StoreUnavailable("Redis cannot be reached: it does not answer in time") from error
    except MasterNotFoundError as error:  # its text holds what redis-py makes of every Sentinel's connection
        raise StoreUnavailable("Redis cannot be reached: no Sentinel that answers knows a primary") from error
    except (RedisError, RedisClusterException, OSError) as error:
        raise StoreUnavailable(f"Redis cannot be reached: {error}") from error


@asynccontextmanager
async def bounded(limit_s: float = OPERATION_S) -> AsyncIterator[None]:
    """One operation: as `translated`, and given up after ``limit_s`` seconds as StoreUnavailable."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    with translated():
        async with asyncio.timeout(limit_s):
            yield
    # redis-py writes through asyncio.wait_for, which in Python 3.11 loses a cancellation that comes just as it ends
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
