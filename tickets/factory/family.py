"""A family: one domain's tickets from the accurate tier to the fast one, made in one run, judged and packed.

Models are grown (`tickets.factory.grown`), proven (`proof`), evaluated (`evaluation`), judged against their controls
(`verdict`) and their gates, measured side by side (`speed`), and packed from the largest to the smallest, each naming
the one before as its parent.
"""

from collections.abc import Callable, Mapping, Sequence
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
from tickets.factory.evaluation.gates import Gate, check
from tickets.factory.evaluation.suite import Answer, ParentAnswers, evaluate_ticket
from tickets.factory.findings import findings
from tickets.factory.grown import Grown, grow
from tickets.factory.loop import Progress
from tickets.factory.names import check_names
from tickets.factory.plan import Ask, Plan
from tickets.factory.proof import Candidate, Prover
from tickets.factory.proven import DENSE, DENSE_TIER, LINEAR, ZERO, FamilyTicket, Judged, Proven
from tickets.factory.quality import fit, measure
from tickets.factory.runs import Runs
from tickets.factory.speed import Speed
from tickets.factory.stages import Workshop
from tickets.factory.verdict import Replicates, Verdict, decisions, judge, weights
from tickets.manifest import Lineage


@dataclass(frozen=True, slots=True)
class Family:
    """The finished family, and the result for the run's record: one entry per model, controls and parent included.
    ``dense``: the parent as a ticket, where it was asked for.
    """

    domain: str
    tickets: tuple[FamilyTicket, ...]
    report: dict[str, Any]
    dense: FamilyTicket | None = None

    @property
    def bundles(self) -> tuple[FamilyTicket, ...]:
        """All that is to be written: the tickets, and the dense parent where it became one."""
        return self.tickets if self.dense is None else (*self.tickets, self.dense)


@dataclass(frozen=True, slots=True)
class View:
    """How a run is watched: one-line announcements, and progress of long steps."""

    announce: Callable[[str], None]
    progress: Callable[[str], Progress]


def find_family(
    data: DomainData,
    backbone: Backbone,
    asks: Sequence[Ask],
    plan: Plan,
    *,
    compute: Compute,
    runs: Runs,
    view: View,
    gates: Sequence[Gate],
    samples: Sequence[str] = (),
    with_evidence: bool = False,
    with_dense: bool = False,
) -> Family:
    """Find, prove, judge and pack one ticket per tier. ``with_evidence``: the test texts travel in the tickets.
    ``with_dense``: the dense parent becomes a ticket too, to compare with.

    Raises ValueError for tiers that cannot be cut in this order and for names that no ticket can bear,
    `search.TooFast` for a tier that nothing can reach.
    """
    _check_order(asks, backbone)
    if with_dense and any(ask.tier == DENSE_TIER for ask in asks):
        raise ValueError(f"a tier called {DENSE_TIER!r} leaves no name for the dense parent's ticket; rename the tier")
    check_names(data.domain, data.labels, [ask.tier for ask in asks])
    plan = replace(
        plan,
        max_tokens=min(plan.max_tokens, backbone.max_positions),
        rank=plan.rank if plan.rank < backbone.hidden else 0,
    )
    shop = Workshop(runs, data, backbone, plan, compute, view.progress)
    grown = grow(shop, asks)
    prover = Prover(shop, samples)
    view.announce("proving: check, calibrate, measure quality")
    proven = _prove(prover, data, grown, plan)
    tiers = [f"{data.domain}-{ask.tier}" for ask in asks]
    speeds = _speeds(prover, [proven.first(name) for name in (DENSE, ZERO, *tiers)], data, view)
    view.announce("evaluating: shift, forgetting, calibration, gates, controls")
    judged = _judge(prover, data, grown[0], proven, speeds, gates)
    if with_evidence:
        prover.carry_evidence(proven.first(DENSE))

    def lineage(parent: str | None) -> Lineage:
        return prover.lineage(grown[0].dense, parent, _recipe(plan))

    tickets = _pack(prover, judged, speeds, lineage)
    dense = _pack_dense(prover, proven.first(DENSE), speeds[DENSE], lineage(None), data) if with_dense else None
    report = findings(data, plan, proven, judged, speeds, tickets, grown[0].dense.key)
    return Family(data.domain, tuple(tickets), report, dense)


def _check_order(asks: Sequence[Ask], backbone: Backbone) -> None:
    """Before anything is trained: the first tier fits the backbone, each other one the tier before."""
    for before, after in pairwise(asks):
        for what in ("speedup", "budget_ms"):
            a, b = getattr(before, what), getattr(after, what)
            if a and b and (b < a if what == "speedup" else b > a):
                raise ValueError(f"tier {after.tier} ({after}) is larger than {before.tier} ({before}); "
                                 "go from large to small")  # fmt: skip
    neurons = backbone.weights["layers.0.up.bias"].shape[0]
    last, name = (backbone.layers, backbone.heads, neurons), "the backbone"
    for ask in asks:
        if ask.width > backbone.hidden:
            raise ValueError(f"tier {ask.tier} ({ask}) is wider than the backbone ({backbone.hidden})")
        if ask.target is None:
            continue
        asked = (ask.target.layers, ask.target.heads, ask.target.neurons)
        if any(a > b for a, b in zip(asked, last, strict=True)):
            whole = "x".join(str(n) for n in last)
            raise ValueError(f"tier {ask.tier} ({ask}) is larger than {name} ({whole}); go from large to small")
        last, name = asked, ask.tier


