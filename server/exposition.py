"""One metrics page for many processes: each dumps its families, one merges them into text.

Owns the dump (msgpack, carried by `wire.Metrics`) and the Prometheus text format 0.0.4.
Every sample gets a ``process`` label; HELP and TYPE stand once per family, as the format
demands, which is why pages cannot simply be joined. A process that does not answer, or
answers nonsense, shows as ``tombola_up 0`` and never spoils the page.
"""

from collections.abc import Iterable, Mapping

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.utils import floatToGoString

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SUFFIXES = {"counter": "_total", "info": "_info"}
_TEXT_TYPES = {"counter": "counter", "gauge": "gauge", "histogram": "histogram", "summary": "summary", "info": "gauge"}


class _Family(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    name: str
    kind: str
    help: str
    samples: list[tuple[str, dict[str, str], float]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Family])


def dump(registry: CollectorRegistry) -> bytes:
    """All families of a process, to be merged with others'."""
    families = [
        _Family(
            name=family.name + _SUFFIXES.get(family.type, ""),
            kind=_TEXT_TYPES.get(family.type, "untyped"),
            help=family.documentation,
            samples=[
                (s.name, dict(s.labels), float(s.value)) for s in family.samples if not s.name.endswith("_created")
            ],
        )
        for family in registry.collect()
    ]
    return _encoder.encode(families)


def merge(dumps: Mapping[str, bytes]) -> bytes:
    """The page of all processes, by name. ``b""`` stands for a process that did not answer."""
    shown: dict[str, tuple[str, str]] = {}
    lines: dict[str, list[str]] = {}
    up: list[str] = []
    for process in sorted(dumps):
        families = _decode(dumps[process])
        up.append(_line("tombola_up", {}, 0.0 if families is None else 1.0, process))
        for family in families or ():
            kind, _ = shown.setdefault(family.name, (family.kind, family.help))
            if kind == family.kind:  # a process of another version may have changed its mind; the first one holds
                rows = lines.setdefault(family.name, [])
                rows += [_line(name, labels, value, process) for name, labels, value in family.samples]
    page = ["# HELP tombola_up Whether a process answered this scrape.\n# TYPE tombola_up gauge\n", *up]
    for name, rows in lines.items():
        kind, text = shown[name]
        page.append(f"# HELP {name} {_escape_help(text)}\n# TYPE {name} {kind}\n")
        page += rows
    return "".join(page).encode()


def _decode(data: bytes) -> list[_Family] | None:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _line(name: str, labels: Mapping[str, str], value: float, process: str) -> str:
    pairs: Iterable[tuple[str, str]] = (*((k, v) for k, v in labels.items() if k != "process"), ("process", process))
    text = ",".join(f'{key}="{_escape_label(label)}"' for key, label in pairs)
    return f"{name}{{{text}}} {floatToGoString(value)}\n"  # type: ignore[no-untyped-call]


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape_label(text: str) -> str:
    return _escape_help(text).replace('"', r"\"")
