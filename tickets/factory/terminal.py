"""What the factory's commands share: refusals as one sentence, progress bars, the run's record.

Owns how bad input, a full disk and Ctrl-C are told to the person who typed the command.
"""

import errno
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tickets.bundle import BundleError
from tickets.factory.backbone import BackboneError
from tickets.factory.family import View
from tickets.factory.proof import ProofError
from tickets.factory.record import Record
from tickets.factory.rows import DataError
from tickets.factory.runs import Runs


class Refused(click.ClickException):
    """The command's input cannot be used; nothing was changed."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run that is being recorded: put its result into ``document``."""

    id: str
    folder: Path
    document: dict[str, Any]


@contextmanager
def refusing() -> Iterator[None]:
    """Tell what is wrong in one sentence, and end with status 2; with 130 where somebody pressed Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopped; the same command goes on from here", err=True)
        raise SystemExit(130) from None
    except torch.OutOfMemoryError as error:
        raise Refused(
            "the GPU's memory is full. Nothing is lost: the same command goes on from here once others use less of it; "
            f"or train elsewhere, with --device cpu or cuda:N. PyTorch says: {str(error).partition('. ')[0]}"
        ) from error
    except (DataError, BackboneError, BundleError, ProofError, ValueError) as error:
        raise Refused(str(error)) from error
    except OSError as error:
        told = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        if error.errno == errno.ENOSPC:
            told += ". Nothing is lost: make room, and the same command goes on from here"
        raise Refused(told) from error


@contextmanager
def recorded(runs: Runs, kind: str, name: str, description: Mapping[str, Any]) -> Iterator[Recorded]:
    """A record of this run, from its beginning on; what the block puts into its document is the run's result."""
    record = Record.begin(runs.root, kind, name, dict(description), shlex.join(["tombola", *sys.argv[1:]]))
    result: dict[str, Any] = {}
    try:
        yield Recorded(record.id, record.folder, result)
    except KeyboardInterrupt:
        record.interrupt()
        raise
    except BaseException as error:
        record.fail(str(error) or type(error).__name__)
        raise
    record.finish(result, [stage.described() for stage in runs.used])


@contextmanager
def progress_view(console: Console) -> Iterator[View]:
    """Bars for long steps; announcements between them."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn(), TextColumn("loss {task.fields[loss]:.3f}"))  # fmt: skip
    with Progress(*columns, console=console) as bars:

        def progress(title: str) -> Callable[[int, int, float], None]:
            task = bars.add_task(title, loss=0.0, total=None)
            return lambda done, total, loss: bars.update(task, completed=done, total=total, loss=loss)

        yield View(announce=bars.console.print, progress=progress)


def runs_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--runs``, the same for all commands."""
    return click.option(
        "--runs", "runs_dir", type=click.Path(file_okay=False, path_type=Path), default=Path(".runs"),
        show_default=True, help="Folder of resumable stages and records: run the same command again to go on.",
    )(function)  # fmt: skip


def tracker_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--tracker``, the same for all commands that find something; see `sender`."""
    return click.option(
        "--tracker", help="Log the finished run elsewhere too, e.g. mlflow:http://127.0.0.1:5000."
    )(function)  # fmt: skip


def sender(tracker: str | None) -> Callable[[Path], object]:
    """What sends a finished run's record to the tracker, if one is asked for. It is asked once before the run.

    Raises tracker.TrackerError.
    """
    if tracker is None:
        return lambda folder: None
    from tickets.factory.tracker import sink  # it draws pages: loaded only when asked for

    return sink(tracker).log
