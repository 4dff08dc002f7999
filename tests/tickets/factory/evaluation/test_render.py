"""What the terminal shows of an evaluation."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tickets.factory.evaluation.gates import Gate, check
from tickets.factory.evaluation.render import render

DOCUMENT = json.loads(Path(__file__).with_name("document.json").read_text())


def shown(document: dict[str, object], gates: list[Gate] | None = None) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(render(document, check(document, gates or [])))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_part_is_shown() -> None:
    """Numbers by their places in the document, so that a gate can be written from what is read."""
    text = shown(DOCUMENT)
    for part in (
        "accuracy.loss_points", "calibration.ece_in_scope", "out_of_scope.out.recall_at.97", "cost.bytes",
        "8 % of letters", "classes that lost most (1 beyond chance)", "accuracy by subgroup",
    ):  # fmt: skip
        assert part in text
    assert "bins" not in text
    assert "gates" not in text


def test_gates_say_what_was_measured_and_allowed() -> None:
    """One line each, failed ones in capitals."""
    gates = [
        Gate("loss", "accuracy.loss_points", "at_most", 1.0, "because"),
        Gate("size", "cost.bytes", "at_most", 4e6, "it must fit"),
        Gate("late", "cost.p99_ms", "at_most", 2.0, ""),
    ]
    lines = [line for line in shown(DOCUMENT, gates).splitlines() if "pass" in line or "FAIL" in line]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert cells == [
        ["FAIL", "loss", "33.333", "≤ 1", "because"],
        ["pass", "size", "4096", "≤ 4,000,000", "it must fit"],
        ["FAIL", "late", "not measured", "≤ 2", ""],
    ]


@pytest.mark.parametrize("label", ["[bold]open[/bold]", "[/]", "a[red]"])
def test_a_label_is_no_markup(label: str) -> None:
    """Whatever stands in somebody's data or gates is printed as it is."""
    document = json.loads(json.dumps(DOCUMENT))
    document["forgetting"]["classes"][0]["label"] = label
    text = shown(document, [Gate(f"gate {label}", "accuracy.loss_points", "at_most", 1.0, f"why {label}")])
    assert f" {label} " in text
    assert f"gate {label} " in text
    assert f"why {label} " in text


def test_without_a_parent_there_are_fewer_tables() -> None:
    """And without a cost, or out-of-scope texts under shift, fewer cells."""
    bare = {key: DOCUMENT[key] for key in ("version", "calibration", "subgroups")}
    bare |= {"accuracy": {"in_scope": 0.5}, "out_of_scope": {"kept": 1.0}}
    bare |= {"shift": {"typos": {"accuracy": 0.25, "drop_points": -0.0}}}
    text = shown(bare)
    assert "classes that lost" not in text
    assert "-0" not in text
