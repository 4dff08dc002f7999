"""The probe: asking a process to show that it can do what it is for.

Owns the conversation: a `wire.Probe` over the process's own socket, and the `wire.Probed` that
comes back. A worker answers through its run thread, by running a ticket; a gateway from the loop
that serves HTTP. A thread that answers pings would say nothing about either. When to ask, and
what silence means, is left to `server.watch`; `tombola probe` asks once, for other supervisors.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import cast

import click

from server import address, wire


class ProbeConnection(asyncio.Protocol):
    """A connection for probes. It remembers what the process says of itself in the meantime."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.holds: set[str] | None = None
        """The tickets a worker has in memory; None: it has not said."""
        self.last: wire.Probed | None = None
        self._reader = wire.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._asked = 0
        self._answered = asyncio.Event()

    @property
    def is_owed(self) -> bool:
        """Whether the process has yet to answer."""
        return not self._answered.is_set() and self._asked > 0

    def ask(self) -> None:
        """Send a probe."""
        assert self._transport is not None
        self._asked += 1
        self._answered.clear()
        self._transport.write(wire.encode_frame([wire.Probe(self._asked)]))

    async def answer(self) -> wire.Probed:
        """Wait for the answer to the last probe. Raises ConnectionResetError when the connection is lost."""
        waits = [asyncio.ensure_future(self._answered.wait()), asyncio.ensure_future(self.lost.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self.last is None or self.is_owed:
            raise ConnectionResetError("it closed the connection")
        return self.last

    def close(self) -> None:
        """Give the connection up."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the process."""
        try:
            messages = self._reader.feed(data)
        except wire.WireError:
            self.close()
            return
        for message in messages:
            match message:
                case wire.Probed():  # to an earlier probe, it shows the same
                    self.last = message
                    self._answered.set()
                case wire.Status():
                    self.holds = set(message.holds)
                case wire.Costs():
                    self.holds = (self.holds or set()) | message.costs.keys()
                case wire.Unloaded():
                    self.holds = (self.holds or set()).difference(message.tickets)
                case _:
                    pass  # its heartbeats are for gateways


async def connect(run_dir: Path, name: str, *, timeout_s: float) -> ProbeConnection:
    """A connection to the process called ``name``. Raises OSError (TimeoutError is one) or AddressError."""
    return await address.connect(address.of_process(run_dir, name), ProbeConnection, timeout_s=timeout_s)


async def probe(run_dir: Path, name: str, *, timeout_s: float) -> wire.Probed:
    """Ask a process once. Raises OSError: TimeoutError where it does not answer in time."""
    async with asyncio.timeout(timeout_s):
        connection = await connect(run_dir, name, timeout_s=timeout_s)
        try:
            connection.ask()
            return await connection.answer()
        finally:
            connection.close()


@click.command("probe", epilog="Example: tombola probe worker-0 --run-dir .tombola/run")
@click.argument("name")
@click.option(
    "--run-dir", envvar="TOMBOLA_RUN_DIR", default=Path(".tombola/run"), show_default=True,
    type=click.Path(path_type=Path), help="Folder of the process's Unix socket: its own --run-dir.",
)  # fmt: skip
@click.option(
    "--timeout-s", default=3.0, show_default=True, type=click.FloatRange(min=0.0, min_open=True),
    help="How long it may take. Longer than any batch: a worker answers between two of them.",
)  # fmt: skip
def command(name: str, run_dir: Path, timeout_s: float) -> None:
    """Ask a worker to run a ticket, or a gateway to answer; exits 1 when it does not.

    For supervisors other than `tombola up`: a liveness check that tells a stuck process from a
    busy one, because the answer takes the way of a request.
    """
    began = time.monotonic()
    try:
        answer = asyncio.run(probe(run_dir, name, timeout_s=timeout_s))
    except (OSError, address.AddressError) as error:
        what = f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else str(error)
        click.echo(f"{name} does not work: {what}", err=True)
        sys.exit(1)
    took_ms = (time.monotonic() - began) * 1000
    did = f"ran ticket {answer.ticket[:12]} in {answer.took_ms:.1f} ms" if answer.ticket else "answered"
    click.echo(f"{answer.process} {did}, {took_ms:.1f} ms from here")
