"""Reports as tables for people: one run, a search, several runs side by side. Figures come from `loadtest.report`."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.console import Group as RichGroup
from rich.table import Table
from rich.text import Text

from loadtest.report import Latency, Report, StepReport
from loadtest.search import Found, Trial


def ms(value: float | None) -> str:
    """Milliseconds with three figures, or a dash."""
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}%"


def show_report(console: Console, report: Report) -> None:
    """Print every step of ``report``: table, server's own times, errors, the sender's lateness, the verdict."""
    run = report.run
    console.print(
        f"{run.url} · {run.arrivals} arrivals · seed {run.seed} · {run.started}"
        + (" · INTERRUPTED, measured so far" if run.interrupted else ""),
        soft_wrap=True,
        highlight=False,
    )
    for step in report.steps:
        console.print(_step(step), soft_wrap=True)
    if not report.steps:
        console.print("Nothing was measured.", style="bold red")


def _step(step: StepReport) -> RichGroup:
    """Two tables that fit into 80 columns, then notes."""
    warmup = f", after {step.step.warmup_s:g} s of warm-up" if step.step.warmup_s else ""
    title = f"{step.step.rate_per_s:g} requests/s for {step.step.duration_s:g} s{warmup}"
    answers = _table(title, "answers", ("requests", "good", "good/s", "SLA ms", "in SLA", "goodput/s"))
    times = _table(None, "latency, ms", ("from", "p50", "p90", "p95", "p99", "p99.9", "max"))
    for group in [*(step.groups if len(step.groups) > 1 else []), step.total]:
        who = "total" if group is step.total else f"{group.tenant} {group.domain} {group.tier}"
        goodput = (ms(group.sla_ms), _share(group.attainment), f"{group.goodput_per_s:.1f}")
        answers.add_row(who, str(group.requests), str(group.good), f"{group.answered_per_s:.1f}", *goodput)
        times.add_row(who, "intended", *_cells(group.from_intended))
        times.add_row("", "send", *_cells(group.from_send), style="dim")
    return RichGroup(answers, times, *_notes(step))


def _table(title: str | None, first: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold", min_width=10)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cells(latency: Latency) -> Iterable[str]:
    values = (latency.p50_ms, latency.p90_ms, latency.p95_ms, latency.p99_ms, latency.p99_9_ms, latency.max_ms)
    return (ms(value) for value in values)


def _notes(step: StepReport) -> Iterable[Text]:
    total, late = step.total, step.lateness
    if total.server_total.p50_ms is not None:
        parts = (("queue", total.server_queue), ("run", total.server_run), ("total", total.server_total))
        said = " · ".join(f"{name} p50 {ms(value.p50_ms)} p99 {ms(value.p99_ms)}" for name, value in parts)
        yield Text(f"the server's own times, ms: {said}")
    if total.tickets:
        yield Text("answered by: " + " · ".join(f"{name[:12]} {count}" for name, count in total.tickets.items()))
    if total.errors:
        yield Text("errors: " + " · ".join(f"{code} {count}" for code, count in total.errors.items()), style="yellow")
    if step.waited_for_connection:
        yield Text(
            f"{step.waited_for_connection} requests waited more than 1 ms for a connection (in the intended figures)"
        )
    if step.interrupted:
        yield Text(f"{step.interrupted} requests were under way at Ctrl-C and are in no figure", style="yellow")
    yield Text(f"the sender's lateness, ms: p50 {ms(late.p50_ms)} p99 {ms(late.p99_ms)} max {ms(late.max_ms)}")
    if step.verdict.valid:
        yield Text(f"VALID: {step.verdict.rule}", style="green")
    for reason in step.verdict.reasons:
        yield Text(f"INVALID: {reason} (rule: {step.verdict.rule})", style="bold red")


def trial_line(trial: Trial, limit_ms: float) -> str:
    """One trial of a search in one line."""
    outcome = (
        "holds" if trial.holds(limit_ms) else "does not hold" if trial.valid else "INVALID: the sender fell behind"
    )
    p99 = "more than 1 % without a good answer" if trial.p99_ms is None else f"p99 {ms(trial.p99_ms)} ms"
    return f"{trial.rate_per_s:9.1f}/s: {p99}, {trial.answered_per_s:.1f} good answers/s: {outcome}"


def show_found(console: Console, found: Found) -> None:
    """Print the outcome of a search."""
    if found.best is None:
        console.print(f"No rate was held with p99 within {found.limit_ms:g} ms ({found.limited_by}).", style="bold red")
        return
    best = found.best
    why = {
        "server": "above it, the server was too slow",
        "sender": "above it, this sender could not keep its schedule: the server may hold more",
        "stopped": "the search was stopped: the server may hold more",
    }[found.limited_by]
    console.print(
        f"Highest rate with p99 within {found.limit_ms:g} ms: {best.rate_per_s:.1f} requests/s "
        f"(p99 {ms(best.p99_ms)} ms, {len(found.trials)} trials; {why})",
        style="bold green",
        soft_wrap=True,
    )


def show_comparison(console: Console, names: Sequence[str], reports: Sequence[Report]) -> None:
    """Print totals of several reports side by side; ratios are against the first report's step in the same place."""
    columns = ("rate/s", "good/s", "p50 ms", "p99 ms", "ratio", "in SLA", "goodput/s", "valid")
    table = _table("totals, latency from the intended time; ratio of p99 to the first", "report", columns)
    for place in range(max(len(report.steps) for report in reports)):
        base = reports[0].steps[place].total.from_intended.p99_ms if place < len(reports[0].steps) else None
        for name, report in zip(names, reports, strict=True):
            if place >= len(report.steps):
                continue
            step = report.steps[place]
            total, times = step.total, step.total.from_intended
            ratio = f"{times.p99_ms / base:.2f}" if times.p99_ms is not None and base else "–"
            table.add_row(
                *(name, f"{step.step.rate_per_s:g}", f"{total.answered_per_s:.1f}", ms(times.p50_ms), ms(times.p99_ms)),
                *(ratio, _share(total.attainment), f"{total.goodput_per_s:.1f}"),
                "yes" if step.verdict.valid else "NO",
            )
        table.add_section()
    console.print(table, soft_wrap=True)
