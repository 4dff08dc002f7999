"""A cascade of two tickets, measured on a domain's labelled texts.

Owns which texts count, what counts as right, and the report; the choice of the threshold is
`tickets.cascade`, the command line `tickets.factory.cascade_command`. The texts are a split's
in-scope ones and the data set's own out-of-scope ones. Other domains' texts count only where there
are no such: they are many and easy, and would hide what the cascade costs. Needs no torch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickets.bundle import Bundle
from tickets.cascade import (
    CascadeError,
    Measured,
    Outcomes,
    Promise,
    Threshold,
    Within,
    find_threshold,
    mean_cost,
    measure,
)
from tickets.factory.data import DomainData, Examples
from tickets.reference import Reference


@dataclass(frozen=True, slots=True)
class Answers:
    """What one ticket says of texts: ``right`` and ``confidence``, [n]."""

    right: NDArray[np.bool_]
    confidence: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pair:
    """The small and the large ticket of a cascade, opened."""

    small: Reference
    large: Reference

    @property
    def bundles(self) -> tuple[Bundle, Bundle]:
        """Small, large."""
        return self.small.bundle, self.large.bundle


@dataclass(frozen=True, slots=True)
class Split:
    """Always small, always large and the cascade on one split's texts (in scope, out of scope)."""

    texts: tuple[int, int]
    small: Measured
    large: Measured
    cascade: Measured


@dataclass(frozen=True, slots=True)
class Found:
    """A cascade with its threshold. Accuracies of both splits are taken at validation's mix of in-scope and
    out-of-scope texts; costs are the tickets' own ``service_ms``, None where one of them states none.
    """

    domain: str
    small: str
    large: str
    threshold: Threshold
    certainty: float
    promised_accuracy: float
    validation: Split
    test: Split
    cost_ms: tuple[float, float, float] | None
    """A text on average: always small, always large, the cascade."""
    notes: tuple[str, ...]
    """What makes the figures doubtful."""

    def document(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self)

    def table_entry(self, tenant: str) -> str:
        """The TOML that goes into a routing table."""
        domain = f"tenants.{tenant}.domains.{self.domain}"
        return (
            f'# and policy = "cascade" in [{domain}]\n[{domain}.cascade]\nsmall = "{self.small}"\n'
            f'large = "{self.large}"\nthreshold = {self.threshold.value:g}\naccuracy = {self.promised_accuracy:.4f}\n'
        )


def check_pair(small: Bundle, large: Bundle, domain: str) -> None:
    """Refuse pairs that cannot answer for each other, before anything is run. Raises CascadeError."""
    if small.id == large.id:
        raise CascadeError("the small and the large ticket are the same one")
    for role, bundle in (("small", small), ("large", large)):
        if bundle.manifest.domain != domain:
            raise CascadeError(f"the {role} ticket is of domain {bundle.manifest.domain!r}, not {domain!r}")
    if small.manifest.labels != large.manifest.labels:
        differ = sorted(set(small.manifest.labels) ^ set(large.manifest.labels))
        shown = f": only one of them has {', '.join(map(repr, differ[:5]))}" if differ else " in another order"
        raise CascadeError(f"the two tickets have different labels{shown}")


def counted(examples: Examples) -> Examples:
    """The texts of a split that count: in scope, and out of scope as the module says."""
    kinds = ("in", "out") if "out" in examples.kinds else ("in", "near")
    keep = [i for i, kind in enumerate(examples.kinds) if kind in kinds]
    return Examples(
        tuple(examples.texts[i] for i in keep), examples.targets[keep], tuple(examples.kinds[i] for i in keep)
    )


def answers(reference: Reference, examples: Examples, labels: Sequence[str]) -> Answers:
    """Run a ticket. An in-scope text is right where it is kept in scope and its label is right, an out-of-scope one
    where it is found out of scope.
    """
    order = np.argsort([len(text) for text in examples.texts], kind="stable")  # little padding
    said = reference.classify([examples.texts[i] for i in order])
    index = {label: i for i, label in enumerate(labels)}
    best = np.asarray([index[label] for label in said.labels], np.int64)
    found = np.empty(len(order), np.int64)
    found[order] = np.where(said.in_scope, best, len(labels))
    confidence = np.empty(len(order), np.float32)
    confidence[order] = said.confidence
    return Answers(found == examples.targets, confidence)


def outcomes(small: Answers, large: Answers, examples: Examples) -> Outcomes:
    """Both tickets' answers to the same texts, side by side."""
    return Outcomes(small.confidence, small.right, large.right, np.asarray(examples.kinds) == "in")


def find_cascade(pair: Pair, data: DomainData, promise: Promise, certainty: float) -> Found:
    """Choose the threshold on the validation split and measure it on the test split. Raises CascadeError."""
    small, large = pair.bundles
    check_pair(small, large, data.domain)
    if set(data.labels) != set(small.manifest.labels):
        raise CascadeError(f"the data's labels for domain {data.domain!r} are not the tickets' labels")
    validation, test = (_outcomes_on(pair, counted(split), data.labels) for split in (data.validation, data.test))
    threshold = find_threshold(validation, promise, certainty)
    mix = float(validation.in_scope.mean())
    on_validation = split_report(validation, threshold.value, mix)
    return Found(
        domain=data.domain,
        small=small.id,
        large=large.id,
        threshold=threshold,
        certainty=certainty,
        promised_accuracy=(
            on_validation.large.accuracy - promise.points / 100 if isinstance(promise, Within) else promise.accuracy
        ),
        validation=on_validation,
        test=split_report(test, threshold.value, mix),
        cost_ms=_costs(small, large, on_validation.cascade.answered_by_small),
        notes=tuple(_doubts(pair, data)),
    )


def split_report(outcomes: Outcomes, threshold: float, in_scope_share: float) -> Split:
    """Always small, always large and the cascade."""
    inside = int(outcomes.in_scope.sum())
    small, large, cascade = (measure(outcomes, t, in_scope_share) for t in (0.0, math.inf, threshold))
    return Split((inside, len(outcomes.in_scope) - inside), small, large, cascade)


def _outcomes_on(pair: Pair, examples: Examples, labels: Sequence[str]) -> Outcomes:
    small, large = (answers(reference, examples, labels) for reference in (pair.small, pair.large))
    return outcomes(small, large, examples)


def _doubts(pair: Pair, data: DomainData) -> Iterator[str]:
    trained_on = data.digests()["train"]
    for role, bundle in zip(("small", "large"), pair.bundles, strict=True):
        if bundle.manifest.lineage.data.get("train", trained_on) != trained_on:
            yield (
                f"the {role} ticket was made from other training texts than this data's: it may have learned some of "
                "these validation and test texts, and the promise then does not hold on others"
            )


def _costs(small: Bundle, large: Bundle, answered_by_small: float) -> tuple[float, float, float] | None:
    first, second = small.manifest.evidence.service_ms, large.manifest.evidence.service_ms
    if first is None or second is None:
        return None
    return first, second, mean_cost(first, second, answered_by_small)
