"""The page of `tombola lottery`: the verdict, the curve, early stopping, layers, and every level as a table."""

from collections.abc import Mapping
from typing import Any

from tickets.factory.numbers import at, dicts, items, number, numbers, texts
from tickets.factory.pages import lottery_plots
from tickets.factory.pages.lottery_plots import branches_of, levels_of
from tickets.factory.pages.making import making
from tickets.factory.pages.markup import EMPTY, Markup, folded, join, missing, table, tag
from tickets.factory.pages.page import Content, Section, pictured
from tickets.factory.pages.words import NONE, chance, interval, percent, plain, points, some
from tickets.factory.record import RunRecord

METHODS = {
    "weight": "weights rewound", "learning-rate": "learning rate rewound", "finetune": "fine-tuned, nothing rewound",
}  # fmt: skip


def lottery(record: RunRecord) -> Content:
    """Everything that the page says of a lottery."""
    result = record.result
    network, data = str(at(result, "network") or "network"), str(at(result, "data") or "its data")
    nothing = missing("Not in this record: no level has been measured.")
    accuracy, stop, layers = (
        make(result) for make in (lottery_plots.accuracy, lottery_plots.early_stop, lottery_plots.layers)
    )
    return Content(
        f"{network} on {data}: the lottery ticket's curve", _lead(result),
        (
            pictured("curve", "Accuracy over density", [accuracy], EMPTY if accuracy else nothing),
            Section("levels", "Level by level", _levels(result)),
            Section("verdicts", "Verdicts", _verdicts(result)),
            pictured("early-stop", "How fast it learns", [stop],
                     EMPTY if stop else missing("Not in this record: early-stop steps were not kept.")),
            pictured("layers", "What is left of each layer", [layers],
                     EMPTY if layers else missing("Not in this record: densities by layer were not kept.")),
            *_notes(result), *making(record),
        ),
    )  # fmt: skip


def _notes(result: Mapping[str, Any]) -> tuple[Section, ...]:
    notes = [tag("li", note) for note in texts(at(result, "notes"))]
    return (Section("notes", "Notes", tag("ul", *notes)),) if notes else ()


def _lead(result: Mapping[str, Any]) -> str:
    levels = len(dicts(at(result, "levels"))) - 1
    if levels < 0:
        return ""
    density, cut = number(at(result, "matching_density")), number(at(result, "fraction"))
    seeds = numbers(at(result, "seeds"))
    matching = (
        f"The ticket matches the dense network down to {percent(density)} of its weights"
        if density is not None
        else "The ticket matches the dense network at no density below the whole"
    )
    wins = sum(at(verdict, "label") == "winning" for verdict in dicts(at(result, "verdict")))
    how = METHODS.get(str(at(result, "method")), str(at(result, "method")))
    return (
        f"{matching}; it wins against its controls at {wins} of {some(levels, 'level')}. Each level prunes "
        f"{percent(cut, 0) if cut else 'a part'} of the remaining weights ({at(result, 'scope') or 'global'}), {how}, "
        f"to step {at(result, 'rewind') or 0}; {some(len(seeds), 'seed') if seeds else 'seeds not told'}."
    )


def _levels(result: Mapping[str, Any]) -> Markup:
    levels = levels_of(result)
    if not levels:
        return missing("Not in this record.")
    branches = branches_of(levels)
    rows = []
    for i, level in enumerate(levels):
        cells = [f"{i}", percent(level.density)]
        for branch in branches:
            seeds = level.seeds(branch, "accuracy")
            spread = f"{100 * min(seeds):.1f} to {100 * max(seeds):.1f}" if len(seeds) > 1 else ""
            cells.append(join([percent(sum(seeds) / len(seeds)), tag("small", spread)]) if seeds else NONE)
        rows.append(cells)
    caption = "Test accuracy by level and branch: mean over seeds, lowest to highest"
    return join([
        tag("p", f"{caption}.", class_="faint"), table(caption, ["level", "weights left", *branches], rows)
    ])  # fmt: skip


def _verdicts(result: Mapping[str, Any]) -> Markup:
    verdicts = dicts(at(result, "verdict"))
    if not verdicts:
        return missing("Not in this record: no level was judged.")
    controls = list(dict.fromkeys(name for verdict in verdicts for name, _ in items(at(verdict, "against"))))
    rows = [
        [
            plain(number(at(verdict, "level"))), percent(number(at(verdict, "density"))), _label(verdict),
            _matches(verdict), *(compared(at(verdict, "against", name)) for name in controls),
        ]
        for verdict in verdicts
    ]  # fmt: skip
    whys = [
        tag("li", tag("strong", f"level {plain(number(at(verdict, 'level')))}: "), "; ".join(reasons))
        for verdict in verdicts
        if (reasons := texts(at(verdict, "reasons")))
    ]
    headings = ["level", "weights left", "verdict", "matches dense", *(f"against {name}" for name in controls)]
    told = (
        "The ticket less its control, and less the dense network, in points of test accuracy, with 95 % intervals over "
        "seeds and examples; p after Holm. Winning: ahead of every control beyond chance, and not worse than dense."
    )
    return join([
        tag("p", told, class_="faint"), table("Verdict by level", headings, rows),
        folded("Why, level by level", tag("ul", *whys)) if whys else EMPTY,
    ])  # fmt: skip


def _label(verdict: Mapping[str, Any]) -> Markup:
    if at(verdict, "label") == "winning":
        return tag("span", "winning", class_="pill good")
    return tag("span", str(at(verdict, "label") or NONE), class_="pill")


def _matches(verdict: Mapping[str, Any]) -> Markup:
    same = at(verdict, "matches_dense")
    said = NONE if same is None else "yes" if same else "no"
    bounds, mean = numbers(at(verdict, "against_dense", "points_ci")), number(at(verdict, "against_dense", "points"))
    told = f"{points(mean)} {interval(*bounds, signed=True) if len(bounds) == 2 else ''}"
    return join([said, tag("small", told) if mean is not None else EMPTY])


def compared(against: Any) -> Markup:  # noqa: ANN401 - whatever a result holds
    """A paired difference in points, with its interval, the seeds that it is ahead in, and p."""
    bounds, mean = numbers(at(against, "points_ci")), number(at(against, "points"))
    if mean is None:
        return tag("span", NONE)
    low, high = bounds if len(bounds) == 2 else (None, None)
    wins, seeds, p = (number(at(against, key)) for key in ("wins", "seeds", "p"))
    told = [f"{wins:.0f} of {seeds:.0f} seeds"] if wins is not None and seeds is not None else []
    if p is not None:
        told.append(f"p {chance(p)}")
    below = [interval(low, high, signed=True), ", ".join(told)]
    return join([points(mean), *(tag("small", line) for line in below if line)])
