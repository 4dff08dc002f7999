"""`tombola tickets`: what a tenant has registered, and moving it on: canary, promote, withdraw, roll back, retire.

Owns the command line only. Which moves are legal is the server's to say; its words are passed on. The comparison of a
running canary is shown by `server.cli.canary`, registering is `server.cli.register`'s.
"""

from collections.abc import Mapping
from typing import Any

import click

from server.cli import words
from server.cli.canary import canary
from server.cli.client import Api, segment
from server.cli.options import connected, domain_option, json_option, reason_option, sure, tenant_option, yes_option


@click.group("tickets", help="List, try, promote, roll back and retire tickets.")
def command() -> None:
    """The group `tombola tickets`."""


@command.command("list", epilog="Example: tombola tickets list --tenant acme")
@tenant_option
@click.option("--domain", help="Only those of this domain.")
@json_option
@connected
def list_command(api: Api, tenant: str | None, domain: str | None, as_json: bool) -> None:
    """Show every ticket that may answer a tenant, by domain, the dearest first."""
    found = api.get(f"/v1/tenants/{segment(api.own_tenant(tenant))}/tickets")
    rows = [row for row in found["tickets"] if domain in (None, row["domain"])]
    if as_json:
        words.as_json(found | {"tickets": rows})
        return
    words.table(
        ["domain", "tier", "ticket", "state", "quality", "one row", "bundle", "made by"],
        [
            (
                row["domain"], row["tier"], row["ticket"][: words.SHORT], row["state"], words.number(row["quality"]),
                f"{row['service_ms']:.3g} ms", words.size(row["bytes"] or None),
                "operators" if row["is_shared"] else "registration",
            )
            for row in rows
        ],
    )  # fmt: skip


@command.command(epilog="Example: tombola tickets show 3f9a0c12")
@click.argument("ticket")
@tenant_option
@domain_option
@json_option
@connected
def show(api: Api, ticket: str, tenant: str | None, domain: str | None, as_json: bool) -> None:
    """Show one ticket (an id, or at least 8 digits of it): its state, and what the gate found out."""
    row = api.get(f"/v1/tenants/{segment(api.own_tenant(tenant))}/tickets/{segment(ticket)}", domain=domain)
    if as_json:
        words.as_json(row)
        return
    words.facts(_facts(row))
    if row.get("report"):
        report(row["report"])


@command.command(epilog="Example: tombola tickets promote 3f9a0c12 --reason 'canary agreed for a day'")
@click.argument("ticket")
@click.option("--deadline-ms", type=float, help="What its tier promises from now on.  [default: as before]")
@click.option("--quality-floor", type=float, help="Nothing below this quality answers in its tier from now on.")
@reason_option
@tenant_option
@domain_option
@json_option
@connected
def promote(api: Api, ticket: str, tenant: str | None, as_json: bool, **options: str | float | None) -> None:
    """Give a ticket the requests of its tier. What answered them until now is kept for `rollback`."""
    row = _move(api, tenant, f"tickets/{segment(ticket)}/promote", options)
    _moved(row, as_json=as_json)
    if not as_json and row["replaces"]:
        before = ", ".join(old[: words.SHORT] for old in row["replaces"])
        click.echo(f"before it: {before}; `tombola tickets rollback {row['domain']} --tier {row['tier']}` undoes this")


@command.command(epilog="Example: tombola tickets withdraw 3f9a0c12")
@click.argument("ticket")
@reason_option
@tenant_option
@domain_option
@json_option
@connected
def withdraw(api: Api, ticket: str, tenant: str | None, as_json: bool, **options: str | None) -> None:
    """End a canary: the ticket is registered again, and answers only who names it."""
    _moved(_move(api, tenant, f"tickets/{segment(ticket)}/withdraw", options), as_json=as_json)


@command.command(epilog="Example: tombola tickets rollback banking --tier fast --reason 'errors since 12:00'")
@click.argument("domain")
@click.option("--tier", help="Only this tier's latest promotion.  [default: the latest of the domain]")
@reason_option
@tenant_option
@json_option
@connected
def rollback(api: Api, domain: str, tenant: str | None, as_json: bool, **options: str | None) -> None:
    """Bring back what answered DOMAIN before the latest promotion; again: what was before that.

    It does not ask: who needs it is in a hurry, and a promotion undoes it.
    """
    found = _move(api, tenant, f"domains/{segment(domain)}/rollback", options)
    if as_json:
        words.as_json(found)
        return
    click.echo(f"domain {domain} is rolled back; promoted in it now:")
    for row in found["promoted"]:
        click.echo(f"  {row['tier']:<12} {row['ticket'][: words.SHORT]}  quality {words.number(row['quality'])}")


@command.command(epilog="Example: tombola tickets retire 3f9a0c12 --reason 'superseded'")
@click.argument("ticket")
@click.option("--last", "is_last", is_flag=True, help="Also where the domain goes with its only ticket.")
@reason_option
@tenant_option
@domain_option
@yes_option
@json_option
@connected
def retire(api: Api, ticket: str, tenant: str | None, yes: bool, as_json: bool, **options: str | bool | None) -> None:
    """Take a ticket away: nobody can call it any more, not even by its id. It may be registered again."""
    sure(f"Retire ticket {ticket}? Who pins it by its id is refused from then on.", yes=yes)
    row = _move(api, tenant, f"tickets/{segment(ticket)}/retire", options)
    _moved(row, as_json=as_json)


command.add_command(canary)


def report(document: Mapping[str, Any]) -> None:
    """Print what the gate found out: a row for every step."""
    words.table(
        ["step", "", "ms", "what was found"],
        [(step["name"], step["status"], f"{step['ms']:.0f}", step["detail"] or "-") for step in document["steps"]],
    )
    if document.get("confinement"):
        click.echo(words.visible(f"examined in confinement: {', '.join(document['confinement'])}"))


def _move(api: Api, tenant: str | None, path: str, options: Mapping[str, object]) -> Any:  # noqa: ANN401 - JSON
    """What the server says to a move; options that were not given are left out."""
    document = {name: value for name, value in options.items() if value not in (None, False)}
    return api.send("POST", f"/v1/tenants/{segment(api.own_tenant(tenant))}/{path}", document)


def _moved(row: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        words.as_json(row)
        return
    where = f"{row['domain']}, tier {row['tier']}" if "tier" in row else row["domain"]
    click.echo(f"ticket {row['ticket'][: words.SHORT]} is {row['state']} in domain {where}")


def _facts(row: Mapping[str, Any]) -> list[tuple[str, object]]:
    promise, trial = row.get("promise"), row.get("canary")
    facts: list[tuple[str, object]] = [
        ("ticket", row["ticket"]),
        ("state", row["state"]),
        ("domain", f"{row['domain']}, tier {row['tier']}"),
        ("quality", words.number(row["quality"])),
        ("one row", f"{row['service_ms']:.3g} ms"),
        ("bundle", words.size(row["bytes"]) if row["bytes"] else "-"),
    ]
    if promise is not None:
        facts.append(("promise", f"within {promise['deadline_ms']:g} ms, quality >= {promise['quality_floor']:g}"))
    if trial is not None:
        facts.append(("canary", f"{trial['mode']}, {trial['share']:.0%} of the requests of {trial['current'][:12]}"))
    if row["replaces"]:
        facts.append(("replaced", ", ".join(old[: words.SHORT] for old in row["replaces"])))
    return facts
