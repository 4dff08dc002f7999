"""The table that `tombola find` ends with: the numbers that people look at first, whole in a terminal of 80 columns."""

from io import StringIO
from typing import Any

from rich.console import Console

from tickets.factory.report import markdown, terminal_table


def entry(layers: list[int], neurons: list[int], speedup: float) -> dict[str, Any]:
    """One model's numbers, as a family's report has them."""
    return {
        "structure": {"heads": layers, "ffn_neurons": neurons},
        "in_scope_accuracy": 0.953, "in_scope_accuracy_ci": [0.93, 0.97],
        "out_of_scope_recall": 0.942, "out_of_scope_recall_ci": [0.92, 0.95],
        "other_domains_recall": 0.997, "other_domains_recall_ci": [0.99, 1.0],
        "out_of_scope_auroc": 0.9862, "bytes": 89_604_000,
        "against_dense": {"points": -10.4, "points_ci": [-13.8, -7.1]},
        "speed": {"texts_per_s": 85_379.0, "speedup": [speedup, 221.0, 264.5], "alone_ms": 12.07},
    }  # fmt: skip


def report() -> dict[str, Any]:
    """A family of the longest domain name that CLINC150 has."""
    models = {
        "dense-parent": entry([12] * 6, [1536] * 6, 1.0),
        "zero-layer-control": entry([], [], 245.8),
        "kitchen_and_dining-balanced": entry([10, 9, 1, 4, 3, 2], [384, 640, 512, 448, 512, 448], 7.5),
    }
    counts = {"in": 450, "out": 1000, "near": 4050}
    return {"domain": "kitchen_and_dining", "models": models, "test_texts": counts, "notes": []}


def test_no_cell_is_cut_or_folded_at_eighty_columns() -> None:
    """One line per model, every number in it."""
    out = StringIO()
    Console(width=80, file=out).print(terminal_table(report()))
    text = out.getvalue()
    assert "…" not in text
    (line,) = (line for line in text.splitlines() if line.strip().startswith("balanced"))
    assert line.split() == ["balanced", "6/29/2944", "95.3", "-10.4", "94.2", "0.986", "89.60", "7.5x", "12.07"]


def test_a_structure_is_told_by_what_all_its_layers_have() -> None:
    """A search leaves each layer its own number; the first layer's is not the network's."""
    page = markdown(report())
    assert "| 6 / 29 / 2944 |" in page
    assert "| 6 / 72 / 9216 |" in page
    assert "| 0 / 0 / 0 |" in page
