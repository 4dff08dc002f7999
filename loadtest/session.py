"""One `tombola load run` at a terminal: progress bar, Ctrl-C, the files to write, the exit status.

The shell around `loadtest.run` and `loadtest.search`, which do the work and know no terminal.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from loadtest import show
from loadtest.plot import plot
from loadtest.record import Record, Run, write_raw
from loadtest.report import Report, Sla, reduce_run
from loadtest.run import Plan, PreflightError, run_load, run_on_loop
from loadtest.schedule import Step
from loadtest.search import Found, HttpTrials, find_max_rate
from loadtest.send import Sender
from loadtest.workload import Workload

EXIT_INVALID = 1
EXIT_CANNOT_BEGIN = 2
EXIT_INTERRUPTED = 130


class Session:
    """Runs one load or one search and reports it on standard output; progress goes to standard error."""

    def __init__(
        self, plan: Plan, workload: Workload, sla: Sla, *, max_lateness_ms: float, raw_path: Path | None = None
    ) -> None:
        self.json_path: Path | None = None
        self.plot_path: Path | None = None
        self._raw_path = raw_path
        self._plan = plan
        self._workload = workload
        self._sla = sla
        self._max_lateness_ms = max_lateness_ms
        self._stop = asyncio.Event()
        self._console = Console()
        # Drawn by hand, once a second: rich's own thread would compete with the sender for the interpreter.
        self._progress = Progress(
            *(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[state]}")),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._bar = self._progress.add_task("connecting", total=None, state="")

    def load(self) -> int:
        """Make the load and report it; returns the exit status."""
        return self._guarded(self._load)

    def search(self, limit_ms: float) -> int:
        """Search for the highest rate within ``limit_ms`` and report it; returns the exit status."""

        async def search() -> int:
            return await self._search(limit_ms)

        return self._guarded(search)

    def _guarded(self, work: Callable[[], Awaitable[int]]) -> int:
        try:
            with self._progress:
                return run_on_loop(work)
        except PreflightError as error:
            click.echo(f"Error: {error}", err=True)
            return EXIT_CANNOT_BEGIN
        except OSError as error:
            click.echo(f"Error: cannot write: {error}", err=True)
            return EXIT_CANNOT_BEGIN

    async def _load(self) -> int:
        self._stop_on_interrupt()
        run, records = await run_load(self._plan, self._workload, stop=self._stop, watch=self._watch)
        self._progress.stop()
        report = reduce_run(run, records, self._sla, max_lateness_ms=self._max_lateness_ms)
        self._keep(run, records, report, None)
        return EXIT_INTERRUPTED if run.interrupted else 0 if report.valid else EXIT_INVALID

    async def _search(self, limit_ms: float) -> int:
        self._stop_on_interrupt()
        trials = HttpTrials(
            *(self._plan, self._workload, self._sla),
            limit_ms=limit_ms,
            max_lateness_ms=self._max_lateness_ms,
            stop=self._stop,
            watch=self._watch,
            on_trial=lambda trial: self._console.print(
                show.trial_line(trial, limit_ms), highlight=False, soft_wrap=True
            ),
        )
        start_per_s = self._plan.steps[0].rate_per_s
        found = await find_max_rate(trials, limit_ms=limit_ms, start_per_s=start_per_s, stop=self._stop)
        self._progress.stop()
        if trials.best is not None:
            self._keep(*trials.best, found)
        show.show_found(self._console, found)
        return EXIT_INTERRUPTED if self._stop.is_set() else 0 if found.best else EXIT_INVALID

    def _keep(self, run: Run, records: Sequence[Record], report: Report, found: Found | None) -> None:
        """Print the report and write the files that were asked for."""
        show.show_report(self._console, report)
        if self._raw_path:
            write_raw(self._raw_path, run, records)
        if self.json_path:
            document = msgspec.to_builtins(report)
            if found is not None:
                document["search"] = msgspec.to_builtins(found)
            self.json_path.write_bytes(msgspec.json.format(msgspec.json.encode(document)))
        if self.plot_path:
            plot(report, records, self.plot_path)

    def _stop_on_interrupt(self) -> None:
        """The first Ctrl-C ends the load and reports it; the second one ends the program."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            loop.remove_signal_handler(signal.SIGINT)
            self._stop.set()

        loop.add_signal_handler(signal.SIGINT, stop)

    def _watch(self, sender: Sender, step: Step) -> None:
        self._progress.update(
            self._bar,
            description=f"{step.rate_per_s:g}/s",
            total=step.end_s,
            completed=min(sender.elapsed_s, step.end_s),
            state=f"{sender.fired} sent, {sender.owed} under way",
            refresh=True,
        )
