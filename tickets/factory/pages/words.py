"""Words: numbers and times as the page writes them, the same everywhere."""

NONE = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """0.934 -> 93.4 %."""
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def points(value: float | None) -> str:
    """-0.62 -> −0.62, with a sign always."""
    return NONE if value is None else f"{value:+.2f}".replace("-", "−")


def interval(low: float | None, high: float | None, *, scale: float = 1.0, signed: bool = False) -> str:
    """[0.92, 0.94] with scale 100 -> [92.0, 94.0]."""
    if low is None or high is None:
        return ""
    form = "+.1f" if signed else ".1f"
    return f"[{scale * low:{form}}, {scale * high:{form}}]".replace("-", "−")


def times(value: float | None) -> str:
    """8.31 -> 8.3×."""
    return NONE if value is None else f"{value:.1f}×" if value < 100 else f"{value:.0f}×"


def milliseconds(value: float | None) -> str:
    """0.0923 -> 0.092 ms: three digits that count."""
    if value is None:
        return NONE
    return f"{value:.3g} ms" if 0 < abs(value) < 1000 else f"{value:,.0f} ms"


def size(value: float | None) -> str:
    """2101352 -> 2.10 MB."""
    if value is None:
        return NONE
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0f} B"


def count(value: float | None) -> str:
    """450 -> 450; 15000 -> 15,000."""
    return NONE if value is None else f"{value:,.0f}"


def plain(value: float | None) -> str:
    """Whatever a gate is about, in up to four digits that count."""
    return NONE if value is None else f"{value:.4g}".replace("-", "−")


def chance(p: float | None) -> str:
    """A p-value: 0.00003 -> <0.001."""
    if p is None:
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float | None) -> str:
    """754 -> 12 min 34 s."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def some(number: int, noun: str) -> str:
    """1, seed -> 1 seed; 3, seed -> 3 seeds."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def listed(names: list[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def clipped(text: str, chars: int = 30) -> str:
    """What fits a plot: one line, cut in the middle where it is longer."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "?"
    return line if len(line) <= chars else f"{line[: chars - 8]}…{line[-7:]}"
