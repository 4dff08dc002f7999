"""What all metrics have in common: bounded label values and the buckets of histograms.

Owns how many names are told apart, and where buckets lie. A name that the table does not vouch for, or
that comes after the bound is reached, is counted as "other": a page must not grow with what callers write.
Which metrics there are is left to `server.telemetry`, `server.worker_metrics` and their neighbours.
"""

from collections.abc import Iterator

OTHER = "other"
MAX_STEPS = 8
TICKET_DIGITS = 12
MAX_TENANTS = 50
MAX_TICKETS = 200
MAX_SERIES = 1000
"""At most so many combinations of tenant, domain and tier are told apart; with a step or a ticket, twice as many."""

SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5,
    1.0, 2.5, 10.0,
)  # fmt: skip
"""Buckets around the promises that tiers make: 1 to 1000 ms."""
RUN_SECONDS = (0.0001, 0.00025, *SECONDS)
RATIOS = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
LOAD_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TRIP_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Names:
    """A bounded set of label values: the first ``bound`` keep their name, later ones are "other"."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._known: set[str] = set()

    def resolve(self, name: str, *, vouched: bool = True) -> str:
        """The label value that stands for ``name``. Only a vouched name may take a free place."""
        if name in self._known:
            return name
        if not vouched or not name or len(self._known) >= self._bound:
            return OTHER
        self._known.add(name)
        return name


class Rows:
    """A bounded set of label combinations: later ones become one of nothing but "other"."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._known: set[tuple[str, ...]] = set()

    def __contains__(self, row: tuple[str, ...]) -> bool:
        return row in self._known

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return iter(list(self._known))

    def resolve(self, row: tuple[str, ...], fallback: tuple[str, ...]) -> tuple[str, ...]:
        """``row`` where there is a place for it, else ``fallback``."""
        if row not in self._known:
            if len(self._known) >= self._bound:
                return fallback
            self._known.add(row)
        return row
