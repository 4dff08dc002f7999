"""The results as Markdown: one row per system, one table per question. Pure.

Figures are medians over turns; where turns differ by more than a tenth, their range stands beside the median.
"""

from collections.abc import Callable, Iterable, Sequence

from loadtest.peers.results import Point, Result, Turn, median, over_turns, point_at, saturated_at

DIFFERS = 1.1


def document(results: Sequence[Result], bare: Result, facts: Sequence[str], limit_ms: float) -> str:
    """The whole report. ``facts``: how it was measured, one sentence each."""
    measured = [result for result in results if result.turns]
    connections = sorted({s.closed.connections for r in measured for t in r.turns for s in t.saturated})
    parts = [
        "# Tombola beside other servers",
        "\n".join(f"- {fact}" for fact in facts),
        "## Throughput, cost and memory",
        _throughput(measured, bare, connections, limit_ms),
        "Best rate: Poisson arrivals, p99 from the intended send time over all requests, found by bisection to 5 %.",
        "## Open loop: p50 / p99 in ms from the intended send time, and good answers in time per second",
        _open_loop(measured),
        f"Good in time: within {limit_ms:g} ms of the intended time. `!`: the sender fell behind in some turn.",
        "## Three times its capacity",
        _overload(measured),
        "Capacity: the saturated rate with most connections; for a whole family, that of the asked ticket alone. "
        "Percentiles are those of good answers and timeouts; refusals count as neither good nor late. From sending: "
        "counted from when the bytes left, which differs from the intended time where the sender, on the same cores, "
        "fell behind (`!`).",
        "## Settings tried",
        _tried(results),
    ]
    failures = [f"- {result.title}: {result.failure}" for result in results if result.failure]
    if failures:
        parts += ["## Not measured", "\n".join(failures)]
    return "\n\n".join(parts) + "\n"


def _throughput(results: Sequence[Result], bare: Result, connections: Sequence[int], limit_ms: float) -> str:
    plain_per_s = median(turn.plain_per_s for turn in bare.bare)
    grouped_per_s = median(turn.grouped_per_s for turn in bare.bare)
    most = connections[-1] if connections else 0
    rows = [
        [
            result.title,
            *(_spread(result, lambda turn, n=n: _closed(turn, n), "{:,.0f}") for n in connections),  # type: ignore[misc]
            _number(over_turns(result, lambda turn: _closed_p99(turn, most)), "{:,.1f}"),
            _spread(result, lambda turn: turn.best_per_s if turn.trials else None, "{:,.0f}"),
            _number(_share(over_turns(result, lambda turn: _closed(turn, most)), grouped_per_s), "{:.0%}"),
            _number(over_turns(result, lambda turn: _cpu(turn, most)), "{:.2f}"),
            _number(over_turns(result, lambda turn: _memory(turn, most)), "{:,.0f}"),
        ]
        for result in results
    ]
    blanks = ["-"] * (len(connections) - 1)
    loops = (("bare loop, rows grouped by length", grouped_per_s), ("bare loop, padded plainly", plain_per_s))
    for name, rate in loops:
        share = _number(_share(rate, grouped_per_s), "{:.0%}")
        rows.append([name, *blanks, _number(rate, "{:,.0f}"), "-", "-", share, "-", "-"])
    head = [
        "system", *(f"saturated, {n} connections, /s" for n in connections), f"p99 of {most}, ms",
        f"best rate with p99 ≤ {limit_ms:g} ms, /s", "of the bare loop", "CPU-s per 1,000", "memory, MB",
    ]  # fmt: skip
    return grid(head, rows)


def _open_loop(results: Sequence[Result]) -> str:
    rates = sorted({point.rate_per_s for result in results for turn in result.turns for point in turn.points})
    rows = [[result.title, *(_cell(result, rate) for rate in rates)] for result in results]
    return grid(["system", *(f"{rate:g}/s" for rate in rates)], rows)


def _cell(result: Result, rate: float) -> str:
    points = [point for turn in result.turns if (point := point_at(turn, rate))]
    if not points:
        return ""
    p50, p99, good = (
        median(pick) for pick in zip(*((p.p50_ms, p.p99_ms, p.goodput_per_s) for p in points), strict=True)
    )
    return f"{_number(p50, '{:.1f}')} / {_number(p99, '{:.1f}')}, {_number(good, '{:,.0f}')}{_mark(points)}"


def _overload(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        found = [turn.overloaded for turn in result.turns if turn.overloaded]
        if not found:
            continue
        points = [one.point for one in found]
        goodput = median(point.goodput_per_s for point in points)
        capacity = median(one.capacity_per_s for one in found)
        rows.append([
            result.title,
            found[-1].limit or "none of its own",
            _number(median(point.rate_per_s for point in points), "{:,.0f}"),
            _number(median(point.sent_per_s for point in points), "{:,.0f}") + _mark(points),
            _number(goodput, "{:,.0f}"),
            _number(_share(goodput, capacity), "{:.0%}"),
            _number(median(point.good_after_sending_per_s for point in points), "{:,.0f}"),
            _number(median(point.p99_ms for point in points), "{:,.1f}"),
            _number(median(point.p99_after_sending_ms for point in points), "{:,.1f}"),
            _number(median(point.quality for point in points), "{:.2%}"),
            ", ".join(sorted({name for point in points for name in point.errors})) or "-",
        ])  # fmt: skip
    head = [
        "system", "bound on its queue", "asked, /s", "sent, /s", "good in time, /s", "of its capacity",
        "good in time from sending, /s", "p99 of answers, ms", "p99 from sending, ms",
        "accuracy served", "the others",
    ]  # fmt: skip
    return grid(head, rows)


def _tried(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        for tried in result.tried:
            rates = ", ".join(f"{one.per_s:,.0f}/s with {one.connections}" for one in tried.closed)
            kept = " (kept)" if tried.setting == result.setting else ""
            rows.append([result.title, tried.setting + kept, rates or tried.failure])
        if not result.tried and result.setting:
            rows.append([result.title, f"{result.setting} (the only one)", ""])
    return grid(["system", "setting", "saturated, by connections"], rows)


def _mark(points: Iterable[Point]) -> str:
    return "" if all(point.is_valid for point in points) else " !"


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _spread(result: Result, pick: Callable[[Turn], float | None], form: str) -> str:
    values = [value for turn in result.turns if (value := pick(turn)) is not None]
    shown = _number(median(values), form)
    if values and max(values) > DIFFERS * min(values):
        shown += f" [{form.format(min(values))}-{form.format(max(values))}]"
    return shown


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _closed(turn: Turn, connections: int) -> float | None:
    found = saturated_at(turn, connections)
    return found.closed.per_s if found else None


def _closed_p99(turn: Turn, connections: int) -> float | None:
    found = saturated_at(turn, connections)
    return found.closed.p99_ms if found else None


def _cpu(turn: Turn, connections: int) -> float | None:
    found = saturated_at(turn, connections)
    return found.cost.cpu_s_per_1000 if found else None


def _memory(turn: Turn, connections: int) -> float | None:
    found = saturated_at(turn, connections)
    return found.cost.pss_bytes / 1e6 if found else None
