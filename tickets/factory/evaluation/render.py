"""An evaluation as tables in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tickets.factory.evaluation.gates import Checked, plain

_WORST_CLASSES = 5


def render(document: Mapping[str, Any], checked: Sequence[Checked] = ()) -> RenderableType:
    """The document's numbers, then its gates. Labels and reasons are printed as they are, markup or not."""
    parts: list[RenderableType] = [_numbers(document), _shift(document["shift"]), _subgroups(document["subgroups"])]
    if "forgetting" in document:
        parts.append(_forgetting(document["forgetting"]))
    if checked:
        parts.append(_gates(checked))
    return Group(*parts)


def _numbers(document: Mapping[str, Any]) -> Table:
    table = _table("evaluation on the test split", "number", "value")
    for part in ("accuracy", "agreement", "calibration", "out_of_scope", "cost"):
        for name, value in _flat(document.get(part, {}), part):
            table.add_row(name, value)
    return table


def _flat(part: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in part.items():
        name = f"{prefix}.{key}"
        if isinstance(value, Mapping):
            out += _flat(value, name) if key != "bins" else []
        elif isinstance(value, list):
            out.append((name, " to ".join(plain(number) for number in value)))
        else:
            out.append((name, plain(value)))
    return out


def _shift(shifts: Mapping[str, Any]) -> Table:
    title = "under shift (out-of-scope texts refused; drops in points)"
    table = _table(title, "shift", "strength", "accuracy", "refused", "drop", "parent's", "extra", left=2)
    keys = ("accuracy", "out_of_scope_recall", "drop_points", "parent_drop_points", "extra_drop_points")
    for name, one in shifts.items():
        table.add_row(name, one.get("strength", ""), *(_cell(one.get(key)) for key in keys))
    return table


def _subgroups(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    table = _table("accuracy by subgroup", "by", "third", "from", "to", "texts", "parent", "ticket", left=2)
    for by, rows in groups.items():
        for row in rows:
            keys = ("from", "to", "texts", "parent", "ticket")
            table.add_row(by, row["group"], *(_cell(row.get(key)) for key in keys))
    return table


def _forgetting(found: Mapping[str, Any]) -> Table:
    title = f"classes that lost most ({found['forgotten_count']} beyond chance)"
    table = _table(title, "class", "texts", "parent", "ticket", "drop, points", "p")
    for row in sorted(found["classes"], key=lambda row: -row["drop_points"])[:_WORST_CLASSES]:
        keys = ("texts", "parent", "ticket", "drop_points", "p")
        table.add_row(Text(row["label"]), *(_cell(row[key]) for key in keys))
    return table


def _gates(checked: Sequence[Checked]) -> Table:
    table = _table("gates", "", "gate", "measured", "allowed", "why", left=5)
    for one in checked:
        sign = "≤" if one.comparison == "at_most" else "≥"
        measured = "not measured" if one.measured is None else plain(one.measured)
        word = "pass" if one.passed else "FAIL"
        table.add_row(word, Text(one.gate), measured, f"{sign} {plain(one.limit)}", Text(one.why))
    return table


def _table(title: str, *headings: str, left: int = 1) -> Table:
    """The first ``left`` columns are words, the others numbers."""
    table = Table(title=title)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < left else "right")
    return table


def _cell(value: float | None) -> str:
    return "" if value is None else plain(value)
