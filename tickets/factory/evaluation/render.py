"""An evaluation as tables in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from tickets.factory.evaluation.gates import Checked


def render(document: Mapping[str, Any], checked: Sequence[Checked] = ()) -> RenderableType:
    """The document's numbers, then its gates."""
    parts: list[RenderableType] = [_numbers(document), _shift(document)]
    if "forgetting" in document:
        parts.append(_forgetting(document["forgetting"]))
    if checked:
        parts.append(_gates(checked))
    return Group(*parts)


def _numbers(document: Mapping[str, Any]) -> Table:
    table = Table(title="evaluation on the test split")
    table.add_column("number")
    table.add_column("value", justify="right")
    for part in ("accuracy", "agreement", "calibration", "out_of_scope"):
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
            out.append((name, " to ".join(f"{number:g}" for number in value)))
        else:
            out.append((name, f"{value:g}"))
    return out


def _shift(document: Mapping[str, Any]) -> Table:
    table = Table(title="under shift")
    for heading in ("shift", "accuracy", "out-of-scope recall", "drop, points", "parent's drop"):
        table.add_column(heading, justify="left" if heading == "shift" else "right")
    for name, one in document["shift"].items():
        cells = (one["accuracy"], one.get("out_of_scope_recall"), one["drop_points"], one.get("parent_drop_points"))
        table.add_row(name, *("" if cell is None else f"{cell:g}" for cell in cells))
    return table


def _forgetting(found: Mapping[str, Any]) -> Table:
    table = Table(title=f"classes that lost most ({found['forgotten_count']} beyond chance)")
    for heading in ("class", "texts", "parent", "ticket", "drop, points", "p"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for row in sorted(found["classes"], key=lambda row: -row["drop_points"])[:5]:
        table.add_row(row["label"], *(f"{row[key]:g}" for key in ("texts", "parent", "ticket", "drop_points", "p")))
    return table


def _gates(checked: Sequence[Checked]) -> Table:
    table = Table(title="gates")
    for heading in ("", "gate", "measured", "allowed", "why"):
        table.add_column(heading)
    for one in checked:
        sign = "≤" if one.comparison == "at_most" else "≥"
        measured = "not measured" if one.measured is None else f"{one.measured:g}"
        table.add_row("pass" if one.passed else "FAIL", one.gate, measured, f"{sign} {one.limit:g}", one.why)
    return table
