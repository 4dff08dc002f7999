"""Tallies: metrics of the hot path as plain numbers, which become Prometheus families only when somebody looks.

Owns counters, histograms and readings (values that are asked for at a scrape), and nothing of what they mean. A
number has one writer, the thread that its metric belongs to, so that counting takes no lock: an observation costs a
sixth of prometheus_client's. Whoever looks from another thread may see the sum of a histogram one observation
ahead of its buckets, as it may with any of them. The page's text is left to `server.exposition`.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]
Reading = Callable[[], Iterable[tuple[Labels, float]]]
"""What a reading gives: label values, and the value."""


class Cell:
    """A number that its one writer adds to."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Buckets:
    """How often values were observed, by buckets with inclusive upper bounds, and their sum."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, tuple[dict[str, str], float, float]] | None = None

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def exemplify(self, value: float, labels: dict[str, str], at: float) -> None:
        """Remember a value that was observed as the example of its bucket. ``at``: seconds since 1970."""
        if self.exemplars is None:
            self.exemplars = {}
        self.exemplars[bisect_left(self.bounds, value)] = (labels, value, at)


Number = TypeVar("Number", Cell, Buckets)


class Family(Generic[Number]):
    """A metric and its children by label values."""

    def __init__(self, name: str, text: str, kind: str, labels: Labels, make: Callable[[], Number]) -> None:
        self.name, self.text, self.kind, self.labels = name, text, kind, labels
        self.children: dict[Labels, Number] = {}
        self._make: Callable[[], Number] = make

    def of(self, *values: str) -> Number:
        """The child of these label values. Look it up once: this is not for the hot path."""
        child = self.children.get(values)
        if child is None:
            child = self.children[values] = self._make()
        return child


class Tally(Collector):
    """The plain-number metrics of one process, as prometheus_client collects them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counters: list[Family[Cell]] = []
        self._histograms: list[Family[Buckets]] = []
        self._readings: list[tuple[str, str, str, Labels, Reading]] = []
        registry.register(self)

    def counter(self, name: str, text: str, labels: Labels = ()) -> Family[Cell]:
        """A counter; its samples are called ``name`` + ``_total``."""
        family = Family(name, text, "counter", labels, Cell)
        self._counters.append(family)
        return family

    def histogram(self, name: str, text: str, labels: Labels = (), *, bounds: Sequence[float]) -> Family[Buckets]:
        """A classic histogram with these upper bounds, the last one (+Inf) left out."""
        limits = tuple(bounds)
        family = Family(name, text, "histogram", labels, lambda: Buckets(limits))
        self._histograms.append(family)
        return family

    def reading(self, name: str, text: str, labels: Labels, read: Reading, *, kind: str = "gauge") -> None:
        """Values that ``read`` is asked for at every scrape. ``kind``: gauge or counter."""
        self._readings.append((name, text, kind, labels, read))

    def collect(self) -> Iterator[Metric]:
        """prometheus_client: all families as they are now."""
        for counters in self._counters:
            told, name = Told(counters.name, counters.text, "counter"), f"{counters.name}_total"
            for values, cell in list(counters.children.items()):
                told.rows.append((name, dict(zip(counters.labels, values, strict=True)), cell.value))
            yield told
        for histograms in self._histograms:
            told = Told(histograms.name, histograms.text, "histogram")
            for values, buckets in list(histograms.children.items()):
                _tell_buckets(told, dict(zip(histograms.labels, values, strict=True)), buckets)
            yield told
        for name, text, kind, names, read in self._readings:
            told, shown = Told(name, text, kind), f"{name}_total" if kind == "counter" else name
            for values, value in read():
                told.rows.append((shown, dict(zip(names, values, strict=True)), float(value)))
            yield told


class Told(Metric):
    """A family as it is told: plain rows, out of which the library's samples are made only for who wants those."""

    def __init__(self, name: str, text: str, kind: str) -> None:
        self.rows: list[tuple[str, dict[str, str], float]] = []
        self.exemplars: list[tuple[int, dict[str, str], float, float]] = []
        """For the row at a place: the example's labels, its value, and when it was (seconds since 1970)."""
        super().__init__(name, text, kind)

    @property
    def samples(self) -> list[Sample]:
        """The rows as prometheus_client has them."""
        examples = {place: Exemplar(labels, value, at) for place, labels, value, at in self.exemplars}
        return [Sample(*row, None, examples.get(place)) for place, row in enumerate(self.rows)]

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        self.rows = [(sample.name, sample.labels, sample.value) for sample in samples]


def _tell_buckets(told: Told, labels: dict[str, str], buckets: Buckets) -> None:
    rows, counts, total, name = told.rows, list(buckets.counts), buckets.total, f"{told.name}_bucket"
    for place, (labels_of, value, at) in sorted((buckets.exemplars or {}).items()):
        told.exemplars.append((len(rows) + place, labels_of, value, at))
    so_far = 0
    for count, le in zip(counts, _bound_texts(buckets.bounds), strict=True):
        so_far += count
        rows.append((name, {**labels, "le": le}, float(so_far)))
    rows.append((f"{told.name}_count", labels, float(so_far)))
    rows.append((f"{told.name}_sum", labels, total))


@lru_cache
def _bound_texts(bounds: tuple[float, ...]) -> list[str]:
    return [floatToGoString(bound) for bound in (*bounds, float("inf"))]  # type: ignore[no-untyped-call]
