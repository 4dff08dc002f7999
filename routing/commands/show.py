"""`tombola route show`: the table as an outline, or as JSON.

Owns what a person sees of a table. Hashes of keys are shortened everywhere: who may look at routes need not know them.
"""

import click
import msgspec

from routing.commands.common import SHORT, load, redis_url_option, run
from routing.document import dump_json
from routing.store import Store
from routing.table import Canary, Cascade, FamilyTicket, Table, Tenant


@click.command(epilog="Example: tombola route show --json --version 3")
@click.option("--json", "as_json", is_flag=True, help="As JSON instead of an outline.")
@click.option("--version", type=click.IntRange(1), help="An earlier version instead of the current one.")
@redis_url_option
def show(as_json: bool, version: int | None, redis_url: str) -> None:
    """Show the routing table. Key hashes are shortened."""

    async def both(store: Store) -> tuple[Table, list[int]]:
        return await load(store, version), await store.versions()

    table, kept = run(redis_url, both)
    if as_json:
        click.echo(dump_json(_with_short_hashes(table), indent=2).decode())
    else:
        click.echo("\n".join(_outline(_with_short_hashes(table), kept)))


def _with_short_hashes(table: Table) -> Table:
    tenants = {
        name: msgspec.structs.replace(tenant, key_hashes=[f"{digest[:SHORT]}..." for digest in tenant.key_hashes])
        for name, tenant in table.tenants.items()
    }
    return msgspec.structs.replace(table, tenants=tenants)


def _outline(table: Table, kept: list[int]) -> list[str]:
    lines = [f"version {table.version} (kept: {', '.join(map(str, kept))})"]
    for name, tickets in table.families.items():
        lines.append(f"family {name}")
        lines += [_ticket(ticket) for ticket in tickets]
    for name, tenant in table.tenants.items():
        lines.append(f"tenant {name}, keys {', '.join(tenant.key_hashes) or 'none'}{_shares(tenant)}")
        for domain_name, domain in tenant.domains.items():
            lines.append(f"  domain {domain_name}: family {domain.family}, policy {domain.policy}")
            if domain.cascade is not None:
                lines.append(f"    cascade of {_cascade(domain.cascade)}")
            if domain.canary is not None:
                lines.append(f"    canary {canary_words(domain.canary)}")
            for tier_name, tier in domain.tiers.items():
                default = "  (default)" if tier_name == domain.default_tier else ""
                promise = f"within {tier.deadline_ms:g} ms, quality >= {tier.quality_floor:g}"
                lines.append(f"    {tier_name:<12} {promise}{default}")
    return lines


def _ticket(ticket: FamilyTicket) -> str:
    state = "" if ticket.state == "promoted" else f"  {ticket.state}"
    facts = f"quality {ticket.quality:.3f}  {ticket.service_ms:g} ms"
    return f"  {ticket.tier:<12} {ticket.id[:SHORT]}  {facts}{state}"


def canary_words(canary: Canary) -> str:
    """What a trial does, in one line."""
    takes = "is asked beside" if canary.mode == "shadow" else "answers"
    then = "; promoted by itself when it has shown itself good" if canary.is_automatic else ""
    return f"{canary.ticket[:SHORT]} {takes} {canary.share:.0%} of the asks of {canary.current[:SHORT]}{then}"


def _shares(tenant: Tenant) -> str:
    weight = "" if tenant.weight == 1.0 else f", weight {tenant.weight:g}"
    return weight + (f", {tenant.reserved_bytes} bytes reserved" if tenant.reserved_bytes else "")


def _cascade(cascade: Cascade) -> str:
    tickets = f"{cascade.small[:SHORT]} where its confidence is at least {cascade.threshold:g}"
    return f"{tickets}, else {cascade.large[:SHORT]}: accuracy {cascade.accuracy:g} on validation data"