def _prove(prover: Prover, data: DomainData, grown: Sequence[Grown], plan: Plan) -> Proven:
    by_seed: dict[str, list[Candidate]] = {}
    controls: dict[str, list[str]] = {}

    def add(candidate: Candidate) -> None:
        by_seed.setdefault(candidate.name, []).append(candidate)

    for one in grown:
        add(prover.dense(DENSE, one.dense))
        add(prover.candidate(ZERO, None, one.zero))
        for tier in one.tiers:
            name = f"{data.domain}-{tier.ask.tier}"
            add(prover.candidate(name, tier.ask.tier, tier.ticket))
            for kind, stage in tier.controls.items():
                add(prover.candidate(f"{name}-{kind}", None, stage))
            controls[name] = [f"{name}-{kind}" for kind in tier.controls]
    linear, hits, right = _linear(data, plan)
    return Proven(by_seed, linear, hits, right, controls)


def _judge(
    prover: Prover, data: DomainData, grown: Grown, proven: Proven, speeds: Mapping[str, Speed], gates: Sequence[Gate]
) -> list[Judged]:
    dense = proven.first(DENSE)
    parent = ParentAnswers(_answering(prover, dense), data, dense.calibrated)
    judged = []
    for tier in grown.tiers:
        candidate = proven.first(f"{data.domain}-{tier.ask.tier}")
        timed = speeds[candidate.name]
        costs = speed.cost(candidate.report["bytes"], timed)
        evaluation = evaluate_ticket(_answering(prover, candidate), parent, data, candidate.calibrated, cost=costs)
        checked = check(evaluation, gates)
        missed = tier.ask.missed(timed.speedup[0], timed.batch_p50_ms)
        failed = [*(one.gate for one in checked if not one.passed), *filter(None, [missed])]
        verdict = _verdict(proven, candidate.name, data, failed)
        judged.append(
            Judged(tier.ask, tier.structure, candidate, verdict, evaluation, [asdict(one) for one in checked])
        )
    return judged


def _answering(prover: Prover, candidate: Candidate) -> Answer:
    reference = prover.open(candidate.drawn)
    return lambda texts: prover.logits(reference, tuple(texts))


def _verdict(proven: Proven, name: str, data: DomainData, failed: Sequence[str]) -> Verdict:
    def replicates(other: str) -> Replicates:
        return Replicates(np.stack([candidate.right for candidate in proven.by_seed[other]]))

    seeds = len(proven.by_seed[name])
    rivals = {other.removeprefix(f"{name}-"): replicates(other) for other in proven.controls[name]}
    rivals |= {"zero-layers": replicates(ZERO), LINEAR: Replicates(np.stack([proven.linear_right] * seeds))}
    if not proven.controls[name]:
        failed = [*failed, "no controls were trained (--controls)"]
    return judge(replicates(name), rivals, gates_failed=failed, weights=weights(np.asarray(data.test.kinds)))


def _speeds(prover: Prover, candidates: Sequence[Candidate], data: DomainData, view: View) -> dict[str, Speed]:
    progress, done = view.progress("measuring speed on one core"), 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, speed.ROUNDS, 0.0)

    references = {c.name: prover.open(c.drawn) for c in candidates}
    return speed.measure(references, DENSE, data.test.of_kind("in").texts, tick)


def _pack(
    prover: Prover, judged: Sequence[Judged], speeds: Mapping[str, Speed], lineage: Callable[[str | None], Lineage]
) -> list[FamilyTicket]:
    """Pack from the largest to the smallest, each naming the one before as its parent."""
    tickets: list[FamilyTicket] = []
    for one in judged:
        parent = tickets[-1].id if tickets else None
        found = {"verdict": asdict(one.verdict), "gates": one.gates}
        bundle = prover.ticket(one.candidate, speeds[one.candidate.name], lineage(parent), one.verdict.label, found)
        tickets.append(FamilyTicket(one.ask.tier, ticket_id(bundle), bundle))
    return tickets


def _pack_dense(prover: Prover, dense: Candidate, timed: Speed, lineage: Lineage, data: DomainData) -> FamilyTicket:
    named = replace(dense, name=f"{data.domain}-{DENSE_TIER}")
    bundle = prover.ticket(named, timed, lineage, "dense", {})
    return FamilyTicket(DENSE_TIER, ticket_id(bundle), bundle)


def _recipe(plan: Plan) -> dict[str, Any]:
    return {**asdict(plan), "quantization": "static, MSE ranges"}


def _linear(data: DomainData, plan: Plan) -> tuple[dict[str, Any], Any, Any]:
    model = LinearControl(data, plan.seed)
    validation, test = model.logits(data.validation), model.logits(data.test)
    calibrated = fit(validation, data.validation.targets, np.asarray(data.validation.kinds))
    kinds = np.asarray(data.test.kinds)
    inside = kinds == "in"
    hits = test[inside, :-1].argmax(axis=1) == data.test.targets[inside]
    return (
        measure(test, data.test.targets, kinds, calibrated), hits, decisions(test, data.test.targets, kinds, calibrated)
    )  # fmt: skip
