"""What the evaluation suite found, ticket by ticket: calibration, forgetting, shift, subgroups."""

from collections.abc import Callable, Mapping
from typing import Any

from tickets.factory.numbers import at, dicts, items, number, texts
from tickets.factory.pages import ticket_plots
from tickets.factory.pages.family import Family, Tier
from tickets.factory.pages.markup import EMPTY, Markup, folded, join, missing, table, tag
from tickets.factory.pages.page import Section, pictured
from tickets.factory.pages.words import NONE, chance, count, percent, plain, points

TOP_CLASSES = 10
NOTHING_FORGOTTEN = (
    "No class is forgotten: none loses more than 10 points beyond chance (exact McNemar test, p below 0.01 after Holm)."
)
ABSENT = "Not in this record: the evaluation suite's document has no such part, or the run is older than it."


def evaluated(family: Family) -> tuple[Section, ...]:
    """The sections, in the page's order."""
    bins, forgotten, shift = (
        make(family) for make in (ticket_plots.reliability, ticket_plots.forgetting, ticket_plots.shift)
    )
    return (
        pictured("calibration", "How honest the confidence is", [bins], _calibration(family)),
        pictured("forgetting", "What was forgotten, class by class", [forgotten], _forgetting(family)),
        pictured("shift", "Robustness to shift", [shift], _shift(family)),
        Section("subgroups", "Rare classes, long texts", _subgroups(family)),
    )


def _calibration(family: Family) -> Markup:
    tiers = [tier for tier in family.tiers if at(tier.evaluation, "calibration")]
    if not tiers:
        return missing(ABSENT)
    keys = (
        ("temperature", "temperature"), ("ece_before", "error before"), ("ece", "error after"),
        ("parent_ece", "dense parent's"), ("ece_equal_mass", "error, equal mass"), ("brier", "Brier"),
        ("nll", "negative log likelihood"),
    )  # fmt: skip
    rows = [[tier.name, *(plain(number(at(tier.evaluation, "calibration", key))) for key, _ in keys)] for tier in tiers]
    return table("Calibration", ["ticket", *(title for _, title in keys)], rows)


def _forgetting(family: Family) -> Markup:
    tiers = [tier for tier in family.tiers if dicts(at(tier.evaluation, "forgetting", "classes"))]
    if not tiers:
        return missing(ABSENT)
    said = []
    for tier in tiers:
        names = texts(at(tier.evaluation, "forgetting", "forgotten"))
        if names:
            said.append(tag("li", tag("strong", tier.name), f" forgot {', '.join(names)}."))
    order = [label for label, _ in ticket_plots.worst_classes(family)]
    rows = _classes(tiers, order)
    headings = ["class", "test texts", "dense parent's recall", *(f"{tier.name}: lost" for tier in tiers)]
    whole = table("Every class", headings, _classes(tiers, None))
    return join([
        tag("ul", *said) if said else tag("p", NOTHING_FORGOTTEN),
        table("Classes that lost most", headings, rows[:TOP_CLASSES]) if rows else tag("p", "No class lost anything."),
        folded(f"All {len(_classes(tiers, None))} classes", whole),
    ])  # fmt: skip


def _classes(tiers: list[Tier], order: list[str] | None) -> list[list[str]]:
    """Rows of classes: texts, the parent's recall, points lost and p by ticket. ``order``: labels; None: all."""
    found = [
        {str(at(row, "label")): row for row in dicts(at(tier.evaluation, "forgetting", "classes"))} for tier in tiers
    ]
    labels = list(dict.fromkeys(label for rows in found for label in rows)) if order is None else order
    out = []
    for label in labels:
        first = next(rows[label] for rows in found if label in rows)
        cells = [label, count(number(at(first, "texts"))), percent(number(at(first, "parent")))]
        out.append([*cells, *(_lost(rows.get(label)) for rows in found)])
    return out


def _lost(row: Mapping[str, Any] | None) -> Markup:
    drop, p = number(at(row, "drop_points")), number(at(row, "p"))
    if drop is None:
        return tag("span", NONE)
    return join([points(drop) if drop else "0", tag("small", f"p {chance(p)}") if p is not None and p < 1 else EMPTY])


def _shift(family: Family) -> Markup:
    tiers = [tier for tier in family.tiers if items(at(tier.evaluation, "shift"))]
    if not tiers:
        return missing(ABSENT)
    names = list(dict.fromkeys(name for tier in tiers for name, _ in items(at(tier.evaluation, "shift"))))
    rows = []
    for name in names:
        cells: list[str] = [name]
        for tier in tiers:
            one = at(tier.evaluation, "shift", name)
            accuracy, extra, recall = (
                number(at(one, key)) for key in ("accuracy", "extra_drop_points", "out_of_scope_recall")
            )
            told = [f"{points(extra)} beyond dense"] * (extra is not None) + [f"recall {percent(recall)}"] * (
                recall is not None
            )
            cells.append(join([percent(accuracy), tag("small", "; ".join(told))]))
        rows.append(cells)
    return join([
        tag("p", "In-scope accuracy under each shift; small: points lost beyond what the dense parent loses, and "
            "out-of-scope recall at the frozen threshold.", class_="faint"),
        table("Accuracy under shift", ["shift", *(tier.name for tier in tiers)], rows),
    ])  # fmt: skip


def _subgroups(family: Family) -> Markup:
    tiers = [tier for tier in family.tiers if at(tier.evaluation, "subgroups")]
    if not tiers:
        return missing(ABSENT)
    parts = []
    for key, title, words in (
        ("frequency", "By how often the class was seen in training", lambda g: f"{g} seen"),
        ("length", "By length in words", lambda g: f"{g} words"),
    ):
        found = [row for row in (_group(tiers, key, i, words) for i in range(3)) if row]
        if found:
            parts += [
                tag("h3", title),
                table(title, ["third", "from, to", "test texts", "dense parent", *(t.name for t in tiers)], found),
            ]
    return join(parts) if parts else missing(ABSENT)


def _group(tiers: list[Tier], key: str, index: int, words: Callable[[str], str]) -> list[str]:
    groups = [at(tier.evaluation, "subgroups", key, index) for tier in tiers]
    first = next((group for group in groups if group), None)
    if first is None:
        return []
    reach = f"{plain(number(at(first, 'from')))} to {plain(number(at(first, 'to')))}"
    mine = [percent(number(at(group, "ticket"))) for group in groups]
    return [
        words(str(at(first, "group"))),
        reach,
        count(number(at(first, "texts"))),
        percent(number(at(first, "parent"))),
        *mine,
    ]
