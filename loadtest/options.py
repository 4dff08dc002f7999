"""The options of `tombola load`, and what they build: a plan, a workload, an SLA.

Each option is declared here once; the commands in `loadtest.__main__` share them. The builders raise
ValueError with what to write instead.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from loadtest.client import Endpoint
from loadtest.report import DEFAULT_SLA_MS, MAX_LATENESS_MS, Sla
from loadtest.run import Plan
from loadtest.schedule import Step, parse_rates
from loadtest.workload import Target, Workload, WorkloadError, cross, parse_weights, read_mix, read_texts

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT = click.Path(dir_okay=False, writable=True, path_type=Path)
POSITIVE = click.FloatRange(min=0, min_open=True)

_SLA = f"Deadline of a tier, or of all others [{DEFAULT_SLA_MS:g}]. Take what the tier promises."
_LATE = "A run is INVALID if over 1 % of its requests are sent later than this. Keep it well below the SLA."
_SEARCH = "Search for the highest rate whose p99 stays within MS, from --rate on, in runs of --duration."
_MIX = "TOML of [[target]] tables: tenant, key or key_env, domain, tier, weight."
_TEXTS = "Texts to send: one a line, or a .csv/.json/.jsonl with text columns [built-in]."
_KEY = "The tenant's API key; better in TOMBOLA_KEY than in a shell history."

_REDUCE = (
    click.option("--sla", multiple=True, metavar="[TIER=]MS", help=_SLA),
    click.option("--max-lateness-ms", type=POSITIVE, default=MAX_LATENESS_MS, show_default=True, help=_LATE),
    click.option("--json", "json_path", type=OUTPUT, help="Write the report here as JSON."),
    click.option("--plot", "plot_path", type=OUTPUT, help="Draw the report here (.png, .svg, .pdf)."),
)
_RUN = (
    click.option("--url", default="http://127.0.0.1:8080", show_default=True, envvar="TOMBOLA_URL", help="A gateway."),
    click.option("--key", envvar="TOMBOLA_KEY", help=_KEY),
    click.option("--tenant", "tenants", multiple=True, metavar="NAME=KEY", help="Several tenants, in place of --key."),
    click.option("--domain", "domains", multiple=True, metavar="NAME[=WEIGHT]", help="Domains to ask [banking]."),
    click.option("--tier", "tiers", multiple=True, metavar="NAME[=WEIGHT]", help="Tiers to ask [server's default]."),
    click.option("--mix", type=FILE, help=_MIX),
    click.option("--texts", type=FILE, help=_TEXTS),
    click.option("--deadline-ms", type=POSITIVE, help="Send this deadline with each request."),
    click.option("--rate", "rates", default="200", show_default=True, help="Requests/s; 100,200,400 is a sweep."),
    click.option("--duration", type=float, default=10.0, show_default=True, help="Measured seconds at each rate."),
    click.option("--warmup", type=float, default=1.0, show_default=True, help="Seconds sent first, not counted."),
    click.option("--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", show_default=True),
    click.option("--seed", type=int, default=0, show_default=True, help="Same seed: same requests, same times."),
    click.option("--timeout", type=POSITIVE, default=10.0, show_default=True, help="Seconds until an answer is lost."),
    click.option("--max-connections", type=click.IntRange(min=1), default=1024, show_default=True),
    click.option("--raw", "raw_path", type=OUTPUT, help="Keep every request's record here (JSON lines)."),
    click.option("--max-rate-p99", type=POSITIVE, metavar="MS", help=_SEARCH),
    *_REDUCE,
)


def run_options(function: F) -> F:
    """Adds the options of a run."""
    return _add(function, _RUN)


def reduce_options(function: F) -> F:
    """Adds the options of a reduction."""
    return _add(function, _REDUCE)


def _add(function: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def build_plan(given: Mapping[str, Any]) -> Plan:
    """The plan of a run's options. Raises ValueError."""
    Endpoint.parse(given["url"])
    steps = [
        Step(rate_per_s=rate, duration_s=given["duration"], warmup_s=given["warmup"])
        for rate in parse_rates(given["rates"])
    ]
    return Plan(
        url=given["url"],
        steps=steps,
        arrivals=given["arrivals"],
        seed=given["seed"],
        timeout_s=given["timeout"],
        max_connections=given["max_connections"],
    )


def build_workload(given: Mapping[str, Any]) -> Workload:
    """The workload of a run's options. Raises WorkloadError and ValueError."""
    endpoint = Endpoint.parse(given["url"])
    return Workload(
        _targets(given),
        read_texts(given["texts"]) if given["texts"] else None,
        base_path=endpoint.base_path,
        host=endpoint.authority,
        deadline_ms=given["deadline_ms"],
    )


def _targets(given: Mapping[str, Any]) -> list[Target]:
    if given["mix"]:
        if given["tenants"] or given["domains"] or given["tiers"]:
            raise WorkloadError("--mix names tenants, domains and tiers: leave out --tenant, --domain and --tier")
        return read_mix(given["mix"], os.environ)
    tenants = {}
    for item in given["tenants"]:
        name, _, key = item.partition("=")
        if not (name and key):
            raise WorkloadError("--tenant: write NAME=KEY")
        tenants[name] = key
    if not tenants and not given["key"]:
        raise WorkloadError("no API key: give --key or set TOMBOLA_KEY (`tombola up` prints one)")
    domains = parse_weights(given["domains"], "--domain") or {"banking": 1.0}
    return cross(tenants or {"(key)": given["key"]}, domains, parse_weights(given["tiers"], "--tier"))


def build_sla(items: Sequence[str]) -> Sla:
    """The deadlines of ``["fast=10", "50"]``. Raises ValueError."""
    default_ms = DEFAULT_SLA_MS
    by_tier: dict[str, float] = {}
    for item in items:
        tier, _, text = item.rpartition("=")
        try:
            deadline_ms = float(text)
        except ValueError:
            deadline_ms = 0.0
        if not 0 < deadline_ms < float("inf"):
            raise ValueError(f"--sla {item!r}: write MS or TIER=MS, such as fast=10")
        if tier:
            by_tier[tier] = deadline_ms
        else:
            default_ms = deadline_ms
    return Sla(default_ms=default_ms, by_tier=by_tier)
