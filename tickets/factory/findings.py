"""Findings: a family's result as one document, for the record, the report page and REPORT.md."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tickets.factory.data import DomainData
from tickets.factory.plan import Plan
from tickets.factory.proof import Candidate
from tickets.factory.proven import DENSE, LINEAR, ZERO, FamilyTicket, Judged, Proven
from tickets.factory.quality import compare
from tickets.factory.speed import Speed
from tickets.factory.tiers import load_found

PER_SEED = (
    "in_scope_accuracy", "out_of_scope_recall", "out_of_scope_auroc", "other_domains_recall", "other_domains_auroc",
    "expected_calibration_error", "bytes",
)  # fmt: skip


def findings(
    data: DomainData,
    plan: Plan,
    proven: Proven,
    judged: Sequence[Judged],
    speeds: Mapping[str, Speed],
    tickets: Sequence[FamilyTicket],
    dense_key: str,
) -> dict[str, Any]:
    """Everything that a run found, as JSON."""
    counts = {kind: data.test.kinds.count(kind) for kind in ("in", "out", "near")}
    ids = {ticket.tier: ticket.id for ticket in tickets}
    evaluations = {one.candidate.name: one.evaluation for one in judged}
    parents = [None, *(ticket.id for ticket in tickets)]
    models: dict[str, Any] = {LINEAR: dict(proven.linear)}
    for name, candidates in proven.by_seed.items():
        models[name] = _model(name, candidates, proven, speeds, plan.seed) | (
            {"evaluation": evaluations[name]} if name in evaluations else {}
        )
    return {
        "domain": data.domain,
        "labels": list(data.labels),
        "test_texts": counts,
        "notes": list(data.notes),
        "seeds": list(range(plan.seed, plan.seed + plan.seeds)),
        "tiers": [_tier(one, plan, ids[one.ask.tier], parent) for one, parent in zip(judged, parents, strict=False)],
        "models": models,
        "lineage": [
            {"id": dense_key, "name": DENSE, "parent": None},
            *(
                {"id": ticket.id, "name": f"{data.domain}-{ticket.tier}", "parent": parent or dense_key}
                for ticket, parent in zip(tickets, parents, strict=False)
            ),
        ],
    }


def _tier(one: Judged, plan: Plan, ticket: str, parent: str | None) -> dict[str, Any]:
    found = load_found(one.structure)
    return {
        "tier": one.ask.tier, "ask": str(one.ask), "budget_ms": found.budget_ms, "predicted_ms": found.predicted_ms,
        "measured_ms": found.measured_ms, "score": plan.score, "ticket": ticket, "parent": parent,
        "structure": _structure(one.candidate), "verdict": asdict(one.verdict), "gates": one.gates,
    }  # fmt: skip


def _structure(candidate: Candidate) -> dict[str, Any]:
    structure = candidate.drawn.structure
    return {
        "hidden": structure.hidden, "heads": list(structure.heads), "ffn_neurons": list(structure.ffn_neurons),
        "layers": list(structure.source_layers), "vocabulary": structure.vocabulary,
    }  # fmt: skip


def _model(
    name: str, candidates: Sequence[Candidate], proven: Proven, speeds: Mapping[str, Speed], first_seed: int
) -> dict[str, Any]:
    first = candidates[0]
    entry: dict[str, Any] = dict(first.report)
    if name in speeds:
        entry["speed"] = asdict(speeds[name])
    entry["structure"] = _structure(first)
    entry["against_dense"] = compare(first.hits, proven.first(DENSE).hits)
    entry["against_linear_svm"] = compare(first.hits, proven.linear_hits)
    entry["against_zero_layers"] = compare(first.hits, proven.first(ZERO).hits)
    entry["by_seed"] = [
        {"seed": seed, **{key: one.report[key] for key in PER_SEED if key in one.report}}
        for seed, one in enumerate(candidates, first_seed)
    ]
    return entry
