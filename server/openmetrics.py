"""The metrics page in OpenMetrics 1.0: for scrapers that ask for it, because only it carries exemplars.

Owns that text format and the choice between it and Prometheus's own by the Accept header. An exemplar is a sampled
request's trace id on a bucket of a histogram: from a slow bucket to a trace of it. What is measured and
how it comes here is `server.exposition`'s, whose page this is in another form.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.utils import floatToGoString

from server.exposition import CONTENT_TYPE, Family, decode, merging

OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_MEDIA_TYPE = "application/openmetrics-text"
_VERSIONS = ("", "1.0.0", "0.0.1")
_KINDS = {"untyped": "unknown"}
MAX_EXEMPLAR_CHARACTERS = 128
"""Of all label names and values together; the format's limit."""


def wants_openmetrics(accept: str) -> bool:
    """Whether a scraper prefers OpenMetrics to Prometheus's text, by its Accept header."""
    best: dict[bool, float] = {True: 0.0, False: 0.0}
    for offer in accept.split(","):
        media_type, *parameters = (part.strip() for part in offer.split(";"))
        named = dict(part.partition("=")[::2] for part in parameters)
        is_open = media_type.lower() == _MEDIA_TYPE and named.get("version", "").strip('"') in _VERSIONS
        if is_open or media_type.lower() in ("text/plain", "text/*", "*/*"):
            best[is_open] = max(best[is_open], _quality(named.get("q", "1")))
    return best[True] > 0.0 and best[True] >= best[False]


def pieces(dumps: Mapping[str, bytes], accept: str) -> tuple[Iterator[bytes], str]:
    """The page of all processes in the form that is asked for, in pieces (see `exposition.merging`), and its type."""
    return (rendering(dumps), OPENMETRICS_TYPE) if wants_openmetrics(accept) else (merging(dumps), CONTENT_TYPE)


def rendering(dumps: Mapping[str, bytes]) -> Iterator[bytes]:
    """As `exposition.merging`, in OpenMetrics."""
    families: dict[str, list[tuple[str, Family]]] = {}
    up = ["# HELP tombola_up Whether a process answered this scrape.\n# TYPE tombola_up gauge\n"]
    for process in sorted(dumps):
        found = decode(dumps[process])
        up.append(_line("tombola_up", {}, 0.0 if found is None else 1.0, process))
        for family in found or ():
            families.setdefault(_name(family), []).append((process, family))
        yield b""
    yield "".join(up).encode()
    for name, shown in families.items():
        first = shown[0][1]
        yield f"# HELP {name} {_escape(first.help)}\n# TYPE {name} {_kind(first)}\n".encode()
        for process, family in shown:
            if _kind(family) == _kind(first):  # see `merging`
                yield "".join(_lines(family, process)).encode()
    yield b"# EOF\n"


def _kind(family: Family) -> str:
    return _KINDS.get(family.kind, family.kind)


def _name(family: Family) -> str:
    """OpenMetrics names a counter without the ending of its sample."""
    return family.name.removesuffix("_total") if family.kind == "counter" else family.name


def _lines(family: Family, process: str) -> list[str]:
    exemplars = {place: (labels, value, at) for place, labels, value, at in family.exemplars}
    return [
        _line(name, labels, value, process, exemplars.get(place))
        for place, (name, labels, value) in enumerate(family.samples)
    ]


def _line(
    name: str, labels: Mapping[str, str], value: float, process: str,
    exemplar: tuple[dict[str, str], float, float] | None = None,
) -> str:  # fmt: skip
    text = _labels({key: label for key, label in labels.items() if key != "process"} | {"process": process})
    line = f"{name}{text} {_number(value)}"
    if exemplar is not None:
        about, observed, at = exemplar
        if sum(len(key) + len(label) for key, label in about.items()) <= MAX_EXEMPLAR_CHARACTERS:
            line += f" # {_labels(about)} {_number(observed)}" + (f" {at:.3f}" if at > 0 else "")
    return line + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{key}="{_escape(label)}"' for key, label in labels.items()) + "}"


def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _quality(text: str) -> float:
    try:
        return max(0.0, min(1.0, float(text)))
    except ValueError:
        return 0.0
