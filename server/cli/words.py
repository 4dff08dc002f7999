"""How the commands say things: safe texts, sizes, times, tables for people and JSON for programs.

Owns the forms only. Texts that came from elsewhere (labels, reasons, messages) are shown with their control
characters made visible, because a stranger may have written them.
"""

import datetime
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

SHORT = 12
"""Hex digits of a ticket's id that people see; eight are enough to name it."""
_PIPE_WIDTH = 240  # nobody's terminal: what reads a pipe wraps lines itself


def visible(text: str) -> str:
    """``text`` with control characters written as escapes, so that it cannot steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def size(size_bytes: float | None) -> str:
    """Bytes as people read them."""
    if size_bytes is None:
        return "-"
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.3g} {name}"
    return f"{size_bytes:.0f} B"


def moment(seconds: float | None) -> str:
    """A time since 1970, in UTC."""
    if not seconds:
        return "-"
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def number(value: float | None, digits: int = 4) -> str:
    """A measured number, short; ``-`` for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def as_json(document: object) -> None:
    """Print a document for programs."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def console() -> "Console":
    """Where tables and progress go: as wide as the terminal, or wide enough that nothing is cut in a pipe."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else _PIPE_WIDTH, highlight=False, soft_wrap=not terminal)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under column names."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(visible(str(cell))) for cell in row))
    console().print(made)


def facts(rows: Iterable[tuple[str, object]]) -> None:
    """Print a name and a value a line."""
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, Text(visible(str(value))))
    console().print(made)


def settings(values: Mapping[str, Any]) -> str:
    """The settings of a document that are set, in one line."""
    shown = [f"{name} {_setting(name, value)}" for name, value in values.items() if value not in (None, False, {}, [])]
    return ", ".join(shown) or "none"


def _setting(name: str, value: object) -> str:
    if value is True:
        return "yes"
    if isinstance(value, Mapping):
        return " ".join(value)
    if name.endswith("_bytes") and isinstance(value, int):
        return size(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
