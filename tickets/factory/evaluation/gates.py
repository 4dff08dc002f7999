"""Gates: limits on the numbers of an evaluation, as data. A gate that fails names itself, what was measured, why.

A file that asks for a number no evaluation has is refused when it is read: a gate that is optional would never fail,
any other would never pass.
"""

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from tickets.factory.evaluation.schema import numbers

_FIELDS: dict[str, tuple[type, ...]] = {
    "number": (str,), "at_most": (int, float), "at_least": (int, float), "why": (str,), "optional": (bool,),
}  # fmt: skip


class GateError(ValueError):
    """A file of gates that cannot be used; the message names file, gate and what is wrong."""


@dataclass(frozen=True, slots=True)
class Gate:
    """``number`` (a dotted path in the evaluation document) must be at most, or at least, ``limit``."""

    name: str
    number: str
    comparison: str
    limit: float
    why: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """A gate and what was measured (None: nothing was)."""

    gate: str
    number: str
    measured: float | None
    comparison: str
    limit: float
    passed: bool
    why: str

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def __str__(self) -> str:
        word = "passed" if self.passed else "failed"
        found = "was not measured" if self.measured is None else f"is {plain(self.measured)}"
        sign = "at most" if self.comparison == "at_most" else "at least"
        why = f" ({self.why})" if self.why else ""
        return f"{self.gate} {word}: {self.number} {found}, {sign} {plain(self.limit)} is allowed{why}"


def load_gates(path: Path | None = None) -> list[Gate]:
    """Read a TOML file of gates; by default the factory's own. Raises GateError, OSError."""
    if path is None:
        return _parse(resources.files(__package__).joinpath("gates.toml").read_text(encoding="utf-8"), "gates.toml")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise GateError(f"{path.name} is not TOML: it is not UTF-8 text") from error
    return _parse(text, path.name)


def check(document: Mapping[str, Any], gates: Sequence[Gate]) -> list[Checked]:
    """Every gate against an evaluation document, in order. An optional gate whose number is missing passes."""
    out = []
    for gate in gates:
        measured = number_at(document, gate.number)
        if measured is None:
            passed = gate.optional
        else:
            passed = measured <= gate.limit if gate.comparison == "at_most" else measured >= gate.limit
        out.append(Checked(gate.name, gate.number, measured, gate.comparison, gate.limit, passed, gate.why))
    return out


def number_at(document: Mapping[str, Any], path: str) -> float | None:
    """The number at a dotted path, or None."""
    found: Any = document
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def plain(number: float) -> str:
    """For people: six digits, large numbers whole, zero without a sign."""
    return f"{number:,.0f}" if abs(number) >= 1e6 else f"{number + 0.0:g}"


def _parse(text: str, file: str) -> list[Gate]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise GateError(f"{file} is not TOML: {error}") from error
    if not tables:
        raise GateError(f"{file} holds no gate; write [name], number = ..., at_most = ... for each")
    return [_gate(name, table, file) for name, table in tables.items()]


def _gate(name: str, table: Any, file: str) -> Gate:  # noqa: ANN401 - whatever the file holds
    if not isinstance(table, dict):
        raise GateError(f"{file}: {name!r} is not a gate; write [{name}] and its fields below")
    unknown = sorted(set(table) - set(_FIELDS))
    if unknown:
        raise GateError(f"{file}, gate {name!r}: unknown field {unknown[0]!r}; there are: {', '.join(_FIELDS)}")
    for key, value in table.items():
        if not isinstance(value, _FIELDS[key]) or (isinstance(value, bool) and key != "optional"):
            raise GateError(f"{file}, gate {name!r}: {key} cannot be {value!r}")
    limits = [key for key in ("at_most", "at_least") if key in table]
    if len(limits) != 1 or "number" not in table:
        raise GateError(f"{file}, gate {name!r}: give `number`, and exactly one of `at_most` and `at_least`")
    limit = float(table[limits[0]])
    if not math.isfinite(limit):
        raise GateError(f"{file}, gate {name!r}: {limits[0]} cannot be {limit}; every ticket would do, or none")
    if table["number"] not in numbers():
        raise GateError(f"{file}, gate {name!r}: {_unknown(table['number'])}")
    return Gate(name, table["number"], limits[0], limit, table.get("why", ""), table.get("optional", False))


def _unknown(number: str) -> str:
    """What to write instead: what stands in the part that was named, what looks alike, else the parts there are."""
    parts: dict[str, list[str]] = {}
    for one in numbers():
        parts.setdefault(one.split(".")[0], []).append(one)
    near = [] if number in parts else difflib.get_close_matches(number, numbers(), n=3, cutoff=0.75)
    if near:
        return f"there is no number {number!r}; did you mean {' or '.join(near)}?"
    part = number.split(".")[0]
    if part in parts:
        return f"there is no number {number!r}; in {part} there are: {', '.join(parts[part])}"
    return f"there is no number {number!r}; numbers begin with: {', '.join(parts)} (docs/evaluation.md has them all)"
