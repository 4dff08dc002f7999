"""The plan: everything a family depends on besides data and backbone, and what its tiers ask for."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from tickets.factory.graph import Isa
from tickets.factory.shrink import Target
from tickets.factory.train import Recipe

ScoreKind = Literal["fisher", "taylor"]
Control = Literal["random", "worst", "reinit"]
CONTROLS: tuple[Control, ...] = ("random", "worst", "reinit")

FULL_SPEEDUP, FEWEST_EPOCHS = 32.0, 3
SLOWER = 0.1
"""How far below the speed asked for a ticket may come out: about what a busy machine takes (docs/families.md)."""
DEFAULT_TIERS = "accurate=4x,balanced=8x,fast=16x,instant=32x"
_ASK = re.compile(
    r"(?P<speedup>\d+(?:\.\d+)?)x(?:@(?P<width>\d+))?|(?P<ms>\d+(?:\.\d+)?)ms(?:@(?P<mswidth>\d+))?"
    r"|(?P<layers>\d+)x(?P<heads>\d+)x(?P<neurons>\d+)"
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a tier is to be: so many times faster than the dense fp32 parent, so many milliseconds a batch, or a given
    structure. Exactly one of the three is set. ``width`` is the hidden width to narrow to; 0: the parent's own.
    """

    tier: str
    speedup: float = 0.0
    budget_ms: float = 0.0
    target: Target | None = None
    width: int = 0

    def missed(self, speedup: float, batch_ms: float) -> str:
        """What was asked and what came out, where a ticket is slower than asked by more than `SLOWER`; else nothing."""
        if self.speedup and speedup < (1 - SLOWER) * self.speedup:
            return f"speed: {speedup:.1f}x, asked for {self.speedup:g}x"
        if self.budget_ms and batch_ms > self.budget_ms / (1 - SLOWER):
            return f"speed: {batch_ms:.2g} ms a batch, asked for {self.budget_ms:g} ms"
        return ""

    def __str__(self) -> str:
        at = f"@{self.width}" if self.width else ""
        if self.target is not None:
            return str(self.target)
        return f"{self.speedup:g}x{at}" if self.speedup else f"{self.budget_ms:g}ms{at}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a family depends on besides data and backbone."""

    dense: Recipe
    student: Recipe
    fastest: Recipe
    """Of tiers of `FULL_SPEEDUP` and more. What one layer cannot repeat of its parent's sentence vector costs it the
    rest, so the vector weighs less (docs/families.md)."""
    control: Recipe
    """Of the zero-layer control: tuned for itself on validation texts (docs/families.md), not the students' recipe."""
    qat: Recipe
    vocabulary: int
    rank: int
    """Width of the tickets' word tables; 0: as wide as the encoder."""
    max_tokens: int
    activation: str
    copies: int
    """Made-up variants of each in-scope text, for distillation."""
    teachers: int
    """Replicas of the dense parent, from seeds in a row, whose average answer is distilled."""
    seed: int
    seeds: int = 1
    """How often every tier is found again from the next seed: what a verdict needs. Tickets come from the first."""
    score: ScoreKind = "fisher"
    controls: tuple[Control, ...] = ()
    isa: Isa = "vnni"
    """What the tickets' int8 products are made for."""
    measure_seconds: float = 60.0
    """How long a latency table is measured; longer is less noisy. No stage is named by it."""

    def student_of(self, ask: Ask) -> Recipe:
        """How a tier's child is trained: a slow tier starts close to its parent and costs much per epoch, so it has
        fewer epochs, in proportion to its speed-up below `FULL_SPEEDUP`, but at least `FEWEST_EPOCHS`. So all tiers
        take about the same time.
        """
        if not ask.speedup:
            return self.student
        if ask.speedup >= FULL_SPEEDUP:
            return self.fastest
        share = ask.speedup / FULL_SPEEDUP
        least = min(FEWEST_EPOCHS, self.student.epochs)
        return replace(self.student, epochs=max(least, round(share * self.student.epochs)))


_STUDENT = Recipe(
    epochs=25,
    learning_rate=5e-4,
    layer_decay=0.8,
    warmup=0.05,
    batch=64,
    distil_weight=0.9,
    vector_weight=10.0,
    out_per_in=2.0,
    made_per_in=4.0,
)

DEFAULT_PLAN = Plan(
    dense=Recipe(epochs=10, learning_rate=2.5e-4, layer_decay=0.85, label_smoothing=0.1, batch=32),
    student=_STUDENT,
    fastest=replace(_STUDENT, vector_weight=1.0),
    control=replace(_STUDENT, learning_rate=3e-4, layer_decay=1.0, distil_temperature=1.0, vector_weight=0.0),
    qat=replace(_STUDENT, epochs=2, learning_rate=2.5e-5, made_per_in=2.0),
    vocabulary=6000,
    rank=160,
    max_tokens=64,
    activation="gelu",
    copies=8,
    teachers=3,
    seed=0,
)


def parse_tiers(text: str) -> list[Ask]:
    """``accurate=4x,fast=0.4ms,tiny=1x3x384,...`` -> asks. Raises ValueError that shows the forms."""
    asks = [_parse(part.strip()) for part in text.split(",") if part.strip()]
    if not asks:
        raise ValueError("no tiers: name at least one, e.g. --tiers fast=16x")
    names = [ask.tier for ask in asks]
    if len(set(names)) != len(names):
        raise ValueError(f"tier names are not unique: {', '.join(names)}")
    return asks


def _parse(part: str) -> Ask:
    name, _, ask = part.partition("=")
    found = _ASK.fullmatch(ask)
    if not found or not name:
        raise ValueError(
            f"cannot read tier {part!r}; write NAME=SPEEDUPx (fast=16x: 16 times the dense parent's speed), "
            "NAME=MILLISECONDSms (of a batch of 16 texts), or NAME=LAYERSxHEADSxNEURONS (tiny=1x4x384); "
            "@WIDTH after the first two narrows the hidden states (fast=32x@256)"
        )
    field = found.groupdict()
    if field["layers"]:
        target = Target(int(field["layers"]), int(field["heads"]), int(field["neurons"]))
        if min(target.layers, target.heads, target.neurons) < 1:
            raise ValueError(f"tier {part!r} needs at least 1 layer, 1 head and 1 neuron")
        return Ask(name, target=target)
    width = int(field["width"] or field["mswidth"] or 0)
    if width % 32:
        raise ValueError(f"tier {part!r}: the width must be a multiple of 32")
    ask_ = Ask(name, float(field["speedup"] or 0), float(field["ms"] or 0), width=width)
    if not (ask_.speedup or ask_.budget_ms):
        raise ValueError(f"tier {part!r} asks for nothing: the number must be above 0")
    return ask_
