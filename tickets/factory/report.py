"""Reports people look at: a table in the terminal, a Markdown page, a plot of quality over speed.

Reads the plain report documents that `tickets.factory.family` makes; computes nothing new.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

HEADINGS = (
    "model", "layers / heads / neurons", "in-scope accuracy", "vs dense (points)", "out-of-scope recall", "AUROC",
    "other domains recall", "size", "texts/s, one core", "vs dense fp32", "one text",
)  # fmt: skip
TERMINAL_HEADINGS = (
    "layers/\nheads/\nneurons", "accu-\nracy %", "vs\ndense", "out-of-\nscope\nrecall", "AUROC", "MB",
    "times\ndense", "ms per\ntext",
)  # fmt: skip


def rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row of strings per model, in the report's order."""
    return [_row(name, entry) for name, entry in report["models"].items()]


def terminal_table(report: Mapping[str, Any]) -> Table:
    """The numbers without their intervals, so that they fit 80 columns; the Markdown and the page have those."""
    title = f"{report['domain']}: quality on the test split, speed on one core of this host"
    table = Table(title=title, box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for heading in TERMINAL_HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, entry in report["models"].items():
        table.add_row(name.removeprefix(f"{report['domain']}-"), *_short_row(name, entry))
    return table


def markdown(report: Mapping[str, Any]) -> str:
    """The rows as a Markdown section."""
    counts = report["test_texts"]
    lines = [
        f"## {report['domain']}",
        "",
        f"Test texts: {counts['in']} in scope, {counts['out']} of the data set's own out-of-scope queries, "
        f"{counts['near']} of other domains. Brackets are 95 % intervals (bootstrap; paired for differences; "
        "the range over rounds for speed-ups).",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows(report)]
    lines += [f"\nData: {note}." for note in report["notes"]]
    return "\n".join(lines) + "\n"


def _row(name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    speed = entry.get("speed")
    difference = entry.get("against_dense")
    return (
        name,
        _structure(entry.get("structure")),
        _percent(entry, "in_scope_accuracy"),
        f"{difference['points']:+.1f} [{difference['points_ci'][0]:+.1f}, {difference['points_ci'][1]:+.1f}]"
        if difference and name != "dense-parent"
        else "",
        _percent(entry, "out_of_scope_recall"),
        f"{entry['out_of_scope_auroc']:.4f}" if "out_of_scope_auroc" in entry else "",
        _percent(entry, "other_domains_recall"),
        f"{entry['bytes'] / 1e6:.2f} MB" if "bytes" in entry else "",
        f"{speed['texts_per_s']:,.0f}" if speed else "",
        f"{speed['speedup'][0]:.1f}x [{speed['speedup'][1]:.1f}, {speed['speedup'][2]:.1f}]" if speed else "",
        f"{speed['alone_ms']:.2f} ms" if speed else "",
    )


def _short_row(name: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    speed, difference = entry.get("speed"), entry.get("against_dense")
    return (
        _structure(entry.get("structure")).replace(" ", ""),
        f"{100 * entry['in_scope_accuracy']:.1f}" if "in_scope_accuracy" in entry else "",
        f"{difference['points']:+.1f}" if difference and name != "dense-parent" else "",
        f"{100 * entry['out_of_scope_recall']:.1f}" if "out_of_scope_recall" in entry else "",
        f"{entry['out_of_scope_auroc']:.3f}" if "out_of_scope_auroc" in entry else "",
        f"{entry['bytes'] / 1e6:.2f}" if "bytes" in entry else "",
        f"{speed['speedup'][0]:.1f}x" if speed else "",
        f"{speed['alone_ms']:.2f}" if speed else "",
    )


def _structure(structure: Mapping[str, Any] | None) -> str:
    """Layers, and the heads and neurons of all of them: a search leaves each layer its own number."""
    if structure is None:
        return ""
    heads, neurons = structure["heads"], structure["ffn_neurons"]
    return f"{len(heads)} / {sum(heads)} / {sum(neurons)}"


def _percent(entry: Mapping[str, Any], key: str) -> str:
    if key not in entry:
        return ""
    low, high = entry[f"{key}_ci"]
    return f"{100 * entry[key]:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def plot(reports: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Accuracy over speed, one line per family, the controls as crosses."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for colour, (domain, report) in enumerate(sorted(reports.items())):
        points = [
            (entry["speed"]["texts_per_s"], 100 * entry["in_scope_accuracy"], name)
            for name, entry in report["models"].items()
            if "speed" in entry
        ]
        family = [p for p in points if p[2] != "zero-layer-control"]
        axes.plot([p[0] for p in family], [p[1] for p in family], "o-", color=f"C{colour}", label=domain)
        for x, y, name in points:
            if name == "zero-layer-control":
                axes.plot(x, y, "x", color=f"C{colour}")
            axes.annotate(
                name.removeprefix(f"{domain}-"), (x, y), fontsize=7, xytext=(4, 4), textcoords="offset points"
            )
    axes.set_xscale("log")
    axes.set_xlabel("texts per second, one core, batches of 16")
    axes.set_ylabel("in-scope accuracy on the test split, %")
    axes.set_title("Families: accuracy over speed")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
