"""Progress of a registration: bytes as they leave, the gate's steps as they come.

Owns the look of it: a bar and a spinner on a terminal, plain lines elsewhere, nothing at all where a program reads.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

import click
from rich.progress import wrap_file
from rich.status import Status
from rich.text import Text

from server.cli import words

BAR_BYTES = 4 << 20
"""Uploads from this size on are worth a bar."""
_MARKS = {"passed": ("ok     ", "green"), "refused": ("REFUSED", "red"), "skipped": ("skipped", "yellow")}


class Progress:
    """What a person sees while a ticket is registered. A context: it tidies the terminal at its end."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._is_live = not is_quiet and sys.stdout.isatty()
        self._console = words.console()
        self._spinner: Status | None = None
        self._has_bar = False
        self._stack = ExitStack()
        self._said: set[str] = set()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def sending(self, file: BinaryIO, size_bytes: int) -> Iterator[BinaryIO]:
        """``file``, shown as it is read."""
        if not self._is_live or size_bytes < BAR_BYTES:
            self._wait()
            yield file
            return
        self._has_bar = True  # it stays until the gate has ended; two live displays do not go together
        with wrap_file(file, size_bytes, description="sending", transient=True, console=self._console) as watched:
            yield watched

    def step(self, step: Mapping[str, Any]) -> None:
        """Say how a step ended."""
        self._said.add(str(step.get("name")))
        if self._is_quiet:
            return
        mark, colour = _MARKS.get(str(step.get("status")), ("?      ", "white"))
        name, detail = words.visible(str(step.get("name"))), words.visible(str(step.get("detail") or ""))
        line = f"{mark}  {name:<10} {float(step.get('ms') or 0.0):>7.0f} ms  {detail}".rstrip()
        if self._is_live:  # through the console that has the spinner: it knows how to go round it
            self._console.print(Text(line, style=colour), soft_wrap=True)
            self._wait()
        else:
            click.echo(line)

    def refused(self, report: Mapping[str, Any]) -> None:
        """Say the steps of a report that were not said as they came: the one that refused, above all."""
        for step in report.get("steps") or []:
            if step.get("name") not in self._said:
                self.step(step)

    def _wait(self) -> None:
        """Show that the gate is at work."""
        if not self._is_live or self._has_bar or self._spinner is not None:
            return
        self._spinner = self._console.status("the gate is at work")
        self._stack.enter_context(self._spinner)
