"""One metrics page for many processes: each dumps its families, one merges them into text.

Owns the dump (msgpack, carried by `wire.Metrics`) and the Prometheus text format 0.0.4.
Every sample gets a ``process`` label; HELP and TYPE stand once per family, as the format
demands, which is why pages cannot simply be joined. A process that does not answer, or
answers nonsense, shows as ``tombola_up 0`` and never spoils the page.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import starmap
from math import isfinite

import msgspec
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.utils import floatToGoString

from server.tally import Told

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SUFFIXES = {"counter": "_total", "info": "_info"}
_TEXT_TYPES = {"counter": "counter", "gauge": "gauge", "histogram": "histogram", "summary": "summary", "info": "gauge"}


class Family(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One metric of one process: its samples in the order in which they are shown."""

    name: str
    kind: str
    help: str
    samples: list[tuple[str, dict[str, str], float]]
    exemplars: list[tuple[int, dict[str, str], float, float]] = []
    """For the sample at a place in ``samples``: the example's labels, value and time (seconds since 1970)."""


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """A Family whose samples have not been looked at."""

    name: str
    kind: str
    help: str
    samples: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Family])
_packed = msgspec.msgpack.Decoder(list[_Packed])
_samples = msgspec.msgpack.Decoder(list[tuple[str, dict[str, str], float]])
_NONSENSE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def dump(registry: CollectorRegistry) -> bytes:
    """All families of a process, to be merged with others'."""
    return _encoder.encode([_dumped(family) for family in registry.collect()])


def merge(dumps: Mapping[str, bytes]) -> bytes:
    """The page of all processes, by name. ``b""`` stands for a process that did not answer."""
    return b"".join(merging(dumps))


def merging(dumps: Mapping[str, bytes]) -> Iterator[bytes]:
    """The page in pieces, each of which takes some milliseconds where the page is as large as it can be: between two
    of them a gateway can attend to its requests."""
    families: dict[str, list[tuple[str, _Packed]]] = {}
    up = ["# HELP tombola_up Whether a process answered this scrape.\n# TYPE tombola_up gauge\n"]
    for process in sorted(dumps):
        found = _unpacked(dumps[process])
        up.append(_line("tombola_up", {}, 0.0 if found is None else 1.0, pair_text("process", process)))
        for family in found or ():
            families.setdefault(family.name, []).append((process, family))
        yield b""
    yield "".join(up).encode()
    for name, shown in families.items():
        kind, text = shown[0][1].kind, shown[0][1].help
        yield f"# HELP {name} {_escape_help(text)}\n# TYPE {name} {kind}\n".encode()
        for process, family in shown:
            if kind == family.kind:  # a process of another version may have changed its mind; the first one holds
                own = pair_text("process", process)
                yield "".join([_line(*sample, own) for sample in _samples_of(family)]).encode()


def _dumped(family: Metric) -> Family:
    if isinstance(family, Told):  # nearly all there is: without the library's samples it takes a third of the time
        name = family.name + _SUFFIXES.get(family.type, "")
        return Family(
            name=name, kind=family.type, help=family.documentation, samples=family.rows, exemplars=family.exemplars
        )
    samples = [s for s in family.samples if not s.name.endswith("_created")]
    return Family(
        name=family.name + _SUFFIXES.get(family.type, ""),
        kind=_TEXT_TYPES.get(family.type, "untyped"),
        help=family.documentation,
        samples=[(s.name, s.labels, float(s.value)) for s in samples],
        exemplars=[
            (place, s.exemplar.labels, s.exemplar.value, float(s.exemplar.timestamp or 0.0))
            for place, s in enumerate(samples)
            if s.exemplar is not None
        ],
    )


def decode(data: bytes) -> list[Family] | None:
    """The families of a dump; None where it is nonsense, or empty because nobody answered."""
    try:
        return _decoder.decode(data)
    except _NONSENSE:
        return None


def _unpacked(data: bytes) -> list[_Packed] | None:
    """As `decode`, but for the samples: together they take too long to be looked at in one go."""
    try:
        return _packed.decode(data)
    except _NONSENSE:
        return None


def _samples_of(family: _Packed) -> list[tuple[str, dict[str, str], float]]:
    try:
        return _samples.decode(family.samples)
    except _NONSENSE:
        return []


@lru_cache(maxsize=1 << 15)
def pair_text(key: str, label: str) -> str:
    """A label as it is written: escaped, in quotes."""
    return f'{key}="{_escape_label(label)}"'


def number_text(value: float) -> str:
    """A value as it is written."""
    return repr(value) if isfinite(value) else floatToGoString(value)  # type: ignore[no-untyped-call]


def _line(name: str, labels: Mapping[str, str], value: float, process: str) -> str:
    if "process" in labels:
        labels = {key: label for key, label in labels.items() if key != "process"}
    text = ",".join([*starmap(pair_text, labels.items()), process])
    return f"{name}{{{text}}} {number_text(value)}\n"


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape_label(text: str) -> str:
    return _escape_help(text).replace('"', r"\"")
