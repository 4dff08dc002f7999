"""Verdicts: whether a ticket wins against its controls. Pure statistics on right and wrong decisions.

Two things vary: the seed a model was trained from, and the texts it was tested on. Differences are paired in both.
Their variance is the sum of what seeds and what texts contribute (Owen & Eckles 2012, "Bootstrapping data arrays of
arbitrary order", section 3: the sum of one-way variances is an upper bound for a two-way mean); the degrees of freedom
are Welch's and Satterthwaite's, so that three seeds that disagree weigh what three numbers weigh. Holm's step-down
(1979) makes each "ahead of this control" hold among all of them; a ticket must be ahead of every one.
`docs/tickets-and-controls.md` has the measured error rates and what can be detected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tickets.factory.quality import Calibrated, Floats, Kinds, Targets, in_scope_scores

FEWEST_SEEDS = 3
ALPHA = 0.05

Bools = NDArray[np.bool_]
Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Replicates:
    """``hits`` [seeds, texts]: whether the model from that seed decided that text rightly."""

    hits: Bools


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ticket minus control, in points of 100: mean, 95 % interval, in how many seeds the ticket is ahead. ``p`` is
    two-sided (below 0.05 exactly where the interval leaves out zero) and, out of `judge`, Holm's over the controls.
    """

    points: float
    points_ci: tuple[float, float]
    wins: int
    seeds: int
    p: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """``label``: ``winning`` or ``pruned``; ``reasons`` in plain words; ``against``: by control."""

    label: str
    reasons: tuple[str, ...]
    against: dict[str, Comparison]


def decisions(logits: Floats, targets: Targets, kinds: Kinds, calibrated: Calibrated) -> Bools:
    """For each text whether what the ticket decides at its frozen threshold is right: an in-scope text is kept and gets
    its label, any other is refused. ``logits`` [n, labels + 1].
    """
    kept = in_scope_scores(logits, calibrated) >= calibrated.threshold
    right = logits[:, :-1].argmax(axis=1) == targets
    return np.asarray(np.where(kinds == "in", kept & right, ~kept))


def weights(kinds: Kinds) -> Weights:
    """Of each text, summing to one: in scope and out of scope count half each, whatever the test split's mix is, and
    of the out-of-scope half each kind of text as much as the other.
    """
    out = np.zeros(len(kinds))
    outside = [kind for kind in ("out", "near") if (kinds == kind).any()]
    for kind in ("in", *outside):
        chosen = kinds == kind
        share = 0.5 / len(outside) if kind != "in" else 0.5
        out[chosen] = share / chosen.sum()
    return np.asarray(out / out.sum())


def compare_replicates(ticket: Replicates, control: Replicates, weights: Weights | None = None) -> Comparison:
    """Ticket minus control over paired seeds and texts. Raises ValueError for arrays of different shapes."""
    return _described(*_difference(ticket, control, weights))


def judge(
    ticket: Replicates,
    controls: Mapping[str, Replicates],
    *,
    gates_failed: Sequence[str] = (),
    alpha: float = ALPHA,
    weights: Weights | None = None,
) -> Verdict:
    """*winning* where the ticket is ahead of every control beyond chance and no gate failed; else *pruned*.

    All controls have the ticket's shape [seeds, texts]; one without seeds of its own stands there once per seed. Raises
    ValueError otherwise.
    """
    against = {name: compare_replicates(ticket, control, weights) for name, control in controls.items()}
    adjusted = holm([one.p for one in against.values()])
    against = {
        name: Comparison(one.points, one.points_ci, one.wins, one.seeds, p)
        for (name, one), p in zip(against.items(), adjusted, strict=True)
    }
    reasons = []
    seeds = len(ticket.hits)
    if seeds < FEWEST_SEEDS:
        reasons.append(f"only {seeds} seed{'s' * (seeds != 1)}; a verdict needs {FEWEST_SEEDS}")
    if not controls:
        reasons.append("no controls to beat")
    reasons += [_lost(name, one) for name, one in against.items() if not (one.points > 0 and one.p < alpha)]
    reasons += [f"failed: {name}" for name in gates_failed]
    if reasons:
        return Verdict("pruned", tuple(reasons), against)
    least = min(against.items(), key=lambda entry: entry[1].points)
    told = f"ahead of all {len(against)} controls; the nearest, {least[0]}, by {least[1].points:+.2f} points"
    return Verdict("winning", (told,), against)


def matches(
    ticket: Replicates, dense: Replicates, *, margin_points: float = 1.0, weights: Weights | None = None
) -> bool:
    """Whether the ticket is not worse than ``dense`` by the margin or more: non-inferiority, one-sided 2.5 %.

    With a single seed this speaks of those two models, not of how they were made.
    """
    return compare_replicates(ticket, dense, weights).points_ci[0] > -margin_points


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    order = np.argsort(np.asarray(ps), kind="stable")
    out = np.zeros(len(ps))
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        out[i] = highest
    return [float(p) for p in out]


def _difference(
    ticket: Replicates, control: Replicates, weights: Weights | None
) -> tuple[NDArray[np.float64], float, float]:
    """Per-seed means [seeds] in points, the variance of their mean, and its degrees of freedom."""
    if ticket.hits.shape != control.hits.shape:
        raise ValueError(f"ticket and control differ in shape: {ticket.hits.shape} and {control.hits.shape}")
    seeds, texts = ticket.hits.shape
    w = np.full(texts, 1 / texts) if weights is None else weights / weights.sum()
    difference = 100.0 * (ticket.hits.astype(np.float64) - control.hits.astype(np.float64))
    by_seed = difference @ w
    by_text = difference.mean(axis=0)
    of_texts = float((w**2 * (by_text - by_text @ w) ** 2).sum() * texts / max(1, texts - 1))
    of_seeds = float(by_seed.var(ddof=1) / seeds) if seeds > 1 else 0.0
    variance = of_texts + of_seeds
    freedom = variance**2 / max(1e-300, of_texts**2 / max(1, texts - 1) + of_seeds**2 / max(1, seeds - 1))
    return by_seed, variance, max(1.0, freedom)


def _described(by_seed: NDArray[np.float64], variance: float, freedom: float) -> Comparison:
    mean, error = float(by_seed.mean()), float(np.sqrt(variance))
    if error == 0:
        p, reach = (0.0 if mean else 1.0), 0.0
    else:
        p, reach = float(2 * stats.t.sf(abs(mean) / error, freedom)), float(stats.t.ppf(0.975, freedom)) * error
    return Comparison(
        round(mean, 4), (round(mean - reach, 4), round(mean + reach, 4)), int((by_seed > 0).sum()), len(by_seed), p
    )


def _lost(name: str, one: Comparison) -> str:
    low, high = one.points_ci
    return f"not clearly ahead of {name}: {one.points:+.2f} points [{low:+.2f}, {high:+.2f}], p = {one.p:.2g}"
