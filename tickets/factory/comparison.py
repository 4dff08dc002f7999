"""Comparison: what differs between runs, in what they were asked and in what they found. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tickets.factory.numbers import Number, flat, numbers_of
from tickets.factory.record import RunRecord


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the descriptions; ``values`` by run, None where a run has no such field."""

    name: str
    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """One number of the results. ``differences``: each run less the first. ``apart``: whether the run's interval and
    the first's leave a gap between them; None where either has no interval, so that nothing can be said.
    """

    name: str
    step: int
    values: tuple[Number | None, ...]
    differences: tuple[float | None, ...]
    apart: tuple[bool | None, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of runs in the order given; the first is what the others are compared with. ``results``: numbers that at least
    two runs have; ``alone``: how many others there are.
    """

    ids: tuple[str, ...]
    asked: tuple[Field, ...]
    ran: tuple[Field, ...]
    results: tuple[Result, ...]
    alone: int

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def compare_runs(records: Sequence[RunRecord]) -> Comparison:
    """Side by side: ``asked`` (description, command's kind), ``ran`` (host, libraries, code), results. Only fields that
    differ, but all numbers. Raises ValueError for fewer than two runs.
    """
    if len(records) < 2:
        raise ValueError("name at least two runs to compare, e.g. `tombola runs compare find-a find-b`")
    asked = _differing([{"kind": record.kind} | flat(record.description) for record in records])
    ran = _differing([{"status": record.status} | flat(record.host) for record in records])
    tables = [{(n.name, n.step): n for n in numbers_of(record)} for record in records]
    names = list(dict.fromkeys(key for table in tables for key in table))
    shared = [key for key in names if sum(key in table for table in tables) > 1]
    results = [_result(key, [table.get(key) for table in tables]) for key in shared]
    return Comparison(
        tuple(record.id for record in records), tuple(asked), tuple(ran), tuple(results), len(names) - len(shared)
    )


def _differing(documents: Sequence[dict[str, str]]) -> list[Field]:
    names = dict.fromkeys(name for document in documents for name in document)
    fields = [Field(name, tuple(document.get(name) for document in documents)) for name in names]
    return [field for field in fields if len(set(field.values)) > 1]


def _result(key: tuple[str, int], values: Sequence[Number | None]) -> Result:
    first = values[0]
    return Result(
        key[0], key[1], tuple(values),
        tuple(None if first is None or value is None else round(value.value - first.value, 6) for value in values),
        tuple(_apart(first, value) for value in values),
    )  # fmt: skip


def _apart(first: Number | None, other: Number | None) -> bool | None:
    if first is None or other is None or first is other:
        return None
    if first.low is None or first.high is None or other.low is None or other.high is None:
        return None
    return other.low > first.high or other.high < first.low
