"""How a run came about: its command, what each stage took, its whole description. The same for every kind of run."""

from collections.abc import Mapping, Sequence
from typing import Any

from tickets.factory.numbers import at, flat, number
from tickets.factory.pages.markup import Markup, folded, join, missing, table, tag
from tickets.factory.pages.page import Section
from tickets.factory.pages.words import clipped, duration, some
from tickets.factory.record import RunRecord


def making(record: RunRecord) -> tuple[Section, ...]:
    """The page's last two sections."""
    return (
        Section("stages", "Time by stage", _stages(record)),
        Section("description", "Description", _description(record)),
    )


def _stages(record: RunRecord) -> Markup:
    if not record.stages:
        return missing("This record names no stages.")
    total = sum(_seconds(stage) for stage in record.stages)
    fresh = sum(_seconds(stage) for stage in record.stages if not at(stage, "reused"))
    said = (
        f"{duration(total)} of work in {some(len(record.stages), 'stage')}, {duration(fresh)} of it in this run; "
        "stages that were there before are reused and show what they took then."
    )
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for stage in record.stages:
        groups.setdefault(str(at(stage, "name")), []).append(stage)
    spent = {name: sum(map(_seconds, group)) for name, group in groups.items()}
    most = max(spent.values())
    rows = [
        [clipped(name, 40), f"{len(group)}", duration(spent[name]), _reused(group), _bar(spent[name], most)]
        for name, group in groups.items()
    ]
    each = [
        [clipped(name, 40), duration(_seconds(stage)), _reused([stage]), tag("code", str(at(stage, "folder")))]
        for name, group in groups.items()
        for stage in group
    ]
    return join([
        tag("p", said),
        table("Time by stage", ["stage", "how many", "took", "how", "beside the longest"], rows, numeric=False),
        folded("Every stage and its folder", table("Stages", ["stage", "took", "how", "folder"], each, numeric=False)),
    ])  # fmt: skip


def _seconds(stage: Mapping[str, Any]) -> float:
    return number(at(stage, "seconds")) or 0.0


def _reused(group: Sequence[Mapping[str, Any]]) -> str:
    reused = sum(bool(at(stage, "reused")) for stage in group)
    return "built now" if not reused else "reused" if reused == len(group) else f"{reused} reused"


def _bar(spent: float, most: float) -> Markup:
    share = 100 * spent / most if most else 0.0
    return tag("span", class_="bar", style=f"width: {share:.1f}%", aria_hidden="true")


def _description(record: RunRecord) -> Markup:
    asked = [[name, tag("code", value)] for name, value in flat(record.description).items()]
    host = [[name, tag("code", value)] for name, value in flat(record.host).items()]
    return join([
        tag("p", "The run's id ends in the hash of this description: the same description is the same run."),
        tag("pre", record.command, class_="command"),
        table("Description", ["what", "value"], asked, numeric=False) if asked else missing("It is empty."),
        folded("The machine and the code", table("Machine and code", ["what", "value"], host, numeric=False))
        if host else missing("The record does not name its machine."),
    ])  # fmt: skip
