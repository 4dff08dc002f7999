"""What can go wrong with Redis, in our words. Everything that talks to it does so inside `translated`."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError, ResponseError


class StoreUnavailable(Exception):
    """Redis cannot be reached, or refuses to work; trying again later may help."""


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
    except ResponseError as error:
        if "WRONGTYPE" in str(error):
            raise StoreCorrupt("something else stands in Redis under the table's name: publish it again") from error
        raise StoreUnavailable(f"Redis refuses: {error}") from error
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"Redis cannot be reached: {error}") from error
