"""The page of `tombola find`: verdicts in words first, then what they rest on."""

from collections.abc import Mapping, Sequence
from typing import Any

from tickets.factory.numbers import at, dicts, items, number, numbers, texts
from tickets.factory.pages import family_plots
from tickets.factory.pages.evaluated import evaluated
from tickets.factory.pages.family import Family, Model, Tier, family_of
from tickets.factory.pages.lottery import compared
from tickets.factory.pages.making import making
from tickets.factory.pages.markup import EMPTY, Markup, folded, join, missing, table, tag
from tickets.factory.pages.page import Content, Section, pictured
from tickets.factory.pages.structure_plot import structure
from tickets.factory.pages.verdicts import allowed, lead, verdicts
from tickets.factory.pages.words import NONE, count, interval, listed, milliseconds, percent, plain, size, times
from tickets.factory.record import RunRecord

ACCURACY = "in_scope_accuracy"


def find(record: RunRecord) -> Content:
    """Everything that the page says of a family."""
    result = record.result
    family = family_of(result)
    domain = family.domain or str(at(record.description, "domain") or "a domain")
    front, beside = family_plots.front(family), family_plots.against_controls(family)
    bones = structure(family)
    return Content(
        f"{domain}: a family of tickets", lead(family, result),
        (
            Section("verdicts", "Verdicts", verdicts(family)),
            pictured("front", "Accuracy over milliseconds", [front],
                     EMPTY if front else missing("Not in this record: no ticket has been timed.")),
            Section("models", "All models", _models(family)),
            pictured("sparsity", "Accuracy over size, beside the controls", [beside],
                     EMPTY if beside else missing("Not in this record: sizes or accuracies."), _controls(family)),
            Section("gates", "Gates", _gates(family)),
            pictured("structure", "What each ticket keeps", [bones],
                     _budgets(family) if bones else missing("Not in this record: no structure is told.")),
            *evaluated(family),
            Section("lineage", "Lineage", _lineage(result)),
            Section("data", "Data", _data(result)),
            *making(record),
        ),
    )  # fmt: skip


def _models(family: Family) -> Markup:
    if not family.models:
        return missing("Not in this record: no model has been measured.")
    order = {"dense": 0, "ticket": 1, "baseline": 2, "control": 3}
    models = sorted(family.models, key=lambda model: order[model.role])
    headings = [
        "model", "in-scope accuracy", "out-of-scope recall", "AUROC", "ECE", "size", "per text",
        "alone", "× dense",
    ]  # fmt: skip
    main = [_model(model) for model in models if model.role != "control"]
    rest = [_model(model) for model in models if model.role == "control"]
    told = (
        "Means over seeds; below, 95 % intervals of the first seed over test texts and the lowest and highest seed. "
        "Speed is the first seed's, on one core: per text in batches of 16; one text alone as p50, p95 and p99 in "
        "milliseconds; how many times as fast as dense, with the range over rounds."
    )
    return join([
        tag("p", told, class_="faint"), table("All models", headings, main) if main else EMPTY,
        folded(f"{len(rest)} controls of the tickets' sizes", table("Controls", headings, rest)) if rest else EMPTY,
    ])  # fmt: skip


def _model(model: Model) -> list[str]:
    document = model.document
    speed = numbers(at(document, "speed", "speedup"))
    area, error = model.mean("out_of_scope_auroc"), model.mean("expected_calibration_error")
    return [
        model.title, _measured(model, ACCURACY), _measured(model, "out_of_scope_recall"),
        NONE if area is None else f"{area:.3f}", NONE if error is None else f"{error:.3f}",
        size(number(at(document, "bytes"))), milliseconds(model.text_ms),
        _alone(document),
        join([times(speed[0]), tag("small", interval(*speed[1:3]) if len(speed) == 3 else "")]) if speed else NONE,
    ]  # fmt: skip


def _alone(document: Mapping[str, Any]) -> Markup:
    """One text alone: the median, and below it the tails; runs older than the tails have a mean."""
    median, *tails = (number(at(document, "speed", key)) for key in ("p50_ms", "p95_ms", "p99_ms"))
    if not median:
        return tag("span", milliseconds(number(at(document, "speed", "alone_ms"))))
    return join([milliseconds(median), tag("small", ", ".join(f"{t:.3g}" for t in tails if t))])


def _measured(model: Model, key: str) -> Markup:
    seeds, bounds = model.seeds(key), numbers(at(model.document, f"{key}_ci"))
    if not seeds:
        return tag("span", NONE)
    told = [tag("small", interval(*bounds, scale=100))] if len(bounds) == 2 else []
    told += [tag("small", f"{100 * min(seeds):.1f} to {100 * max(seeds):.1f}")] if len(seeds) > 1 else []
    return join([percent(sum(seeds) / len(seeds)), *told])


