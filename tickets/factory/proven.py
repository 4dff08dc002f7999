"""Proven: a family's candidates, seed by seed, and what was found of each tier. Data only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tickets.factory.plan import Ask
from tickets.factory.proof import Candidate
from tickets.factory.runs import Stage
from tickets.factory.verdict import Verdict

DENSE, ZERO, LINEAR = "dense-parent", "zero-layer-control", "tf-idf-linear-svm"
DENSE_TIER = "dense"
"""What stands in the place of a tier in the name of the dense parent's ticket."""


@dataclass(frozen=True, slots=True)
class FamilyTicket:
    """A finished ticket of a family."""

    tier: str
    id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Judged:
    """A tier of the first seed, with everything there is to say about it."""

    ask: Ask
    structure: Stage
    candidate: Candidate
    verdict: Verdict
    evaluation: dict[str, Any]
    gates: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Proven:
    """All candidates of a family: ``by_seed[name]`` has one for every seed, in order."""

    by_seed: Mapping[str, Sequence[Candidate]]
    linear: Mapping[str, Any]
    linear_hits: Any
    linear_right: Any
    controls: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By tier's name, the names of the controls of its size."""

    def first(self, name: str) -> Candidate:
        """The one that is sold: never the best seed, always the first."""
        return self.by_seed[name][0]
