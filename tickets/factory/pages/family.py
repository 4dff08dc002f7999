"""A family as the page sees it: who is a ticket, who is a control of which tier, and each one's numbers by seed.

Pure. Reads the result of `tombola find`; what is not there is None or empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tickets.factory.numbers import at, dicts, items, number, numbers

Role = Literal["dense", "ticket", "control", "baseline"]
DENSE, ZERO, LINEAR = "dense-parent", "zero-layer-control", "tf-idf-linear-svm"


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a result. ``tier``: its ticket's or the one it is a control of; ``control``: which, for controls."""

    name: str
    role: Role
    document: Mapping[str, Any]
    tier: str = ""
    control: str = ""

    @property
    def title(self) -> str:
        """What it is called in plots and tables."""
        if self.role == "ticket":
            return self.tier
        return f"{self.tier}, {self.control}" if self.role == "control" else self.name.replace("-", " ")

    @property
    def kind(self) -> str:
        """Which series of `tickets.factory.pages.ink` it belongs to."""
        return {"ticket": "ticket", "dense": "dense", "control": self.control}.get(self.role, self.name)

    def seeds(self, key: str) -> list[float]:
        """The number at every seed; where only one was measured, that."""
        found = numbers([at(seed, key) for seed in dicts(at(self.document, "by_seed"))])
        return found or numbers([at(self.document, key)])

    def mean(self, key: str) -> float | None:
        """Over seeds; None where it was not measured."""
        found = self.seeds(key)
        return sum(found) / len(found) if found else None

    @property
    def text_ms(self) -> float | None:
        """Milliseconds of one core per text, in batches of 16."""
        speed = number(at(self.document, "speed", "texts_per_s"))
        return 1000 / speed if speed and speed > 0 else None

    @property
    def speedup(self) -> float | None:
        """How many times as fast as the dense parent, in the same batches."""
        found = numbers(at(self.document, "speed", "speedup"))
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier and its ticket's verdict."""

    name: str
    document: Mapping[str, Any]
    model: Model | None

    @property
    def wins(self) -> bool:
        """Whether its ticket may be called winning."""
        return bool(at(self.document, "verdict", "label") == "winning")

    @property
    def gates(self) -> list[Mapping[str, Any]]:
        """What was checked."""
        return dicts(at(self.document, "gates"))

    @property
    def failed(self) -> list[Mapping[str, Any]]:
        """The gates that it did not pass."""
        return [gate for gate in self.gates if not at(gate, "passed")]

    @property
    def evaluation(self) -> Mapping[str, Any]:
        """The suite's document; empty where there is none."""
        found = at(self.model.document, "evaluation") if self.model else None
        return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Family:
    """Everything that plots and tables ask of a result. ``models`` in the result's order."""

    domain: str
    models: tuple[Model, ...]
    tiers: tuple[Tier, ...]

    def named(self, name: str) -> Model | None:
        """The model of this name."""
        return next((model for model in self.models if model.name == name), None)

    def controls(self, control: str) -> list[Model]:
        """This control of every tier that has it, in the tiers' order."""
        return [m for tier in self.tiers for m in self.models if m.control == control and m.tier == tier.name]

    @property
    def control_kinds(self) -> list[str]:
        """Which controls there are."""
        return list(dict.fromkeys(model.control for model in self.models if model.role == "control"))

    @property
    def tickets(self) -> list[Model]:
        """In the tiers' order."""
        return [tier.model for tier in self.tiers if tier.model is not None]

    def cost_ms(self, model: Model) -> float | None:
        """Milliseconds per text; of a control that was not timed its ticket's, whose size it has."""
        if model.text_ms is not None or model.role != "control":
            return model.text_ms
        return next((ticket.text_ms for ticket in self.tickets if ticket.tier == model.tier), None)

    def share_kept(self, model: Model) -> float | None:
        """Its parameters as a share of the dense parent's."""
        dense = self.named(DENSE)
        whole = number(at(dense.document, "parameters")) if dense else None
        mine = number(at(model.document, "parameters"))
        if mine is None and model.role == "control":
            mine = next((number(at(t.document, "parameters")) for t in self.tickets if t.tier == model.tier), None)
        return mine / whole if mine and whole and mine > 0 and whole > 0 else None


def family_of(result: Mapping[str, Any]) -> Family:
    """Sort a result's models into tickets, controls and baselines, by their names: ``<domain>-<tier>[-<control>]``."""
    domain = str(at(result, "domain") or "")
    documents = dicts(at(result, "tiers"))
    names = [str(at(document, "tier")) for document in documents]
    models = tuple(_model(name, document, domain, names) for name, document in items(at(result, "models")))
    tiers = tuple(
        Tier(name, document, next((m for m in models if m.role == "ticket" and m.tier == name), None))
        for name, document in zip(names, documents, strict=True)
    )
    return Family(domain, models, tiers)


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which (cost, quality) no other beats: none is as cheap and better, or cheaper and as good. By rising cost."""
    out: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not out or points[i][1] > points[out[-1]][1]:
            out.append(i)
    return out


def _model(name: str, document: Mapping[str, Any], domain: str, tiers: Sequence[str]) -> Model:
    if name == DENSE:
        return Model(name, "dense", document)
    for tier in sorted(tiers, key=len, reverse=True):
        own = f"{domain}-{tier}"
        if name == own:
            return Model(name, "ticket", document, tier)
        if name.startswith(f"{own}-"):
            return Model(name, "control", document, tier, name.removeprefix(f"{own}-"))
    return Model(name, "baseline", document)
