"""Gates: limits on the numbers of an evaluation, as data. A gate that fails names itself, what was measured, why."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

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
        if self.measured is None:
            return f"{self.gate}: {self.number} was not measured ({self.why})"
        word = "passed" if self.passed else "failed"
        sign = "at most" if self.comparison == "at_most" else "at least"
        return f"{self.gate} {word}: {self.number} is {self.measured:g}, {sign} {self.limit:g} is allowed ({self.why})"


def load_gates(path: Path | None = None) -> list[Gate]:
    """Read a TOML file of gates; by default the factory's own. Raises GateError, OSError."""
    if path is None:
        text = resources.files(__package__).joinpath("gates.toml").read_text(encoding="utf-8")
        return _parse(text, "gates.toml")
    return _parse(path.read_text(encoding="utf-8"), path.name)


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
    return Gate(
        name, table["number"], limits[0], float(table[limits[0]]), table.get("why", ""), table.get("optional", False)
    )
