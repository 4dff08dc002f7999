"""What a family's page says first: which tickets win, which are only pruned and why, in words."""

from collections.abc import Mapping
from typing import Any

from tickets.factory.numbers import at, number, numbers, texts
from tickets.factory.pages.family import DENSE, Family, Tier
from tickets.factory.pages.markup import EMPTY, Markup, join, missing, tag
from tickets.factory.pages.words import count, listed, milliseconds, percent, plain, size, some, times

ACCURACY = "in_scope_accuracy"


def lead(family: Family, result: Mapping[str, Any]) -> str:
    """The whole result in two or three sentences."""
    if not family.tiers:
        return ""
    wins = [tier for tier in family.tiers if tier.wins]
    texts, seeds = number(at(result, "test_texts", "in")), len(numbers(at(result, "seeds")))
    ground = (
        f" Measured on {count(texts)} in-scope test texts" + (f", {some(seeds, 'seed')}." if seeds else ".")
        if texts
        else ""
    )
    if not wins:
        return f"None of the {len(family.tiers)} tickets wins: all are sold as pruned.{ground}"
    fastest = max(wins, key=lambda tier: (tier.model.speedup if tier.model else None) or 0.0)
    won = "All" if len(wins) == len(family.tiers) else f"{len(wins)} of"
    told = f"{won} {len(family.tiers)} tickets win: {listed([tier.name for tier in wins])}."
    return f"{told}{_price(family, fastest)}{ground}"


def _price(family: Family, tier: Tier) -> str:
    """What the fastest winner gains in speed and loses in accuracy, means over seeds."""
    dense, model = family.named(DENSE), tier.model
    if model is None or model.speedup is None:
        return ""
    told = f" The fastest of them, {tier.name}, is {times(model.speedup)} as fast as the dense parent"
    mine, theirs = model.mean(ACCURACY), dense.mean(ACCURACY) if dense else None
    if mine is None or theirs is None:
        return f"{told}."
    points = 100 * (theirs - mine)
    return f"{told} and {'loses' if points >= 0 else 'gains'} {abs(points):.1f} points of in-scope accuracy."


def verdicts(family: Family) -> Markup:
    """A card per tier: its verdict, its price, the reasons, and every failed gate by name."""
    if not family.tiers:
        return missing("Not in this record: no tier has been found.")
    return join([
        tag("div", *(_card(family, tier) for tier in family.tiers), class_="verdicts"),
        tag("p", "A ticket wins only where it beats every control beyond chance over several seeds and fails no gate; "
            "all others are sold as pruned.", class_="faint"),
    ])  # fmt: skip


def _card(family: Family, tier: Tier) -> Markup:
    model = tier.model
    cost = [percent(model.mean(ACCURACY)) + " accuracy"] if model and model.mean(ACCURACY) is not None else []
    if model and model.text_ms:
        faster = f", {times(model.speedup)} as fast as dense" if model.speedup else ""
        cost.append(f"{milliseconds(model.text_ms)} a text{faster}")
    if model and number(at(model.document, "bytes")):
        cost.append(size(number(at(model.document, "bytes"))))
    reasons = texts(at(tier.document, "verdict", "reasons"))
    # A gate that failed is told below with its numbers; the verdict names it too.
    names = {f"failed: {at(gate, 'gate')}" for gate in tier.failed}
    said = [tag("li", reason) for reason in reasons if reason not in names]
    said += [tag("li", tag("strong", f"Failed gate {at(gate, 'gate')}: "), _failed(gate)) for gate in tier.failed]
    pill = tag("span", "✓ winning", class_="pill good") if tier.wins else tag("span", "only pruned", class_="pill")
    ask = str(at(tier.document, "ask") or "")
    return tag(
        "div", tag("h3", tier.name, pill, tag("span", f"asked for {ask}", class_="faint") if ask else EMPTY),
        tag("p", ", ".join(cost), class_="big") if cost else EMPTY, tag("ul", *said) if said else EMPTY,
        class_=f"verdict {'winning' if tier.wins else 'pruned'}",
    )  # fmt: skip


def _failed(gate: Mapping[str, Any]) -> str:
    measured, limit = number(at(gate, "measured")), number(at(gate, "limit"))
    why = f" ({at(gate, 'why')})" if at(gate, "why") else ""
    if measured is None:
        return f"not measured{why}."
    return f"measured {plain(measured)}, allowed {allowed(gate)} {plain(limit)}{why}."


def allowed(gate: Mapping[str, Any]) -> str:
    """Which way a gate's limit holds."""
    return "at least" if at(gate, "comparison") == "at_least" else "at most"
