"""`tombola cascade`: the options, and what is said to the person who typed it.

A composition root: opens the two tickets and the data, prints tables and the TOML for the routing
table. The choice is `tickets.factory.cascade`. Needs no torch, only what runs tickets.
"""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tickets import bundle as bundles
from tickets.bundle import BundleError
from tickets.cascade import CERTAINTY, CascadeError, Hold, Measured, Promise, Within
from tickets.factory.cascade import Found, Pair, Split, check_pair, find_cascade
from tickets.factory.data import build
from tickets.factory.formats import load_rows
from tickets.factory.rows import DataError
from tickets.reference import Reference

_FILE = click.Path(exists=False, dir_okay=False, path_type=Path)
DEFAULT_POINTS = 1.0


class Refused(click.ClickException):
    """No such cascade; the message says why, and what can be reached."""

    exit_code = 2


@click.command(
    epilog="Example: tombola cascade --data clinc150_full.json --domain banking "
    "--small banking-fast.ticket --large banking-accurate.ticket --within 2",
    short_help="Set a cascade's threshold from validation texts (factory).",
)
@click.option("--data", type=_FILE, required=True, help="Labelled texts: CSV, TSV, JSON lines or CLINC150's JSON.")
@click.option("--domains", type=_FILE, help="JSON of domain -> labels, where the data file has no domain column.")
@click.option("--domain", required=True, help="The domain that both tickets answer for.")
@click.option("--small", type=_FILE, required=True, help="The ticket that is asked first: the cheaper one.")
@click.option("--large", type=_FILE, required=True, help="The ticket that is asked where the small one is not sure.")
@click.option("--hold", type=float, help="Be right on at least this share of texts, such as 0.95.")
@click.option("--within", type=float, help="Lose at most so many points (of 100) against always asking the large "
              f"ticket.  [default: {DEFAULT_POINTS:g}, without --hold]")  # fmt: skip
@click.option("--certainty", type=click.FloatRange(0.5, 0.9999), default=CERTAINTY, show_default=True,
              help="How sure the promise is to hold on unseen texts; more takes more validation texts.")  # fmt: skip
@click.option("--tenant", default="demo", show_default=True, help="Whose entry of the routing table is printed.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def cascade(
    data: Path,
    domains: Path | None,
    domain: str,
    small: Path,
    large: Path,
    hold: float | None,
    within: float | None,
    certainty: float,
    tenant: str,
    as_json: bool,
) -> None:
    """Say from which confidence on a small ticket's answer may stand, before a larger one is asked.

    The threshold is chosen on the validation split and then measured on the test split. A text is right
    where it is in scope, found to be, and gets its label; or where it is out of scope and found to be.
    """
    if hold is not None and within is not None:
        raise click.UsageError("give --hold or --within, not both")
    promise: Promise = Hold(hold) if hold is not None else Within(DEFAULT_POINTS if within is None else within)
    try:
        first, second = bundles.read(small), bundles.read(large)
        check_pair(first, second, domain)
        examples = build(load_rows(data, domains), domain, first.manifest.lineage.seeds.get("all", 0))
        found = find_cascade(Pair(Reference(first), Reference(second)), examples, promise, certainty)
    except (CascadeError, DataError, BundleError) as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")) from error
    if as_json:
        click.echo(json.dumps(found.document() | {"table_entry": found.table_entry(tenant)}, indent=1))
        return
    show(Console(stderr=True), found, promise)
    click.echo(found.table_entry(tenant), nl=False)


def show(console: Console, found: Found, promise: Promise) -> None:
    """The tables for people; the routing table's entry goes to standard output apart."""
    for name, split in (("validation", found.validation), ("test", found.test)):
        console.print(_table(name, split))
    chosen = found.threshold
    kept = (
        f"at least {chosen.shown:.2%} right"
        if isinstance(promise, Hold)
        else f"at most {chosen.shown:.2f} points lost against the large ticket"
    )
    console.print(
        f"threshold {chosen.value:g}: shown with {found.certainty:.0%} certainty on {chosen.texts} validation texts: "
        f"{kept} ({chosen.broken} texts count against it)"
    )
    for note in found.notes:
        console.print(f"note: {note}")
    if found.cost_ms is None:
        console.print("expected cost: unknown, because a ticket states no service_ms")
        return
    first, second, both = found.cost_ms
    console.print(f"expected cost of a text: {both:.3f} ms; always small {first:.3f} ms, always large {second:.3f} ms")
    if both >= second:
        console.print("note: that is no less than always asking the large ticket: ask it alone")


def _table(name: str, split: Split) -> Table:
    inside, outside = split.texts
    table = Table(
        name, "accuracy", "in scope: kept and right", "out of scope: found", "answered by small",
        title=f"{inside} texts in scope, {outside} out of scope; accuracy at validation's mix",
    )  # fmt: skip
    rows: list[tuple[str, Measured]] = [
        ("always small", split.small), ("always large", split.large), ("cascade", split.cascade)
    ]  # fmt: skip
    for row, measured in rows:
        table.add_row(
            row, _share(measured.accuracy), _share(measured.in_scope_right), _share(measured.out_of_scope_found),
            _share(measured.answered_by_small),
        )  # fmt: skip
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
