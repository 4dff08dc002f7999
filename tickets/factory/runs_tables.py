"""Tables of runs for the terminal: the list, one run, several side by side. Text of records is never read as markup."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tickets.factory.comparison import Comparison, Field, Result
from tickets.factory.numbers import Number, flat, headline, number, numbers_of
from tickets.factory.pages.words import NONE, clipped, duration
from tickets.factory.record import RunRecord

STYLES = {"done": "green", "running": "yellow", "failed": "red", "interrupted": "red"}


def listing_table(records: Iterable[RunRecord]) -> Table:
    """A row per run."""
    table = Table("run", "kind", "when", "status", "took", "result", box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    for record in records:
        table.add_row(
            Text(record.id), Text(record.kind), _when(record.started_at),
            Text(record.status, style=STYLES[record.status]), duration(record.seconds) if record.seconds else NONE,
            Text(headline(record)),
        )  # fmt: skip
    return table


def shown(record: RunRecord) -> Iterator[RenderableType]:
    """One run: head, description, stages, numbers."""
    yield Text.assemble((record.id, "bold"), "  ", (record.status, STYLES[record.status]), f"  {headline(record)}")
    yield Text(record.command, style="dim")
    if record.error:
        yield Text(record.error, style="red")
    yield ""
    yield _pairs("description", flat(record.description))
    yield _pairs("ran on", flat(record.host) | {"started": record.started_at, "took": duration(record.seconds)})
    if record.stages:
        yield _stages(record)
    numbers = numbers_of(record)
    if numbers:
        table = _table("number", "value", "interval")
        for one in numbers:
            table.add_row(Text(_name(one.name, one.step)), _value(one), _interval(one))
        yield table


def comparison_tables(comparison: Comparison, *, everything: bool = False) -> Iterator[RenderableType]:
    """What was asked, what it ran on, what was found: only what differs, or of the numbers ``everything``."""
    letters = [chr(ord("A") + i % 26) for i in range(len(comparison.ids))]
    yield Text("\n".join(f"{letter}  {id_}" for letter, id_ in zip(letters, comparison.ids, strict=True)))
    yield ""
    if not comparison.asked:
        yield "The descriptions are the same."
    for title, fields in (("asked", comparison.asked), ("ran on", comparison.ran)):
        if fields:
            yield _fields(title, fields, letters)
    found = [r for r in comparison.results if everything or any(d for d in r.differences)]
    if found:
        yield _results(found, letters)
    same = len(comparison.results) - len(found)
    if same:
        yield f"{same} numbers are the same in all; --all shows them too."
    if comparison.alone:
        yield f"{comparison.alone} numbers are in one run only and are not shown."
    if not comparison.results:
        yield "The runs have no numbers in common."


def _stages(record: RunRecord) -> Table:
    """A row per name: a run may have hundreds of stages."""
    groups: dict[str, list[float]] = {}
    for stage in record.stages:
        groups.setdefault(str(stage.get("name")), []).append(number(stage.get("seconds")) or 0.0)
    table = _table("stage", "how many", "took")
    for name, seconds in groups.items():
        table.add_row(Text(name), f"{len(seconds)}", duration(sum(seconds)))
    return table


def _fields(title: str, fields: Sequence[Field], letters: Sequence[str]) -> Table:
    table = _table(title, *letters)
    for field in fields:
        table.add_row(Text(field.name), *(Text(NONE if value is None else value) for value in field.values))
    return table


def _results(results: Sequence[Result], letters: Sequence[str]) -> Table:
    """Values with intervals; every run but the first with its difference, and whether the intervals leave a gap."""
    table = _table("found", *letters)
    for result in results:
        cells = []
        for i, value in enumerate(result.values):
            cell = Text("" if value is None else f"{_value(value)} {_interval(value)}".strip())
            difference, apart = result.differences[i], result.apart[i]
            if i and difference:
                said = {True: " apart", False: " overlap", None: ""}[apart]
                cell.append(f"  {difference:+.4g}{said}", style="bold" if apart else "dim")
            cells.append(cell)
        table.add_row(Text(_name(result.name, result.step)), *cells)
    return table


def _pairs(title: str, pairs: dict[str, str]) -> Table:
    table = _table(title, "")
    for name, value in pairs.items():
        table.add_row(Text(name), Text(value))
    return table


def _table(*headings: str) -> Table:
    return Table(*headings, box=None, pad_edge=False, header_style="bold", title_justify="left", padding=(0, 2, 0, 0))


def _name(name: str, step: int) -> str:
    return f"{clipped(name, 60)}, level {step}" if step else clipped(name, 60)


def _value(one: Number) -> str:
    return f"{one.value:,.0f}" if one.value == int(one.value) and abs(one.value) >= 10 else f"{one.value:.5g}"


def _interval(one: Number) -> str:
    return "" if one.low is None or one.high is None else f"[{one.low:.4g}, {one.high:.4g}]"


def _when(started_at: str) -> str:
    try:
        return datetime.fromisoformat(started_at).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return started_at[:16]
