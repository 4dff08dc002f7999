"""`tombola route explain`: why an ask would get the ticket it gets.

Owns the options that describe an ask and what workers are supposed to be like, and the words of the answer; the
decision itself and its reasons are `routing.explain`'s.
"""

import click
import msgspec

from routing.commands.common import SHORT, load, redis_url_option, run
from routing.commands.show import canary_words
from routing.explain import Explanation, explain
from routing.predict import prior
from routing.reasons import show_ms
from routing.store import Store
from routing.table import Ask, Fleet, Refusal, Table, WorkerView


@click.command("explain", epilog="Example: tombola route explain --tenant acme --domain banking --busy-ms 20")
@click.option("--tenant", required=True, help="The tenant that asks.")
@click.option("--domain", required=True, help="The domain it asks for.")
@click.option("--tier", help="The tier it asks for; without it the domain's default tier.")
@click.option("--version", help="The ticket it pins: an id, or at least 8 hex digits of one.")
@click.option("--deadline-ms", type=float, help="Its own deadline, where that is sooner than the tier's.")
@click.option("--rows", type=click.IntRange(1), default=1, show_default=True, help="How many texts it has.")
@click.option("--row-bytes", type=click.IntRange(0), default=40, show_default=True, help="The bytes of the longest.")
@click.option("--skip", type=click.IntRange(0), default=0, help="Suppose that load has brought it so many steps down.")
@click.option("--busy-ms", type=float, default=0.0, show_default=True, help="Suppose this queue on every worker.")
@click.option("--own-ms", type=float, help="Of that queue, the tenant's own part; the rest is one other tenant's.")
@click.option("--cold", is_flag=True, help="Suppose that no worker holds any ticket yet.")
@redis_url_option
def explain_command(
    tenant: str,
    domain: str,
    tier: str | None,
    version: str | None,
    deadline_ms: float | None,
    rows: int,
    row_bytes: int,
    skip: int,
    busy_ms: float,
    own_ms: float | None,
    cold: bool,
    redis_url: str,
) -> None:
    """Say which ticket would answer, and why each other ticket of the family would not.

    The table and the workers are the live ones. What workers hold, what tickets cost there and how
    long their queues are is known to gateways only: tickets are supposed to cost what the table
    says, the rest is supposed with --busy-ms, --own-ms and --cold.
    """
    ask = Ask(
        tenant=tenant, domain=domain, tier=tier, version=version, deadline_ms=deadline_ms, rows=rows,
        row_bytes=row_bytes, skip=skip,
    )  # fmt: skip

    async def both(store: Store) -> tuple[Table, Fleet]:
        table, leases = await load(store), await store.leases("worker")
        supposed = _supposed(table, tenant, busy_ms, own_ms, cold)
        return table, Fleet(workers=tuple(msgspec.structs.replace(supposed, name=lease.name) for lease in leases))

    table, fleet = run(redis_url, both)
    supposed = f"supposed {'to hold nothing' if cold else 'to hold every ticket'} with {show_ms(busy_ms)} of queue"
    click.echo(f"table version {table.version}, {len(fleet.workers)} live workers, {supposed}")
    click.echo("\n".join(_explained(explain(ask, table, fleet))))
    canary = table.canaries.get((tenant, domain))
    if canary is not None and version is None:
        click.echo(f"canary: {canary_words(canary)}")


def _supposed(table: Table, tenant: str, busy_ms: float, own_ms: float | None, cold: bool) -> WorkerView:
    """A worker as the options of ``explain`` describe it."""
    costs = {} if cold else {t.id: prior(t) for family in table.families.values() for t in family}
    queues: dict[str, float] = {}
    weights = 0.0
    if own_ms is not None:
        own = table.tenants.get(tenant)
        queues = {tenant: own_ms, "another tenant": busy_ms - own_ms}
        queues = {name: queued for name, queued in queues.items() if queued > 0}
        weights = sum(own.weight if own is not None and name == tenant else 1.0 for name in queues)
    return WorkerView(name="supposed", costs=costs, queued_ms=busy_ms, tenants=queues, active_weight=weights)


def _explained(explanation: Explanation) -> list[str]:
    lines = []
    if explanation.tier is not None:
        promise = f"within {explanation.deadline_ms:g} ms, quality >= {explanation.quality_floor:g}"
        lines.append(f"tier {explanation.tier}: {promise}, policy {explanation.policy}")
    for item in explanation.considered:
        mark = "*" if item.is_chosen else " "
        ticket = item.ticket
        state = "" if ticket.state == "promoted" else f"  {ticket.state}"
        facts = f"quality {ticket.quality:.3f}  {ticket.service_ms:g} ms{state}"
        lines.append(f"{mark} {ticket.tier:<12} {ticket.id[:SHORT]}  {facts}  {item.why}")
    outcome = explanation.outcome
    if isinstance(outcome, Refusal):
        again = "" if outcome.retry_after_s is None else f" (try again after {outcome.retry_after_s:g} s)"
        return [*lines, f"refused, {outcome.code}: {outcome.message}{again}"]
    return [*lines, f"routed to {outcome.ticket} on {outcome.worker}: {outcome.because}"]
