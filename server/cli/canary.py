"""`tombola tickets canary`: try a ticket beside the one it would replace, and watch the comparison.

Owns how a trial is begun and how its standing is shown, once or again and again. What is counted, and how it is judged,
is the overseer's.
"""

import time
from collections.abc import Mapping
from typing import Any

import click

from server.cli import words
from server.cli.client import Api, segment
from server.cli.options import connected, domain_option, json_option, tenant_option

WATCH_S = 2.0


@click.command(
    epilog="Example: tombola tickets canary 3f9a0c12 --share 5% --watch   |   tombola tickets canary --domain banking"
)
@click.argument("ticket", required=False)
@click.option("--share", metavar="PART", default="10%", show_default=True, help="The part of the requests of its tier.")
@click.option("--shadow", is_flag=True, help="Ask it too, but let the present ticket answer: nobody sees its answers.")
@click.option(
    "--automatic",
    is_flag=True,
    help="Promote it by itself as soon as it has shown itself to be good. (A bad one is always rolled back by itself.)",
)
@click.option("--watch", is_flag=True, help="Show how it stands every two seconds until it ends, or Ctrl-C.")
@tenant_option
@domain_option
@json_option
@connected
def canary(
    api: Api,
    ticket: str | None,
    share: str,
    shadow: bool,
    automatic: bool,
    watch: bool,
    tenant: str | None,
    domain: str | None,
    as_json: bool,
) -> None:
    """Try TICKET on a share of its tier's requests. Without TICKET: show how the canary of --domain stands."""
    base = f"/v1/tenants/{segment(api.own_tenant(tenant))}"
    if ticket is not None:
        document = {"share": part(share), "mode": "shadow" if shadow else "canary", "is_automatic": automatic}
        if domain is not None:
            document["domain"] = domain
        row = api.send("POST", f"{base}/tickets/{segment(ticket)}/canary", document)
        domain = row["domain"]
        if not as_json:
            does = "is asked beside" if shadow else "answers"
            click.echo(
                f"ticket {row['ticket'][: words.SHORT]} {does} {part(share):.3g} of domain {domain}, tier "
                f"{row['tier']}; `tombola tickets canary --domain {domain} --watch` shows how it does"
            )
        elif not watch:
            words.as_json(row)
        if not watch:
            return
    if domain is None:
        raise click.UsageError("name a TICKET to try, or a --domain whose canary is to be shown")
    while True:
        found = api.get(f"{base}/domains/{segment(domain)}/canary")
        if as_json:
            words.as_json(found)
        else:
            show_standing(found, domain)
        if found["canary"] is None or not watch:
            return
        time.sleep(WATCH_S)


def part(text: str) -> float:
    """``5%`` or ``0.05`` as a fraction. Raises UsageError."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = 0.0
    if not 0.0 < share <= 1.0:
        raise click.BadParameter(f"{text!r}: write a part of all requests, like 5% or 0.05", param_hint="--share")
    return share


def show_standing(found: Mapping[str, Any], domain: str) -> None:
    """Print how a domain's canary stands, from what its route says."""
    trial, standing = found["canary"], found["standing"]
    if trial is None:
        click.echo(f"domain {domain} has no canary (any more); `tombola events` says how the last one ended")
        return
    share = f"{trial['share']:.3g} of the requests of {trial['current'][: words.SHORT]}"
    facts = [
        ("canary", f"{trial['ticket'][: words.SHORT]}, {trial['mode']}, {share}"),
        ("since", f"{words.moment(trial['started_at'])} UTC"),
        ("when good", "promoted by itself" if trial["is_automatic"] else "somebody promotes it"),
    ]
    if standing is None:
        words.facts([*facts, ("standing", "nothing is counted yet")])
        return
    verdict, counts = standing["verdict"], standing["counts"]
    words.facts([*facts, ("counted", _counted(counts)), ("verdict", f"{verdict['outcome']}: {verdict['words']}")])
    words.table(
        ["question", "asks", "it has", "must keep to", "evidence that it is bad", "that it is good"],
        [
            (
                test["name"], test["asks"], words.number(test["observed"]), words.number(test["bound"]),
                f"{words.number(test['bad_evidence'], 3)} of {test['bad_needed']:.0f}",
                f"{words.number(test['good_evidence'], 3)} of {test['good_needed']:.0f}",
            )
            for test in verdict["tests"]
        ],
    )  # fmt: skip


def _counted(counts: Mapping[str, Any]) -> str:
    """Both sides of a trial in one line."""
    sides = (
        f"{name} {arm['asks']} asks, {arm['errors']} errors, {arm['late']} late"
        for name, arm in (("canary", counts["canary"]), ("current", counts["current"]))
    )
    return f"{'; '.join(sides)}; {counts['skipped']} drawn and skipped"
