"""server.control and `tombola restart`: orders to a running `up`, over its socket."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.control import OrderFailed, Say, control_file, give, serving
from server.restart import command
from server.state import run_directory

WAIT_S = 30.0


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="control-") as name:  # short, for sockets
        yield Path(name)


async def test_an_order_is_carried_out_and_tells_how_it_goes(run_dir: Path) -> None:
    async def greet(say: Say) -> None:
        say("one")
        await asyncio.sleep(0)
        say("two")

    heard: list[str] = []
    async with serving(control_file(run_dir), {"greet": greet}):
        await asyncio.wait_for(give(control_file(run_dir), "greet", heard.append), WAIT_S)
        assert control_file(run_dir).stat().st_mode & 0o077 == 0
    assert heard == ["one", "two"]
    assert not control_file(run_dir).exists()


async def refuse(say: Say) -> None:
    raise OrderFailed("not today")


@pytest.mark.parametrize(("order", "says"), [("refuse", "not today"), ("dance", "no order 'dance'")])
async def test_an_order_that_cannot_be_carried_out_says_why(run_dir: Path, order: str, says: str) -> None:
    async with serving(control_file(run_dir), {"refuse": refuse}):
        with pytest.raises(OrderFailed, match=says):
            await asyncio.wait_for(give(control_file(run_dir), order, lambda _: None), WAIT_S)


@pytest.mark.parametrize("line", [b"hello\n", b'{"order": 3}\n', b"x" * 100_000 + b"\n", b""])
async def test_what_is_no_order_is_answered_and_harms_nobody(run_dir: Path, line: bytes) -> None:
    async with serving(control_file(run_dir), {"refuse": refuse}):
        reader, writer = await asyncio.open_unix_connection(control_file(run_dir))
        writer.write(line)
        writer.write_eof()
        assert b'"error":"this is no order' in await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
        with pytest.raises(OrderFailed, match="not today"):
            await asyncio.wait_for(give(control_file(run_dir), "refuse", lambda _: None), WAIT_S)


async def test_whoever_asked_and_left_does_not_stop_the_work(run_dir: Path) -> None:
    begun, may_end, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(say: Say) -> None:
        begun.set()
        await may_end.wait()
        say("still at it")
        done.set()

    async with serving(control_file(run_dir), {"work": work}):
        asking = asyncio.create_task(give(control_file(run_dir), "work", lambda _: None))
        await asyncio.wait_for(begun.wait(), WAIT_S)
        asking.cancel()
        await asyncio.wait([asking], timeout=WAIT_S)
        may_end.set()
        await asyncio.wait_for(done.wait(), WAIT_S)


async def test_the_end_of_up_is_told_to_whoever_waits(run_dir: Path) -> None:
    begun = asyncio.Event()

    async def work(say: Say) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with serving(control_file(run_dir), {"work": work}):
        asking = asyncio.create_task(give(control_file(run_dir), "work", lambda _: None))
        await asyncio.wait_for(begun.wait(), WAIT_S)
    with pytest.raises(OrderFailed, match="ended before it was done"):
        await asyncio.wait_for(asking, WAIT_S)


def run_command(state: Path, orders: dict[str, Callable[[Say], Awaitable[None]]]) -> tuple[int, str]:
    """`tombola restart` against an `up` that takes these orders."""

    async def both() -> tuple[int, str]:
        path = control_file(run_directory(state))
        path.parent.mkdir()
        async with serving(path, orders):
            result = await asyncio.to_thread(CliRunner().invoke, command, ["--state", str(state)])
            return result.exit_code, result.output

    return asyncio.run(both())


def test_the_command_shows_what_is_done(run_dir: Path) -> None:
    async def restart(say: Say) -> None:
        say("worker-0.1 has replaced worker-0")

    assert run_command(run_dir, {"restart": restart}) == (0, "worker-0.1 has replaced worker-0\n")


def test_the_command_fails_where_the_restart_does(run_dir: Path) -> None:
    assert run_command(run_dir, {"restart": refuse}) == (1, "Error: not today\n")


def test_the_command_says_where_nothing_runs(run_dir: Path) -> None:
    result = CliRunner().invoke(command, ["--state", str(run_dir / "nowhere")])
    assert result.exit_code == 2
    assert "no `tombola up` is running on the state directory" in result.output
