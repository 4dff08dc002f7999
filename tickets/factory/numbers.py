"""Numbers: what a record's result comes down to, as one flat list. For listing, comparing and tracking runs.

Pure. Reads results as they are written, older and partial ones too: what is not there is left out.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tickets.factory.record import RunRecord

MODEL_NUMBERS = (
    "in_scope_accuracy", "out_of_scope_recall", "out_of_scope_auroc", "other_domains_recall", "other_domains_auroc",
    "expected_calibration_error", "bytes", "parameters",
)  # fmt: skip
SPEED_NUMBERS = ("texts_per_s", "alone_ms", "p50_ms", "p95_ms", "p99_ms")
LEVEL_NUMBERS = ("accuracy", "loss", "early_stop_step")


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a result. ``low`` and ``high``: its interval, where there is one; ``step``: the level of pruning
    that it belongs to, else 0.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    step: int = 0


def numbers_of(record: RunRecord) -> list[Number]:
    """Every number that two runs can be compared by, in the result's order."""
    make = {"find": _find, "lottery": _lottery, "transfer": _transfer, "patterns": _patterns}.get(record.kind)
    found = make(record.result) if make else _any(record.result)
    return [number for number in found if math.isfinite(number.value)]


def headline(record: RunRecord) -> str:
    """The result in a few words; the error of a failed run; nothing where there is neither."""
    if record.status == "failed":
        return record.error.partition("\n")[0]
    result = record.result
    match record.kind:
        case "find" if tiers := dicts(at(result, "tiers")):
            wins = [str(at(tier, "tier")) for tier in tiers if at(tier, "verdict", "label") == "winning"]
            return f"{len(wins)} of {len(tiers)} tickets win{': ' + ', '.join(wins) if wins else ''}"
        case "lottery" if dicts(at(result, "levels")):
            density = number(at(result, "matching_density"))
            told = f"matches dense down to {density:.1%} of its weights" if density else "matches dense at no density"
            return f"{at(result, 'network') or 'network'}: {told}"
        case "transfer" if domains := texts(at(result, "domains")):
            points = number(at(result, "summary", "own_minus_others", "points"))
            gain = "" if points is None else f", own masks {points:+.2f} points against others'"
            return f"{len(domains)} domains at density {number(at(result, 'density')) or 0:.2f}{gain}"
        case "patterns" if found := items(at(result, "patterns")):
            return f"{len(found)} patterns"
    return ""


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested document as dotted names and texts, in its order: ``plan.dense.epochs`` -> ``10``."""
    out: dict[str, str] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{name}.")
        else:
            out[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return out


def at(document: Any, *path: str | int) -> Any:  # noqa: ANN401 - whatever a result holds
    """What stands there, or None: ``at(result, "tiers", 0, "verdict")``."""
    for part in path:
        if isinstance(document, Mapping):
            document = document.get(part)
        elif isinstance(document, Sequence) and not isinstance(document, str) and isinstance(part, int):
            document = document[part] if -len(document) <= part < len(document) else None
        else:
            return None
    return document


def number(value: Any) -> float | None:  # noqa: ANN401 - whatever a result holds
    """A finite number as float; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def numbers(values: Any) -> list[float]:  # noqa: ANN401 - whatever a result holds
    """The finite numbers of a list; a single number counts as a list of one."""
    listed = values if isinstance(values, list | tuple) else [values]
    return [found for value in listed if (found := number(value)) is not None]


def dicts(values: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401 - whatever a result holds
    """The documents in a list."""
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list | tuple) else []


def texts(values: Any) -> list[str]:  # noqa: ANN401 - whatever a result holds
    """What is in a list, as text."""
    return [str(value) for value in values] if isinstance(values, list | tuple) else []


def items(value: Any) -> list[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401 - whatever a result holds
    """The documents in a document, with their names."""
    return [(str(k), v) for k, v in value.items() if isinstance(v, Mapping)] if isinstance(value, Mapping) else []


def _one(name: str, value: Any, interval: Any = None, step: int = 0) -> Iterator[Number]:  # noqa: ANN401
    found, bounds = number(value), numbers(interval)
    low, high = bounds if len(bounds) == 2 else (None, None)
    if found is not None:
        yield Number(name, found, low, high, step)


def _find(result: Mapping[str, Any]) -> Iterator[Number]:
    for tier in dicts(at(result, "tiers")):
        name = f"tier/{at(tier, 'tier')}"
        yield from _one(f"{name}/wins", float(at(tier, "verdict", "label") == "winning"))
        yield from _one(f"{name}/failed_gates", len([g for g in dicts(at(tier, "gates")) if not at(g, "passed")]))
        yield from _one(f"{name}/measured_ms", at(tier, "measured_ms"))
    for name, model in items(at(result, "models")):
        for key in MODEL_NUMBERS:
            yield from _one(f"{name}/{key}", at(model, key), at(model, f"{key}_ci"))
        speedup = numbers(at(model, "speed", "speedup"))
        if speedup:
            yield from _one(f"{name}/speedup", speedup[0], speedup[1:])
        for key in SPEED_NUMBERS:
            yield from _one(f"{name}/{key}", at(model, "speed", key))


def _lottery(result: Mapping[str, Any]) -> Iterator[Number]:
    yield from _one("matching_density", at(result, "matching_density"))
    for i, level in enumerate(dicts(at(result, "levels"))):
        step = int(number(at(level, "level")) or i)
        yield from _one("density", at(level, "density"), step=step)
        for branch, values in items(at(level, "branches")):
            for key in LEVEL_NUMBERS:
                seeds = numbers(at(values, key))
                if seeds:
                    spread = [min(seeds), max(seeds)] if len(seeds) > 1 else None
                    yield from _one(f"{branch}/{key}", sum(seeds) / len(seeds), spread, step)


def _transfer(result: Mapping[str, Any]) -> Iterator[Number]:
    summary = at(result, "summary")
    for name, value in summary.items() if isinstance(summary, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _one(f"{name}/points", at(value, "points"), at(value, "points_ci"))
        else:
            yield from _one(f"mean/{name}", value)
    names = texts(at(result, "domains"))
    for a, mask in enumerate(names):
        for b, domain in enumerate(names):
            yield from _one(f"accuracy/{mask}/{domain}", at(result, "accuracy", a, b))
    for row in ("random", "dense"):
        for b, domain in enumerate(names):
            yield from _one(f"{row}/{domain}", at(result, row, b))


def _patterns(result: Mapping[str, Any]) -> Iterator[Number]:
    for pattern, forms in items(at(result, "patterns")):
        for form, measured in items(forms):
            for key in ("zeros", *MODEL_NUMBERS):
                yield from _one(f"{pattern}/{form}/{key}", at(measured, key), at(measured, f"{key}_ci"))
            against = at(measured, "against_dense")
            yield from _one(f"{pattern}/{form}/against_dense", at(against, "points"), at(against, "points_ci"))


def _any(result: Mapping[str, Any], prefix: str = "") -> Iterator[Number]:
    for key, value in result.items():
        if isinstance(value, Mapping):
            yield from _any(value, f"{prefix}{key}/")
        else:
            yield from _one(f"{prefix}{key}", value)
