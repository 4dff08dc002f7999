"""Grown: every model of a family, seed by seed, before any of them is judged.

Owns the order of things: dense parents, what they teach, the zero-layer control, then tier after tier, each child cut
from the tier before, with its controls beside it. Every long step is a resumable stage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tickets.factory.int8 import Quantizer
from tickets.factory.plan import Ask, Control
from tickets.factory.runs import Stage
from tickets.factory.stages import Parents, Workshop
from tickets.factory.tiers import Tiers


@dataclass(frozen=True, slots=True)
class GrownTier:
    """One tier from one seed: its structure, and the quantized models."""

    ask: Ask
    structure: Stage
    ticket: Stage
    controls: Mapping[Control, Stage]


@dataclass(frozen=True, slots=True)
class Grown:
    """A family from one seed."""

    seed: int
    dense: Stage
    zero: Stage
    tiers: tuple[GrownTier, ...]


def grow(shop: Workshop, asks: Sequence[Ask]) -> list[Grown]:
    """All models of a family, from each of the plan's seeds. Raises `search.TooFast` for a tier nothing can reach."""
    plan, parents, tiers = shop.plan, Parents(shop), Tiers(shop)
    latency = tiers.latency() if any(ask.target is None for ask in asks) else None
    tiers.check_reach(asks, latency)
    seeds = range(plan.seed, plan.seed + plan.seeds)
    dense = {seed: parents.dense(seed) for seed in range(plan.seed, plan.seed + max(plan.seeds, plan.teachers))}
    teachers = [dense[plan.seed + i] for i in range(plan.teachers)]
    return [_grow(shop, asks, latency, dense[seed], parents.signals(teachers, dense[seed]), seed) for seed in seeds]


def _grow(shop: Workshop, asks: Sequence[Ask], latency: Stage | None, dense: Stage, signals: Stage, seed: int) -> Grown:
    tiers, quantizer = Tiers(shop), Quantizer(shop)
    parent, grown = dense, []
    for ask in asks:
        structure = tiers.structure(parent, signals, ask, latency)
        child = tiers.child(parent, signals, structure, "ticket", ask, seed)
        controls = {
            kind: quantizer.quantized(tiers.child(parent, signals, structure, kind, ask, seed), signals, seed)
            for kind in shop.plan.controls
        }
        grown.append(GrownTier(ask, structure, quantizer.quantized(child, signals, seed), controls))
        parent = child
    zero = quantizer.quantized(tiers.zero_layers(dense, signals, seed), signals, seed)
    return Grown(seed, dense, zero, tuple(grown))
