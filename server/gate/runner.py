"""The gate as the gateway sees it: one bundle examined in a process of its own, step by step.

Owns the child process: starting it, reading what it says, its time limit, and its end whatever happens. It
imports nothing that opens graphs: a bundle never meets this process's memory. What the child does is
`server.gate.examination`'s; how many run at once is the caller's.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import msgspec

from server.gate.report import REFUSAL_OF, Order, Report, Step, StepName, Wanted

MAX_LINE_BYTES = 4 << 20
MAX_ERROR_BYTES = 16 << 10
"""Of what the child says on its error output: its last part is kept."""
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "SYSTEMROOT", "VIRTUAL_ENV")
_SET = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
_DOING: dict[StepName, str] = {
    "integrity": "reading the bundle",
    "signature": "checking the signature",
    "manifest": "reading the manifest, the graph and the tokenizer",
    "graph": "opening the graph",
    "samples": "answering the samples",
    "profile": "timing the graph",
    "evidence": "answering the evidence set",
    "policy": "applying the policy",
}
_ORDER = tuple(REFUSAL_OF)
_OUT_OF_MEMORY = (b"bad_alloc", b"memory allocation of", b"MemoryError")


class GateFailed(Exception):
    """The gate itself could not work (it did not start, say); nothing has been found out about the bundle."""


class _Line(msgspec.Struct, frozen=True):
    """A line of the child's: one of the two."""

    step: Step | None = None
    report: Report | None = None


class Gate:
    """Examines bundles. Any number of examinations may run at once; each is a process."""

    async def examine(self, path: Path, wanted: Wanted) -> AsyncGenerator[Step | Report, None]:
        """Each step as it ends, then the report, which is always the last and never missing.

        A refusal is a report with ``accepted`` false. Closing the generator ends the child, and so should be
        done for certain (`contextlib.aclosing`). Raises GateFailed where nothing could be found out.
        """
        child = await _start()
        steps: list[Step] = []
        try:
            errors = asyncio.ensure_future(_last_of(child))
            try:
                async with asyncio.timeout(wanted.time_limit_s):
                    assert child.stdin is not None
                    with contextlib.suppress(ConnectionError):
                        child.stdin.write(msgspec.json.encode(Order(path=str(path), wanted=wanted)))
                        await child.stdin.drain()
                        child.stdin.close()
                    async for said in _said(child):
                        if isinstance(said, Report):
                            yield checked(said, steps, wanted)
                            return
                        if len(steps) < len(_ORDER) and said.name == _ORDER[len(steps)]:
                            steps.append(said)
                            yield said
                    returncode = await child.wait()
                    why = _why(returncode, await errors, wanted, steps)
            except TimeoutError:
                why = f"took more than {wanted.time_limit_s:g} s"
            except ValueError as error:  # a line without end, or one that is not of our form
                raise GateFailed(f"the gate's process said what it should not: {error}") from error
            finally:
                errors.cancel()
            for last in _ended(steps, why, wanted):
                yield last
        finally:
            await _end(child)


async def _start() -> Process:
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | _SET
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "server.gate",
            stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, start_new_session=True, limit=MAX_LINE_BYTES,
        )  # fmt: skip
    except OSError as error:
        raise GateFailed(f"the gate's process does not start: {error}") from error


async def _said(child: Process) -> AsyncIterator[Step | Report]:
    """The child's lines, until it ends. Raises ValueError for what is none."""
    assert child.stdout is not None
    while line := await child.stdout.readline():
        found = msgspec.json.decode(line, type=_Line)
        said = found.step or found.report
        if said is None:
            raise ValueError("a line without a step or a report")
        yield said


async def _last_of(child: Process) -> bytes:
    """The end of the child's error output, read all along so that the child never waits for it."""
    assert child.stderr is not None
    kept = b""
    while data := await child.stderr.read(1 << 14):
        kept = (kept + data)[-MAX_ERROR_BYTES:]
    return kept


async def _end(child: Process) -> None:
    """Kill the child and whatever it may have started; returns when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    await asyncio.shield(child.wait())


def checked(report: Report, steps: list[Step], wanted: Wanted) -> Report:
    """The report with the steps that were seen: those said before the graph was run cannot be taken back.

    Raises GateFailed where the two do not agree.
    """
    ticket = steps[0].facts.get("ticket", "") if steps else ""
    refused = [step for step in steps if step.status == "refused"]
    is_whole = len(steps) == len(_ORDER) and not refused
    if report.accepted != is_whole or report.ticket != ticket or report.tenant != wanted.tenant:
        raise GateFailed("the gate's report does not agree with its steps")
    return msgspec.structs.replace(report, steps=list(steps))


def _why(returncode: int, errors: bytes, wanted: Wanted, steps: list[Step]) -> str:
    """How a child ended that gave no report. Raises GateFailed where that is no doing of the bundle's."""
    if any(sign in errors for sign in _OUT_OF_MEMORY):
        return f"used more than {wanted.memory_limit_bytes >> 20} MiB"
    if returncode >= 0:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["(nothing)"]
        raise GateFailed(f"the gate's process ended with status {returncode} after {len(steps)} steps: {last[0][:500]}")
    if -returncode == signal.SIGXCPU:
        return f"used more than {wanted.time_limit_s:g} s of processor time"
    if -returncode == signal.SIGKILL:
        return "was ended by the system, most likely because the machine had no memory left"
    if -returncode == signal.SIGSYS:
        return "made a system call that it may not make"
    with contextlib.suppress(ValueError):
        return f"crashed ({signal.Signals(-returncode).name})"
    return f"crashed (signal {-returncode})"


def _ended(steps: list[Step], why: str, wanted: Wanted) -> list[Step | Report]:
    """The step that the child was in, refused, and the report that the child could not give."""
    name = _ORDER[min(len(steps), len(_ORDER) - 1)]
    facts = {key: value for step in steps for key, value in step.facts.items()}
    step = Step(name=name, status="refused", detail=f"{_DOING[name]} {why}")
    report = Report(
        ticket=str(facts.get("ticket", "")),
        tenant=wanted.tenant,
        domain=wanted.domain or str(facts.get("domain", "")),
        tier=wanted.tier or str(facts.get("tier", "")),
        bytes=int(facts.get("bytes", 0)),
        steps=[*steps, step],
        accepted=False,
        refusal=REFUSAL_OF[name],
        message=step.detail,
        at=round(time.time(), 3),
    )
    return [step, report]
