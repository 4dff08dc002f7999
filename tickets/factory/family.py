"""A family: one domain's tickets from the accurate tier to the fast one, made in one run.

Owns the order of things: dense parent, its signals, the controls, then tier after tier, each
child cut from the tier before; then all speeds in one measurement, then the bundles. Every
long step is a resumable stage.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from tickets.bundle import ticket_id
from tickets.factory import speed
from tickets.factory.backbone import Backbone
from tickets.factory.compute import Compute
from tickets.factory.controls import LinearControl
from tickets.factory.data import DomainData
from tickets.factory.loop import Progress
from tickets.factory.proof import Candidate, Prover
from tickets.factory.quality import compare, correct, fit, measure
from tickets.factory.runs import Runs, Stage
from tickets.factory.shrink import Target
from tickets.factory.speed import Speed
from tickets.factory.stages import Plan, Stages
from tickets.manifest import Lineage

ZERO_LAYERS = Target(0, 0, 0)


@dataclass(frozen=True, slots=True)
class TierTarget:
    """A tier's name and the structure it asks for."""

    tier: str
    target: Target


@dataclass(frozen=True, slots=True)
class FamilyTicket:
    """A finished ticket of a family."""

    tier: str
    id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Family:
    """The finished family, and the report: one entry per model, controls and dense parent included."""

    domain: str
    tickets: tuple[FamilyTicket, ...]
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """How a run is watched: one-line announcements, and progress of long steps."""

    announce: Callable[[str], None]
    progress: Callable[[str], Progress]


def find_family(
    data: DomainData,
    backbone: Backbone,
    tiers: list[TierTarget],
    plan: Plan,
    *,
    compute: Compute,
    runs: Runs,
    view: View,
    samples: Sequence[str] = (),
    with_evidence: bool = False,
) -> Family:
    """Find, prove and pack one ticket per tier. ``with_evidence``: the test texts travel in the tickets.

    Raises ValueError for tiers that cannot be cut in this order.
    """
    _check_tiers(tiers, backbone)
    plan = replace(plan, max_tokens=min(plan.max_tokens, backbone.max_positions))
    stages = Stages(runs, data, backbone, plan, compute, view.progress)
    prover = Prover(data, backbone, plan, samples)
    dense = stages.dense()
    signals = stages.signals([dense, *(stages.dense(replica) for replica in range(1, plan.teachers))])
    zero = stages.tier(dense, signals, ZERO_LAYERS)
    made: list[tuple[TierTarget, Stage]] = []
    for wanted in tiers:
        parent = made[-1][1] if made else dense
        made.append((wanted, stages.tier(parent, signals, wanted.target)))
    view.announce("proving: quantize, check, calibrate, measure")
    candidates = [
        prover.candidate("dense-parent", None, dense, int8=False),
        prover.candidate("zero-layer-control", None, zero, int8=True),
        *(prover.candidate(f"{data.domain}-{w.tier}", w.tier, stage, int8=True) for w, stage in made),
    ]
    speeds = _speeds(prover, candidates, data, view)
    if with_evidence:
        prover.carry_evidence(candidates[0])
    tickets = _pack(prover, candidates[2:], speeds, lambda parent: prover.lineage(dense, parent, _recipe(plan)))
    return Family(data.domain, tuple(tickets), _report(data, plan, candidates, speeds))


def _check_tiers(tiers: list[TierTarget], backbone: Backbone) -> None:
    """Before anything is trained: the first tier fits the backbone, each other one the tier before."""
    if not tiers:
        raise ValueError("no tiers: name at least one, e.g. --tiers fast=1x4x384")
    names = [t.tier for t in tiers]
    if len(set(names)) != len(names):
        raise ValueError(f"tier names are not unique: {', '.join(names)}")
    neurons = backbone.weights["layers.0.up.bias"].shape[0]
    whole = TierTarget("the backbone", Target(backbone.layers, backbone.heads, neurons))
    for before, after in pairwise([whole, *tiers]):
        a, b = before.target, after.target
        if b.layers > a.layers or b.heads > a.heads or b.neurons > a.neurons:
            raise ValueError(f"tier {after.tier} ({b}) is larger than {before.tier} ({a}); go from large to small")


def _speeds(prover: Prover, candidates: list[Candidate], data: DomainData, view: View) -> dict[str, Speed]:
    progress, done = view.progress("measuring speed on one core"), 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, speed.ROUNDS, 0.0)

    references = {c.name: prover.reference(c) for c in candidates}
    return speed.measure(references, "dense-parent", data.test.of_kind("in").texts, tick)


def _pack(
    prover: Prover, candidates: list[Candidate], speeds: dict[str, Speed], lineage: Callable[[str | None], Lineage]
) -> list[FamilyTicket]:
    """Pack from the largest to the smallest, each naming the one before as its parent."""
    tickets: list[FamilyTicket] = []
    for candidate in candidates:
        parent = tickets[-1].id if tickets else None
        # "winning" needs the random, shuffled and re-initialised controls; until they run, "pruned" is the word.
        bundle = prover.ticket(candidate, speeds[candidate.name], lineage(parent), "pruned")
        assert candidate.tier is not None
        tickets.append(FamilyTicket(candidate.tier, ticket_id(bundle), bundle))
    return tickets


def _recipe(plan: Plan) -> dict[str, Any]:
    return {**asdict(plan), "quantization": "static, MSE ranges"}


def _report(data: DomainData, plan: Plan, candidates: list[Candidate], speeds: dict[str, Speed]) -> dict[str, Any]:
    dense, zero = candidates[0], candidates[1]
    linear, linear_hits = _linear(data, plan)
    models: dict[str, Any] = {"tf-idf-linear-svm": linear}
    for candidate in candidates:
        entry = dict(candidate.report) | {"speed": asdict(speeds[candidate.name])}
        entry["against_dense"] = compare(candidate.hits, dense.hits)
        entry["against_linear_svm"] = compare(candidate.hits, linear_hits)
        entry["against_zero_layers"] = compare(candidate.hits, zero.hits)
        entry["structure"] = {
            "layers": list(candidate.shape_report.source_layers), "heads": candidate.shape_report.heads,
            "ffn_neurons": candidate.shape_report.ffn_neurons, "vocabulary": candidate.shape_report.vocabulary,
        }  # fmt: skip
        models[candidate.name] = entry
    counts = {kind: data.test.kinds.count(kind) for kind in ("in", "out", "near")}
    return {"domain": data.domain, "test_texts": counts, "notes": list(data.notes), "models": models}


def _linear(data: DomainData, plan: Plan) -> tuple[dict[str, Any], Any]:
    model = LinearControl(data, plan.seed)
    validation, test = model.logits(data.validation), model.logits(data.test)
    calibrated = fit(validation, data.validation.targets, np.asarray(data.validation.kinds))
    kinds = np.asarray(data.test.kinds)
    return measure(test, data.test.targets, kinds, calibrated), correct(test, data.test.targets, kinds)
