"""Records as the factory writes them, made up: three seeds, four tiers, controls, fifteen classes. The numbers are
plausible and seeded; they are of no real run.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tickets.factory.record import RunRecord

LABELS = (
    "account_blocked",
    "balance",
    "bill_balance",
    "bill_due",
    "freeze_account",
    "interest_rate",
    "min_payment",
    "order_checks",
    "pay_bill",
    "pin_change",
    "report_fraud",
    "routing",
    "spending_history",
    "transactions",
    "transfer",
)
TIERS = (
    # name, ask, accuracy, auroc, texts/s, parameters, heads, neurons, source layers, hidden, wins
    (
        "accurate",
        "4x",
        0.9672,
        0.981,
        1130,
        4.9e6,
        [6, 7, 5, 6, 4, 6],
        [768, 640, 512, 512, 640, 768],
        [0, 1, 2, 3, 4, 5],
        384,
    ),
    ("balanced", "8x", 0.9638, 0.979, 2260, 3.1e6, [4, 5, 0, 4, 3], [384, 512, 256, 0, 384], [0, 1, 3, 4, 5], 384),
    ("fast", "16x", 0.9571, 0.974, 4490, 2.2e6, [3, 4, 3], [256, 384, 256], [0, 3, 5], 384),
    ("instant", "32x", 0.9402, 0.958, 8850, 1.3e6, [2, 3], [128, 256], [0, 5], 256),
)
CONTROLS = {"random": (0.021, 0.012), "worst": (0.047, 0.03), "reinit": (0.085, 0.055)}
SHIFTS = {"typos": 9.0, "upper case": 0.2, "truncated": 14.0, "words dropped": 5.5}
HOST = {
    "machine": "x86_64",
    "cores": 2,
    "python": "3.11.7",
    "code": "0f1e2d3c4b5a",
    "tombola": "0.1.0",
    "torch": "2.13.0",
}


def record(kind: str, result: Mapping[str, Any] | None = None, **changes: Any) -> RunRecord:
    """A record of this kind that is done, or as ``changes`` say."""
    description: dict[str, Any] = {
        "factory": "tombola-factory/2",
        "domain": "banking",
        "data": {"train": sha("train"), "test": sha("test")},
        "backbone": {"name": "sentence-transformers/all-MiniLM-L6-v2", "sha256": sha("backbone")},
        "plan": {"seed": 0, "seeds": 3, "dense": {"epochs": 10, "learning_rate": 2.5e-4}, "student": {"epochs": 25}},
        "compute": {"device": "cpu", "precision": "bf16"},
    }
    whole: dict[str, Any] = {
        "id": f"{kind}-banking-{sha(kind)[:12]}",
        "kind": kind,
        "status": "done",
        "command": f"tombola {kind} --data clinc150_full.json --domain banking --seeds 3",
        "description": description,
        "host": HOST,
        "started_at": "2026-11-20T10:00:00+00:00",
        "seconds": 812.4,
        "stages": stages(),
        "result": dict(result or {}),
    }
    return RunRecord(**(whole | changes))


def stages() -> list[dict[str, Any]]:
    rows = [
        ("dense", 214.0, True),
        ("signals", 41.2, True),
        *((f"tier-{t[0]}", 96.0 - 9 * i, False) for i, t in enumerate(TIERS)),
        ("quantized", 21.5, False),
        ("evaluated", 33.0, False),
    ]
    return [
        {"name": name, "key": sha(name), "folder": f"{name}-{sha(name)[:16]}", "seconds": seconds, "reused": reused}
        for name, seconds, reused in rows
    ]


def found(domain: str = "banking", labels: tuple[str, ...] = LABELS, seed: int = 0) -> dict[str, Any]:
    """The result of `tombola find`."""
    random = np.random.default_rng(seed)
    models: dict[str, Any] = {
        "tf-idf-linear-svm": model(random, 0.921, 0.931, 1),
        "dense-parent": model(random, 0.9723, 0.984, 3, speed=278.0, parameters=22_450_711, size=89_811_438)
        | {"structure": structure(384, [12] * 6, [1536] * 6, list(range(6)), 30522)},
        "zero-layer-control": model(random, 0.9288, 0.941, 3, speed=61_000.0, parameters=1_104_919, size=1_309_024)
        | {"structure": structure(384, [], [], [], 6000)},
    }
    tiers, lineage, parent = [], [{"id": sha("dense"), "name": "dense-parent", "parent": None}], None
    for name, ask, accuracy, area, speed, parameters, heads, neurons, layers, hidden in TIERS:
        own, ticket, wins = f"{domain}-{name}", sha(name), name in ("accurate", "balanced", "fast")
        models[own] = model(
            random, accuracy, area, 3, speed=speed, parameters=int(parameters), size=int(parameters * 1.1)
        )
        models[own]["structure"] = structure(hidden, heads, neurons, layers, 6000)
        models[own]["evaluation"] = evaluation(random, accuracy, labels)
        for control, (loss, less) in CONTROLS.items():
            models[f"{own}-{control}"] = model(
                random, accuracy - loss, area - less, 3, parameters=int(parameters), size=int(parameters)
            )
        tiers.append(
            {
                "tier": name,
                "ask": ask,
                "budget_ms": 57.5 / int(ask[:-1]),
                "predicted_ms": 57.1 / int(ask[:-1]),
                "measured_ms": 56.6 / int(ask[:-1]),
                "score": "fisher",
                "ticket": ticket,
                "parent": parent,
                "structure": models[own]["structure"],
                "verdict": verdict(wins),
                "gates": gates(wins),
            }
        )
        lineage.append({"id": ticket, "name": own, "parent": parent or sha("dense")})
        parent = ticket
    return {
        "domain": domain,
        "labels": list(labels),
        "test_texts": {"in": 450, "out": 1000, "near": 500},
        "notes": ["dropped 5 training texts that also stand in validation or test"],
        "seeds": [0, 1, 2],
        "tiers": tiers,
        "models": models,
        "lineage": lineage,
    }


def structure(hidden: int, heads: list[int], neurons: list[int], layers: list[int], vocabulary: int) -> dict[str, Any]:
    return {"hidden": hidden, "heads": heads, "ffn_neurons": neurons, "layers": layers, "vocabulary": vocabulary}


def model(
    random: np.random.Generator,
    accuracy: float,
    area: float,
    seeds: int,
    *,
    speed: float | None = None,
    parameters: int | None = None,
    size: int | None = None,
) -> dict[str, Any]:
    per_seed = [
        {
            "seed": s,
            "in_scope_accuracy": min(1.0, accuracy + random.normal(0, 0.003)),
            "out_of_scope_auroc": min(1.0, area + random.normal(0, 0.0025)),
            "out_of_scope_recall": min(1.0, area - 0.12 + random.normal(0, 0.01)),
            "expected_calibration_error": 0.02,
        }
        for s in range(seeds)
    ]
    out: dict[str, Any] = {k: v for k, v in per_seed[0].items() if k != "seed"}
    out |= {
        "in_scope_accuracy_ci": [out["in_scope_accuracy"] - 0.018, min(1.0, out["in_scope_accuracy"] + 0.016)],
        "out_of_scope_recall_ci": [out["out_of_scope_recall"] - 0.02, out["out_of_scope_recall"] + 0.02],
        "by_seed": per_seed,
    }
    if parameters:
        out |= {"parameters": parameters, "bytes": size}
    if speed:
        times = speed / 278.0
        out["speed"] = {
            "texts_per_s": speed,
            "speedup": [times, times * 0.96, times * 1.05],
            "alone_ms": 1400 / speed,
            "p50_ms": 1380 / speed,
            "p95_ms": 1600 / speed,
            "p99_ms": 2100 / speed,
        }
    return out


def verdict(wins: bool) -> dict[str, Any]:
    against = {
        name: {
            "points": 100 * loss if wins else 20 * loss,
            "points_ci": [60 * loss if wins else -60 * loss, 140 * loss],
            "wins": 3 if wins else 2,
            "seeds": 3,
            "p": 0.0004 if wins else 0.21,
        }
        for name, (loss, _) in CONTROLS.items()
    }
    told = "ahead of all 3 controls; the nearest, random, by +2.10 points"
    lost = ["not clearly ahead of random: +0.42 points [-1.26, +2.94], p = 0.21", "failed: accuracy_loss"]
    return {"label": "winning" if wins else "pruned", "reasons": [told] if wins else lost, "against": against}


def gates(passed: bool) -> list[dict[str, Any]]:
    rows = [
        (
            "accuracy_loss",
            "accuracy.loss_points",
            0.6 if passed else 3.2,
            "at_most",
            1.0,
            "in-scope accuracy against the dense parent, in points",
        ),
        (
            "out_of_scope_auroc",
            "out_of_scope.out.auroc_loss",
            0.004,
            "at_most",
            0.01,
            "whether out-of-scope queries are still told apart",
        ),
        ("in_scope_kept", "out_of_scope.kept", 0.971, "at_least", 0.94, "in-scope queries that are not refused"),
        ("calibration", "calibration.ece", 0.021, "at_most", 0.05, "stated confidence against what is right"),
        ("forgetting", "forgetting.forgotten_count", 0, "at_most", 0, "no class is given up"),
    ]
    return [
        {
            "gate": g,
            "number": n,
            "measured": m,
            "comparison": c,
            "limit": limit,
            "why": why,
            "passed": m <= limit if c == "at_most" else m >= limit,
        }
        for g, n, m, c, limit, why in rows
    ]


def evaluation(random: np.random.Generator, accuracy: float, labels: tuple[str, ...]) -> dict[str, Any]:
    """As `tickets.factory.evaluation.suite.evaluate_ticket` writes it."""
    loss = 100 * (0.9723 - accuracy)
    classes: list[dict[str, Any]] = []
    for label in labels:
        parent = 1 - random.integers(0, 3) / 30
        drop = max(-1, int(random.poisson(0.25 * loss))) if random.random() < 0.7 else -int(parent < 0.95)
        classes.append(
            {
                "label": label,
                "texts": 30,
                "parent": parent,
                "ticket": parent - drop / 30,
                "drop_points": 100 * drop / 30,
                "p": 0.03 if drop > 4 else 1.0,
            }
        )
    return {
        "version": 1,
        "accuracy": {
            "in_scope": accuracy,
            "parent": 0.9723,
            "loss_points": loss,
            "loss_points_ci": [loss - 1.6, loss + 1.5],
            "loss_points_at_most": loss + 1.5,
            "mcnemar_p": 0.21,
        },
        "calibration": {
            "temperature": 1.31,
            "ece_before": 0.061,
            "ece": 0.021,
            "ece_equal_mass": 0.024,
            "brier": 0.07,
            "nll": 0.21,
            "parent_ece": 0.018,
            "ece_increase": 0.003,
            "bins": {"before": bins(random, 0.09), "after": bins(random, 0.015)},
        },
        "out_of_scope": {
            "kept": 0.971,
            "out": {
                "recall": 0.84,
                "auroc": 0.97,
                "recall_at": {"99": 0.71, "97": 0.84, "95": 0.9},
                "auroc_loss": 0.004,
                "recall_loss_points": 1.2,
            },
        },
        "subgroups": {
            key: [
                {
                    "group": g,
                    "from": 3.0 * i,
                    "to": 3.0 * i + 3,
                    "texts": 150,
                    "ticket": accuracy - 0.01 + 0.01 * i,
                    "parent": 0.97,
                }
                for i, g in enumerate(("least", "middle", "most"))
            ]
            for key in ("frequency", "length")
        },
        "agreement": {"share": accuracy - 0.01, "churn": 1.01 - accuracy, "mean_kl": 0.08},
        "forgetting": {
            "classes": classes,
            "forgotten": [],
            "forgotten_count": 0,
            "worst_drop_points": max(float(c["drop_points"]) for c in classes),
            "lost_texts": [3, 17],
        },
        "shift": {
            name: {
                "accuracy": accuracy - drop / 100,
                "out_of_scope_recall": 0.83,
                "drop_points": drop + 0.4 * loss,
                "parent_drop_points": drop,
                "extra_drop_points": 0.4 * loss,
            }
            for name, drop in SHIFTS.items()
        },
        "shift_extra_drop_points": 0.4 * loss,
    }


def bins(random: np.random.Generator, gap: float) -> list[dict[str, float]]:
    out = []
    for b in range(3, 15):
        confidence = (b + 0.5) / 15
        accuracy = float(np.clip(confidence + gap + random.normal(0, 0.02), 0, 1))
        out.append(
            {
                "from": b / 15,
                "to": (b + 1) / 15,
                "texts": int(3 * math.exp(0.42 * (b - 3))),
                "confidence": confidence,
                "accuracy": accuracy,
            }
        )
    return out


def lottery(levels: int = 13, layers: int = 3) -> dict[str, Any]:
    """The result of `tombola lottery` on digits."""
    random = np.random.default_rng(1)
    names = [f"fc{i + 1}.weight" for i in range(layers)]
    rows, verdicts = [], []
    for level in range(levels):
        density = 0.8**level
        branches = {}
        for name, fall in (("ticket", 0.006), ("random", 0.05), ("reinit", 0.032), ("shuffled", 0.04)):
            if level == 0 and name != "ticket":
                continue
            loss = fall * (1 / math.sqrt(density) - 1) ** 1.4 - (0.002 * min(level, 5) if name == "ticket" else 0)
            seeds = [float(np.clip(0.976 - loss + random.normal(0, 0.002), 0.1, 1)) for _ in range(3)]
            steps = [
                int(900 * (1.4 - 0.05 * level if name == "ticket" else 1.2 + 0.06 * level) + random.normal(0, 60))
                for _ in range(3)
            ]
            branches[name] = {"accuracy": seeds, "loss": [1 - s for s in seeds], "early_stop_step": steps}
        rows.append(
            {
                "level": level,
                "density": density,
                "branches": branches,
                "per_layer": {n: min(1.0, density ** (1.1 - 0.25 * i)) for i, n in enumerate(names)},
            }
        )
        verdicts.append(
            {
                "level": level,
                "density": density,
                "label": "winning" if 2 <= level <= 10 else "pruned",
                "matches_dense": level <= 10,
                "against": {
                    n: {"points": 2.0 + level / 5, "points_ci": [0.4, 3.8], "wins": 3, "seeds": 3, "p": 0.004}
                    for n in branches
                    if n != "ticket"
                },
            }
        )
    return {
        "network": "mlp",
        "data": "digits",
        "method": "weight",
        "rewind": "0",
        "scope": "global",
        "fraction": 0.2,
        "levels": rows,
        "seeds": [0, 1, 2],
        "verdict": verdicts,
        "matching_density": 0.8**10,
    }


DOMAINS = ("banking", "credit_cards", "kitchen_and_dining", "home", "travel")


def transferred() -> dict[str, Any]:
    """The result of `tombola transfer`."""
    random = np.random.default_rng(2)
    easy = random.uniform(0.93, 0.985, len(DOMAINS))
    by_seed = [
        [
            [float(easy[b] - (0 if a == b else random.uniform(0.002, 0.03))) for b in range(len(DOMAINS))]
            for a in range(len(DOMAINS))
        ]
        for _ in range(2)
    ]
    return {
        "domains": list(DOMAINS),
        "density": 0.4096,
        "levels": 4,
        "seeds": [0, 1],
        "epochs": 3,
        "test_texts": [450] * len(DOMAINS),
        "accuracy": np.mean(by_seed, axis=0).tolist(),
        "accuracy_by_seed": by_seed,
        "random": [float(value - 0.07) for value in easy],
        "dense": [float(value + 0.004) for value in easy],
        "summary": {
            "own": 0.96,
            "others": 0.944,
            "random": 0.89,
            "dense": 0.964,
            "own_minus_others": {"points": 1.61, "points_ci": [0.9, 2.2]},
            "own_minus_random": {"points": 7.0, "points_ci": [5.8, 8.1]},
            "own_minus_dense": {"points": -0.4, "points_ci": [-0.9, 0.2]},
        },
    }


def patterns() -> dict[str, Any]:
    """The result of `tombola patterns`."""

    def form(accuracy: float, zeros: float, size: int) -> dict[str, Any]:
        return {
            "in_scope_accuracy": accuracy,
            "zeros": zeros,
            "bytes": size,
            "out_of_scope_auroc": accuracy + 0.01,
            "against_dense": {"points": 100 * (accuracy - 0.97), "points_ci": [-2.0, 0.4]},
        }

    return {
        "domain": "banking",
        "seeds": [0, 1, 2],
        "patterns": {
            "dense": {"fp32": form(0.97, 0.0, 43_000_000), "int8": form(0.969, 0.01, 11_000_000)},
            "2:4": {"fp32": form(0.965, 0.5, 43_000_000), "int8": form(0.964, 0.51, 11_000_000)},
        },
    }


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
