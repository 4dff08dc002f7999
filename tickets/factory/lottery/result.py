"""The result of a lottery: per level the accuracies of ticket and controls, and what paired statistics make of them.

Pure functions of finished trainings. *Winning* is a level whose ticket beats every control beyond chance and matches
the dense network (`tickets.factory.verdict` has the statistics); every other level's ticket is *pruned*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from tickets.factory.lottery.levels import TICKET, LotteryPlan
from tickets.factory.lottery.masks import density, layer_densities
from tickets.factory.lottery.networks import Network
from tickets.factory.lottery.trained import Trained
from tickets.factory.verdict import Replicates, compare_replicates, judge, matches

MARGIN_POINTS = 1.0
"""A ticket matches the dense network where it is less than this below it (non-inferiority, one-sided 97.5 %)."""

Played = Sequence[Sequence[Mapping[str, Trained]]]
"""By seed, by level, by branch."""


def document(network: Network, plan: LotteryPlan, played: Played) -> dict[str, Any]:
    """The run's result, as the reports read it."""
    by_level = [[seed[number] for seed in played] for number in range(plan.levels + 1)]
    levels = [_level(number, seeds) for number, seeds in enumerate(by_level)]
    verdicts = [_verdict(entry, seeds, by_level[0]) for entry, seeds in zip(levels, by_level, strict=True)]
    return {
        "network": network.name, "data": network.data, "method": plan.method, "rewind": str(plan.rewind),
        "scope": plan.scope, "fraction": plan.fraction, "seeds": list(plan.seeds), "margin_points": MARGIN_POINTS,
        "test_examples": len(played[0][0][TICKET].outcome("test").hits),
        "levels": levels, "verdict": verdicts, "matching_density": matching_density(verdicts),
        "notes": _notes(plan, played),
    }  # fmt: skip


def matching_density(verdicts: Sequence[Mapping[str, Any]]) -> float | None:
    """The density of the last level before the first whose ticket no longer matches dense. None: not even level 1."""
    matching: float | None = None
    for verdict in verdicts[1:]:
        if not verdict["matches_dense"]:
            break
        matching = verdict["density"]
    return matching


def _level(number: int, seeds: Sequence[Mapping[str, Trained]]) -> dict[str, Any]:
    masks = [branches[TICKET].masks() for branches in seeds]
    layers = [layer_densities(mask) for mask in masks]
    return {
        "level": number,
        "density": _rounded(np.mean([density(mask) for mask in masks])),
        "per_layer": {name: _rounded(np.mean([layer[name] for layer in layers])) for name in layers[0]},
        "branches": {name: _branch([branches[name] for branches in seeds]) for name in seeds[0]},
    }


def _branch(trained: Sequence[Trained]) -> dict[str, Any]:
    """Per seed: accuracy and loss on the test split at the end, and when the validation loss was least, and there."""
    ends = [one.outcome("test") for one in trained]
    stops = [one.log()["early_stop"] for one in trained]
    return {
        "accuracy": [_rounded(end.accuracy) for end in ends],
        "loss": [_rounded(end.loss) for end in ends],
        "early_stop_step": [stop["step"] for stop in stops],
        "early_stop_accuracy": [_rounded(stop["test_accuracy"]) for stop in stops],
        "validation_accuracy": [_rounded(one.outcome("validation").accuracy) for one in trained],
    }


def _verdict(
    entry: Mapping[str, Any], seeds: Sequence[Mapping[str, Trained]], dense: Sequence[Mapping[str, Trained]]
) -> dict[str, Any]:
    ticket, parent = _hits(seeds, TICKET), _hits(dense, TICKET)
    out = {"level": entry["level"], "density": entry["density"]}
    if entry["level"] == 0:
        return out | {"label": "pruned", "reasons": ["the dense network itself"], "matches_dense": True, "against": {}}
    is_matching = matches(ticket, parent, margin_points=MARGIN_POINTS)
    failed = () if is_matching else (f"to match the dense network within {MARGIN_POINTS:g} point",)
    controls = {name: _hits(seeds, name) for name in seeds[0] if name != TICKET}
    verdict = judge(ticket, controls, gates_failed=failed)
    return out | {
        "label": verdict.label, "reasons": list(verdict.reasons), "matches_dense": is_matching,
        "against_dense": asdict(compare_replicates(ticket, parent)),
        "against": {name: asdict(comparison) for name, comparison in verdict.against.items()},
    }  # fmt: skip


def _hits(seeds: Sequence[Mapping[str, Trained]], branch: str) -> Replicates:
    return Replicates(np.stack([branches[branch].outcome("test").hits for branches in seeds]))


def _notes(plan: LotteryPlan, played: Played) -> list[str]:
    return [
        f"seed {seed}, level {number}: pruning would have emptied {name}; its largest weight stays"
        for seed, levels in zip(plan.seeds, played, strict=True)
        for number, branches in enumerate(levels)
        for name in branches[TICKET].log().get("spared", [])
    ]


def terminal_table(result: Mapping[str, Any]) -> Table:
    """A row per level: weights left, accuracy of each branch (mean and standard deviation over seeds), whether the
    ticket matches the dense network, verdict.
    """
    branches = list(result["levels"][-1]["branches"])
    title = f"{result['network']} on {result['data']}: test accuracy, %, over {_seeds(result)}"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("level", "left, %", *branches, "matches", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right")
    for level, verdict in zip(result["levels"], result["verdict"], strict=True):
        cells = [_cell(level["branches"][name]["accuracy"]) if name in level["branches"] else "" for name in branches]
        label = "dense" if level["level"] == 0 else verdict["label"]
        matched = "" if level["level"] == 0 else "yes" if verdict["matches_dense"] else "no"
        table.add_row(str(level["level"]), f"{100 * level['density']:.1f}", *cells, matched, label)
    return table


def summary(result: Mapping[str, Any]) -> str:
    """What the levels say, in a sentence or two."""
    winning = [verdict for verdict in result["verdict"] if verdict["label"] == "winning"]
    matching = result["matching_density"]
    if matching is None:
        told = f"Over {_seeds(result)}, no level's ticket is shown to match the dense network."
    else:
        told = f"Over {_seeds(result)}, the ticket matches the dense network down to {100 * matching:.1f} % of weights."
    if not winning:
        last = result["verdict"][-1]
        return f"{told} No level is winning; the last: {'; '.join(last['reasons'])}."
    names = ", ".join(f"{100 * verdict['density']:.1f} %" for verdict in winning)
    return f"{told} Winning, that is matching and ahead of every control, at: {names}."


def _seeds(result: Mapping[str, Any]) -> str:
    count = len(result["seeds"])
    return f"{count} seed{'s' * (count != 1)}"


def _cell(accuracies: Sequence[float]) -> str:
    spread = f" ±{100 * np.std(accuracies, ddof=1):.1f}" if len(accuracies) > 1 else ""
    return f"{100 * np.mean(accuracies):.1f}{spread}"


def _rounded(value: Any) -> float:  # noqa: ANN401 - a number of numpy's or ours
    return round(float(value), 6)
