"""The metrics page in OpenMetrics 1.0: for scrapers that ask for it, because only it carries exemplars.

Owns that text format and the choice between it and Prometheus's own by the Accept header. An exemplar is a sampled
request's trace id on a bucket of a histogram: from a slow bucket to a trace of it. What is measured and
how it comes here is `server.exposition`'s, whose page this is in another form.
"""

from collections.abc import Mapping

from prometheus_client.utils import floatToGoString

from server.exposition import CONTENT_TYPE, Family, decode, merge

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


def page(dumps: Mapping[str, bytes], accept: str) -> tuple[bytes, str]:
    """The page of all processes in the form that is asked for, and its content type."""
    return (render(dumps), OPENMETRICS_TYPE) if wants_openmetrics(accept) else (merge(dumps), CONTENT_TYPE)


def render(dumps: Mapping[str, bytes]) -> bytes:
    """As `exposition.merge`, in OpenMetrics."""
    shown: dict[str, tuple[str, str]] = {}
    lines: dict[str, list[str]] = {}
    up: list[str] = []
    for process in sorted(dumps):
        families = decode(dumps[process])
        up.append(_line("tombola_up", {}, 0.0 if families is None else 1.0, process))
        for family in families or ():
            name, kind = _name(family), _KINDS.get(family.kind, family.kind)
            if shown.setdefault(name, (kind, family.help))[0] == kind:  # see `merge`
                lines.setdefault(name, []).extend(_lines(family, process))
    text = ["# HELP tombola_up Whether a process answered this scrape.\n# TYPE tombola_up gauge\n", *up]
    for name, rows in lines.items():
        kind, help_text = shown[name]
        text.append(f"# HELP {name} {_escape(help_text)}\n# TYPE {name} {kind}\n")
        text += rows
    text.append("# EOF\n")
    return "".join(text).encode()


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
