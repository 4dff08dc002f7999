"""A step of training, as people write it: `0`, `500it`, `3ep`, `1ep200it`. Epochs and iterations are never confused."""

import re
from dataclasses import dataclass

_FORM = re.compile(r"(?:(\d+)ep)?(?:(\d+)it)?")


@dataclass(frozen=True, slots=True)
class Step:
    """So many epochs and so many iterations after the beginning."""

    epochs: int = 0
    iterations: int = 0

    def __str__(self) -> str:
        """As `parse_step` reads it, zero parts left out."""
        parts = f"{self.epochs}ep" * bool(self.epochs) + f"{self.iterations}it" * bool(self.iterations)
        return parts or "0"

    def resolve(self, steps_per_epoch: int) -> int:
        """The number of the optimizer's step."""
        return self.epochs * steps_per_epoch + self.iterations


def parse_step(text: str) -> Step:
    """``0``, or epochs, iterations or both: ``3ep``, ``500it``, ``1ep200it``. Raises ValueError."""
    found = _FORM.fullmatch(text.strip())
    if text.strip() == "0":
        return Step()
    if not found or not found.group(0):
        raise ValueError(f"{text!r} is no step; write 0, 500it (iterations), 3ep (epochs) or 1ep200it")
    return Step(int(found.group(1) or 0), int(found.group(2) or 0))