def _controls(family: Family) -> Markup:
    names = list(
        dict.fromkeys(name for tier in family.tiers for name, _ in items(at(tier.document, "verdict", "against")))
    )
    if not names:
        return missing("No ticket was compared with a control of its size, so none can win: run with --controls.")
    rows = [
        [tier.name, *(compared(at(tier.document, "verdict", "against", name)) for name in names)]
        for tier in family.tiers
    ]
    told = (
        "Ticket less control, in points of right decisions (in and out of scope count half each): 95 % intervals over "
        "seeds and texts, in how many seeds the ticket is ahead, p after Holm."
    )
    return join([
        tag("p", told, class_="faint"),
        table("Tickets against their controls", ["ticket", *(f"against {name}" for name in names)], rows),
    ])  # fmt: skip


def _gates(family: Family) -> Markup:
    names = list(dict.fromkeys(str(at(gate, "gate")) for tier in family.tiers for gate in tier.gates))
    if not names:
        return missing("Not in this record: no gate was checked.")
    rows = [_gate(name, family.tiers) for name in names]
    failed = [f"{at(gate, 'gate')} ({tier.name})" for tier in family.tiers for gate in tier.failed]
    said = f"Failed: {listed(failed)}." if failed else "Every ticket passes every gate."
    return join([tag("p", said), table("Gates", ["gate", "limit", *(tier.name for tier in family.tiers)], rows)])


def _gate(name: str, tiers: Sequence[Tier]) -> list[str]:
    found = [next((gate for gate in tier.gates if str(at(gate, "gate")) == name), None) for tier in tiers]
    first = next(gate for gate in found if gate is not None)
    heading = join([name, tag("small", str(at(first, "why") or ""))])
    return [heading, f"{allowed(first)} {plain(number(at(first, 'limit')))}", *(_passed(gate) for gate in found)]


def _passed(gate: Mapping[str, Any] | None) -> Markup:
    if gate is None:
        return tag("span", NONE)
    passed, measured = bool(at(gate, "passed")), number(at(gate, "measured"))
    told = "not measured" if measured is None else plain(measured)
    return join(
        [told, " ", tag("span", "passed" if passed else "failed", class_="pill good" if passed else "pill bad")]
    )


def _budgets(family: Family) -> Markup:
    rows = [
        [tier.name, str(at(tier.document, "ask") or NONE),
         *(milliseconds(number(at(tier.document, key))) for key in ("budget_ms", "predicted_ms", "measured_ms")),
         str(at(tier.document, "score") or NONE)]
        for tier in family.tiers
    ]  # fmt: skip
    headings = ["ticket", "asked for", "budget", "table predicted", "measured", "score"]
    return join([
        tag("p", "The search fits each structure under the tier's milliseconds for a batch of 16 texts, then measures "
            "what it chose.", class_="faint"), table("Budgets", headings, rows),
    ])  # fmt: skip


def _lineage(result: Mapping[str, Any]) -> Markup:
    rows = dicts(at(result, "lineage"))
    if not rows:
        return missing("Not in this record.")
    known = {str(at(row, "id")) for row in rows}
    children: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        parent = str(at(row, "parent"))
        children.setdefault(parent if parent in known and parent != str(at(row, "id")) else "", []).append(row)
    drawn: set[str] = set()
    tree = _branch("", children, drawn)
    lost = [str(at(row, "name")) for row in rows if str(at(row, "id")) not in drawn]  # a circle hangs from no root
    return join([
        tag("p", "Each ticket is cut from the one above it.", class_="faint"), tree,
        missing(f"Not drawn, because their parents form a circle: {listed(lost)}.") if lost else EMPTY,
    ])  # fmt: skip


def _branch(parent: str, children: Mapping[str, Sequence[Mapping[str, Any]]], drawn: set[str]) -> Markup:
    leaves = []
    for row in children.get(parent, ()):
        own = str(at(row, "id"))
        if own not in drawn:
            drawn.add(own)
            name = tag("span", tag("strong", str(at(row, "name"))), tag("code", own[:12], title=own))
            leaves.append(tag("li", name, _branch(own, children, drawn)))
    return tag("ul", *leaves, class_=None if parent else "tree") if leaves else EMPTY


def _data(result: Mapping[str, Any]) -> Markup:
    kinds = {"in": "in scope", "out": "out of scope, from the data set", "near": "of other domains"}
    rows = [[words, count(number(at(result, "test_texts", key)))] for key, words in kinds.items()
            if number(at(result, "test_texts", key)) is not None]  # fmt: skip
    labels = texts(at(result, "labels"))
    notes = [tag("li", note) for note in texts(at(result, "notes"))]
    if not (rows or labels or notes):
        return missing("Not in this record.")
    return join([
        table("Test texts", ["test texts", "how many"], rows) if rows else EMPTY,
        tag("p", f"{len(labels)} classes: {', '.join(labels)}.") if labels else EMPTY,
        join([tag("h3", "Noted while reading"), tag("ul", *notes)]) if notes else EMPTY,
    ])  # fmt: skip
