"""The pages of `tombola transfer` and `tombola patterns`, and of kinds of runs that have no page of their own."""

from collections.abc import Mapping
from typing import Any

from tickets.factory.numbers import at, items, number, numbers, numbers_of, texts
from tickets.factory.pages import transfer_plots
from tickets.factory.pages.lottery import compared
from tickets.factory.pages.making import making
from tickets.factory.pages.markup import EMPTY, Markup, join, missing, table, tag
from tickets.factory.pages.page import Content, Section, pictured
from tickets.factory.pages.words import count, interval, percent, plain, points, size, some
from tickets.factory.record import RunRecord

SUMMARY = {
    "own_minus_others": "other domains' masks", "own_minus_random": "random masks of the same layer counts",
    "own_minus_dense": "the dense model",
}  # fmt: skip


def transfer(record: RunRecord) -> Content:
    """Everything that the page says of a transfer."""
    result = record.result
    picture = transfer_plots.heat_map(result)
    domains = texts(at(result, "domains"))
    seeds = len(numbers(at(result, "seeds")))
    density = percent(number(at(result, "density")))
    lead = (
        f"Each of {len(domains)} domains' masks was trained on every one of them, at {density} of the encoder's "
        f"weights, from {some(seeds, 'seed')}. {_sums(result)}" if domains else ""
    )  # fmt: skip
    none = missing("Not in this record: no pair has been measured.")
    return Content(
        f"Transfer between {len(domains)} domains" if domains else "Transfer", lead,
        (
            pictured("heat-map", "Whose mask on whose data", [picture], EMPTY if picture else none),
            Section("matrix", "Every pair", _matrix(result) if picture else none),
            Section("summary", "What the matrix says", _summary(result)), *making(record),
        ),
    )  # fmt: skip


def _sums(result: Mapping[str, Any]) -> str:
    mean, bounds = (at(result, "summary", "own_minus_others", key) for key in ("points", "points_ci"))
    found, ends = number(mean), numbers(bounds)
    if found is None or len(ends) != 2:
        return ""
    if ends[0] <= 0 <= ends[1]:
        return f"Own masks are not told apart from others' ({points(found)} points {interval(*ends, signed=True)})."
    told = "better" if found > 0 else "worse"
    return f"Own masks are {told} than others' by {plain(abs(found))} points {interval(*ends, signed=True)}."


def _matrix(result: Mapping[str, Any]) -> Markup:
    names, grid = texts(at(result, "domains")), transfer_plots.accuracies(result)
    rest = transfer_plots.controls(result)
    values = [*zip(names, grid, strict=True), *rest]
    distances = transfer_plots.against_own([row for _, row in values], grid)
    rows = [
        [name, *(join([percent(v), tag("small", "own" if b == a else points(d))])
                 for b, (v, d) in enumerate(zip(row, distance, strict=True)))]
        for a, ((name, row), distance) in enumerate(zip(values, distances, strict=True))
    ]  # fmt: skip
    return join([
        tag("p", "Test accuracy, and below it points against the column's own mask.", class_="faint"),
        table("Accuracy by mask and domain", ["mask of", *names], rows),
    ])  # fmt: skip


def _summary(result: Mapping[str, Any]) -> Markup:
    rows = [[f"own masks against {what}", compared(found)] for key, what in SUMMARY.items()
            if (found := at(result, "summary", key)) is not None]  # fmt: skip
    if not rows:
        return missing("Not in this record.")
    return join([
        tag("p", "Points with 95 % intervals over domains and their test texts.", class_="faint"),
        table("Own masks against others", ["compared", "points"], rows),
    ])  # fmt: skip


def patterns(record: RunRecord) -> Content:
    """Everything that the page says of block and N:M patterns."""
    rows = [
        [
            f"{name}, {form}", percent(number(at(measured, "zeros"))),
            percent(number(at(measured, "in_scope_accuracy")), 2), compared(at(measured, "against_dense")),
            percent(number(at(measured, "out_of_scope_auroc"))), size(number(at(measured, "bytes"))),
        ]
        for name, forms in items(at(record.result, "patterns")) for form, measured in items(forms)
    ]  # fmt: skip
    headings = ["pattern, form", "zeros", "in-scope accuracy", "against dense, points", "AUROC", "size"]
    body = table("Patterns", headings, rows) if rows else missing("Not in this record.")
    note = "ONNX Runtime on a CPU runs these graphs no faster: the zeros are for hardware that skips them."
    domain = str(at(record.result, "domain") or at(record.description, "domain") or "")
    return Content(
        f"{domain}: pruned to patterns".removeprefix(": "),
        note if rows else "",
        (Section("patterns", "Patterns", body), *making(record)),
    )


def other(record: RunRecord) -> Content:
    """A kind of run that has no page of its own: its numbers, and how it came about."""
    rows = [
        [n.name, plain(n.value) if n.value % 1 else count(n.value), interval(n.low, n.high)] for n in numbers_of(record)
    ]
    body = (
        table("Numbers", ["number", "value", "interval"], rows) if rows else missing("Not in this record: no numbers.")
    )
    return Content(f"{record.kind}: {record.id}", "", (Section("numbers", "Numbers", body), *making(record)))
