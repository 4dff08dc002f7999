"""The canary's part in routing: which asks it is tried on, and what is counted of them. Pure.

Owns the draw, a function of a request's number and nothing else, and the counts of a trial: whole numbers that only
grow, so that gateways can write their own again and again and anybody can add them up. What the counts mean is
`routing.verdict`'s; who sends and counts is `server.trial`.
"""

import msgspec

from routing.sequential import BINS, bin_of

_MASK = (1 << 64) - 1


def is_drawn(number: int, share: float) -> bool:
    """Whether the request with this number (of one gateway, one trial) is tried on the canary.

    A hash, so that no rhythm of the callers falls in with it: splitmix64 (Steele, Lea & Flood, OOPSLA 2014).
    """
    mixed = (number * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return (mixed ^ (mixed >> 31)) < share * (1 << 64)


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Which trial: a ticket that is tried twice has two."""

    tenant: str
    domain: str
    ticket: str
    started_at: float
    """Seconds since 1970."""


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the asks of one side of a trial."""

    asks: int = 0
    errors: int = 0
    """Ended in an error, one of being late left out."""
    late: int = 0
    """Not answered within their deadline, or predicted not to be."""

    def plus(self, asks: int = 0, errors: int = 0, late: int = 0) -> "Arm":
        """With so many more."""
        return Arm(asks=self.asks + asks, errors=self.errors + errors, late=self.late + late)


def _empty() -> tuple[int, ...]:
    return (0,) * (BINS + 1)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is counted of one trial."""

    canary: Arm = Arm()
    current: Arm = Arm()
    """The asks of the ticket that it is compared with, over the same time and by the same callers."""
    agreement: tuple[int, ...] = msgspec.field(default_factory=_empty)
    """Asks that both answered, by the part of their rows on which both said the same (`routing.sequential.BINS`)."""
    shift: tuple[int, ...] = msgspec.field(default_factory=_empty)
    """Asks that both answered, by how far apart their confidences were on average."""
    skipped: int = 0
    """Asks that were drawn and not tried: nothing was to be lost on them."""

    def plus(self, other: "Counts") -> "Counts":
        """Both together."""
        canary, current = other.canary, other.current
        return Counts(
            canary=self.canary.plus(canary.asks, canary.errors, canary.late),
            current=self.current.plus(current.asks, current.errors, current.late),
            agreement=_added(self.agreement, other.agreement),
            shift=_added(self.shift, other.shift),
            skipped=self.skipped + other.skipped,
        )

    def compared(self, agreement: float, shift: float | None) -> "Counts":
        """With one more ask that both answered; ``shift`` where both said how sure they were."""
        return msgspec.structs.replace(
            self,
            agreement=_one_more(self.agreement, bin_of(agreement)),
            shift=self.shift if shift is None else _one_more(self.shift, bin_of(shift)),
        )


def _added(some: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    if len(some) != len(others):  # written by a version with other bins: its answers do not compare with ours
        return some
    return tuple(a + b for a, b in zip(some, others, strict=True))


def _one_more(counts: tuple[int, ...], at: int) -> tuple[int, ...]:
    return (*counts[:at], counts[at] + 1, *counts[at + 1 :])
