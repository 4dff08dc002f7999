"""The gate's process ends with whatever happens to it or to who asked, and its end becomes words."""

import asyncio
import os
import signal
from contextlib import aclosing
from pathlib import Path

import msgspec
import psutil
import pytest

from server.gate.report import REFUSAL_OF, Report, Step, Wanted
from server.gate.runner import Gate, GateFailed, checked
from tests.server.gate.bundles import examine_bytes
from tests.server.gate.hostile import slow_bundle
from tests.tiny import tiny_bundle

WANTED = Wanted(tenant="acme", time_limit_s=30.0, memory_limit_bytes=512 << 20)


def gates() -> list[psutil.Process]:
    """The gate's processes that this one has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "server.gate" in process.cmdline():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """An upload whose graph takes far longer to open than any test lasts."""
    path = tmp_path / "slow.part"
    path.write_bytes(slow_bundle(1024, 4000))
    return path


async def test_closing_the_examination_ends_its_process(slow: Path) -> None:
    async with aclosing(Gate().examine(slow, WANTED)) as examination:
        first = await anext(examination)
        assert isinstance(first, Step)
        (process,) = gates()
    assert not process.is_running()


async def test_a_cancelled_examination_ends_its_process(slow: Path) -> None:
    begun = asyncio.Event()

    async def ask() -> None:
        async with aclosing(Gate().examine(slow, WANTED)) as examination:
            async for _ in examination:
                begun.set()

    task = asyncio.create_task(ask())
    await begun.wait()
    (process,) = gates()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not process.is_running()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "no memory left"),
        (signal.SIGSEGV, "crashed (SIGSEGV)"),
        (signal.SIGABRT, "crashed (SIGABRT)"),
        (signal.SIGSYS, "may not make"),
        (signal.SIGXCPU, "processor time"),
    ],
)
async def test_a_process_that_dies_refuses_the_step_it_was_in(slow: Path, number: signal.Signals, words: str) -> None:
    said: list[Step | Report] = []
    async with aclosing(Gate().examine(slow, WANTED)) as examination:
        async for one in examination:
            said.append(one)
            if isinstance(one, Step) and one.name == "manifest":
                (process,) = gates()
                os.kill(process.pid, number)
    *steps, report = said
    assert isinstance(report, Report)
    assert [step.name for step in steps if isinstance(step, Step)] == ["integrity", "signature", "manifest", "graph"]
    assert (report.accepted, report.refusal) == (False, "graph_refused")
    assert report.message.startswith("opening the graph")
    assert words in report.message
    assert len(report.ticket) == 64
    assert (report.domain, report.tier, report.bytes) == ("home", "fast", len(slow_bundle(1024, 4000)))


async def test_an_upload_that_is_not_there_is_no_refusal(tmp_path: Path) -> None:
    examination = Gate().examine(tmp_path / "nothing", WANTED)
    with pytest.raises(GateFailed, match="status 1"):
        await anext(examination)


async def test_many_examinations_run_at_once(tmp_path: Path) -> None:
    folders = [tmp_path / str(i) for i in range(4)]
    for folder in folders:
        folder.mkdir()
    ended = await asyncio.gather(*(examine_bytes(tiny_bundle(quality=0.1 * i), f) for i, f in enumerate(folders, 1)))
    assert [report.quality for _, report in ended] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert len({report.ticket for _, report in ended}) == 4


async def test_the_process_does_not_get_this_ones_secrets(slow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOMBOLA_KEY", "tmb_secret")
    async with aclosing(Gate().examine(slow, WANTED)) as examination:
        await anext(examination)
        (process,) = gates()
        try:
            environment = process.environ()
        except psutil.AccessDenied:  # it is not dumpable, so nobody but root can look
            return
    assert "TOMBOLA_KEY" not in environment


def whole() -> tuple[list[Step], Report]:
    steps = [Step(name=name, status="passed") for name in REFUSAL_OF]
    steps[0] = msgspec.structs.replace(steps[0], facts={"ticket": "a" * 64})
    report = Report(
        ticket="a" * 64, tenant="acme", domain="home", tier="fast", bytes=3, steps=[], accepted=True, quality=0.9
    )
    return steps, report


def test_a_report_gets_the_steps_that_were_seen() -> None:
    steps, report = whole()
    assert checked(report, steps, WANTED).steps == steps


@pytest.mark.parametrize("lie", [{"ticket": "b" * 64}, {"tenant": "other"}, {"accepted": False}])
def test_a_report_that_does_not_agree_with_its_steps_is_not_believed(lie: dict[str, str]) -> None:
    steps, report = whole()
    with pytest.raises(GateFailed):
        checked(msgspec.structs.replace(report, **lie), steps, WANTED)


def test_acceptance_after_a_refused_or_a_missing_step_is_not_believed() -> None:
    steps, report = whole()
    with pytest.raises(GateFailed):
        checked(report, steps[:-1], WANTED)
    refused = msgspec.structs.replace(steps[1], status="refused")
    with pytest.raises(GateFailed):
        checked(report, [steps[0], refused, *steps[2:]], WANTED)
