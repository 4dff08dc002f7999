"""`tombola route`: publish, show, explain and roll back the routing table; make an API key.

Owns the command line only: reading and checking documents is `routing.document`, the
decision is `routing.decide`, Redis is `routing.store`. Whatever is wrong with an input
or an installation ends with exit status 2 and a sentence that says what to do.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from routing.document import DocumentError, dump_json, read_document
from routing.explain import Explanation, explain
from routing.keys import key_hash, new_key
from routing.predict import prior
from routing.reasons import show_ms
from routing.store import Store, StoreCorrupt, StoreUnavailable, VersionConflict
from routing.table import Ask, Cascade, Fleet, Refusal, Table, Tenant, WorkerView

_T = TypeVar("_T")
_SHORT = 12  # hex digits of a ticket id or key hash that people see

redis_url_option = click.option(
    "--redis-url",
    envvar="TOMBOLA_REDIS_URL",
    show_envvar=True,
    required=True,
    help="The control plane: redis://, rediss:// or unix:///path. `tombola up` prints its own.",
)


class RouteError(click.ClickException):
    """An error of the caller's or of the installation, not of this program."""

    exit_code = 2


@click.group(name="route", help="Publish, show and explain the routing table.")
def command() -> None:
    """The group `tombola route`."""


@command.command(epilog="Example: tombola route publish table.toml --expect-version 3")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--expect-version", type=click.IntRange(0), help="Publish only over this version (0: over none).")
@redis_url_option
def publish(file: Path, expect_version: int | None, redis_url: str) -> None:
    """Check FILE (TOML or JSON) and make it the routing table of all gateways, whole and at once."""
    try:
        table = read_document(file)
    except DocumentError as error:
        raise RouteError(f"{file} is not published:\n" + "\n".join(f"  {line}" for line in error.problems)) from error
    except OSError as error:
        raise RouteError(str(error)) from error
    published = _run(redis_url, lambda store: store.publish(table, expect_version=expect_version))
    click.echo(_published(published))


@command.command(epilog="Example: tombola route rollback 3")
@click.argument("version", type=click.IntRange(1))
@redis_url_option
def rollback(version: int, redis_url: str) -> None:
    """Publish the earlier VERSION again, as a new version. `route show` lists the versions that are kept."""

    async def again(store: Store) -> Table:
        return await store.publish(await _load(store, version))

    click.echo(_published(_run(redis_url, again)))


@command.command(epilog="Example: tombola route show --json --version 3")
@click.option("--json", "as_json", is_flag=True, help="As JSON instead of an outline.")
@click.option("--version", type=click.IntRange(1), help="An earlier version instead of the current one.")
@redis_url_option
def show(as_json: bool, version: int | None, redis_url: str) -> None:
    """Show the routing table. Key hashes are shortened."""

    async def load(store: Store) -> tuple[Table, list[int]]:
        return await _load(store, version), await store.versions()

    table, kept = _run(redis_url, load)
    if as_json:
        click.echo(dump_json(_with_short_hashes(table), indent=2).decode())
    else:
        click.echo("\n".join(_outline(_with_short_hashes(table), kept)))


@command.command("explain", epilog="Example: tombola route explain --tenant acme --domain banking --busy-ms 20")
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

    async def load(store: Store) -> tuple[Table, Fleet]:
        table, leases = await _load(store, None), await store.leases("worker")
        supposed = _supposed(table, tenant, busy_ms, own_ms, cold)
        return table, Fleet(workers=tuple(msgspec.structs.replace(supposed, name=lease.name) for lease in leases))

    table, fleet = _run(redis_url, load)
    supposed = f"supposed {'to hold nothing' if cold else 'to hold every ticket'} with {show_ms(busy_ms)} of queue"
    click.echo(f"table version {table.version}, {len(fleet.workers)} live workers, {supposed}")
    click.echo("\n".join(_explained(explain(ask, table, fleet))))


@command.command(epilog="Example: tombola route key")
def key() -> None:
    """Make an API key. Give the key to the tenant; put its hash into the table's key_hashes."""
    made = new_key()
    click.echo(f"key       {made}\nkey hash  {key_hash(made)}")


def _run(redis_url: str, action: Callable[[Store], Awaitable[_T]]) -> _T:
    async def connected() -> _T:
        store = Store.connect(redis_url)
        try:
            return await action(store)
        finally:
            await store.close()

    try:
        return asyncio.run(connected())
    except VersionConflict as error:
        raise RouteError(f"{error}. Look at it with `tombola route show`, then publish over it.") from error
    except StoreUnavailable as error:
        raise RouteError(f"{str(error).rstrip('.')}. Is --redis-url right, and does Redis run?") from error
    except (StoreCorrupt, DocumentError, ValueError) as error:
        raise RouteError(str(error)) from error


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


async def _load(store: Store, version: int | None) -> Table:
    table = await store.load_table(version)
    if table is not None:
        return table
    if version is None:
        raise RouteError("no table has been published yet: `tombola route publish FILE`")
    kept = ", ".join(map(str, await store.versions())) or "none"
    raise RouteError(f"version {version} is not kept; kept versions: {kept}")


def _published(table: Table) -> str:
    tickets = sum(map(len, table.families.values()))
    counts = f"{len(table.tenants)} tenants, {len(table.families)} families, {tickets} tickets"
    return f"published version {table.version}: {counts}"


def _with_short_hashes(table: Table) -> Table:
    tenants = {
        name: msgspec.structs.replace(tenant, key_hashes=[f"{digest[:_SHORT]}..." for digest in tenant.key_hashes])
        for name, tenant in table.tenants.items()
    }
    return msgspec.structs.replace(table, tenants=tenants)


def _outline(table: Table, kept: list[int]) -> list[str]:
    lines = [f"version {table.version} (kept: {', '.join(map(str, kept))})"]
    for name, tickets in table.families.items():
        lines.append(f"family {name}")
        lines += [f"  {t.tier:<12} {t.id[:_SHORT]}  quality {t.quality:.3f}  {t.service_ms:g} ms" for t in tickets]
    for name, tenant in table.tenants.items():
        lines.append(f"tenant {name}, keys {', '.join(tenant.key_hashes) or 'none'}{_shares(tenant)}")
        for domain_name, domain in tenant.domains.items():
            lines.append(f"  domain {domain_name}: family {domain.family}, policy {domain.policy}")
            if domain.cascade is not None:
                lines.append(f"    cascade of {_cascade(domain.cascade)}")
            for tier_name, tier in domain.tiers.items():
                default = "  (default)" if tier_name == domain.default_tier else ""
                promise = f"within {tier.deadline_ms:g} ms, quality >= {tier.quality_floor:g}"
                lines.append(f"    {tier_name:<12} {promise}{default}")
    return lines


def _shares(tenant: Tenant) -> str:
    weight = "" if tenant.weight == 1.0 else f", weight {tenant.weight:g}"
    return weight + (f", {tenant.reserved_bytes} bytes reserved" if tenant.reserved_bytes else "")


def _cascade(cascade: Cascade) -> str:
    tickets = f"{cascade.small[:_SHORT]} where its confidence is at least {cascade.threshold:g}"
    return f"{tickets}, else {cascade.large[:_SHORT]}: accuracy {cascade.accuracy:g} on validation data"


def _explained(explanation: Explanation) -> list[str]:
    lines = []
    if explanation.tier is not None:
        promise = f"within {explanation.deadline_ms:g} ms, quality >= {explanation.quality_floor:g}"
        lines.append(f"tier {explanation.tier}: {promise}, policy {explanation.policy}")
    for item in explanation.considered:
        mark = "*" if item.is_chosen else " "
        ticket = item.ticket
        facts = f"quality {ticket.quality:.3f}  {ticket.service_ms:g} ms"
        lines.append(f"{mark} {ticket.tier:<12} {ticket.id[:_SHORT]}  {facts}  {item.why}")
    outcome = explanation.outcome
    if isinstance(outcome, Refusal):
        again = "" if outcome.retry_after_s is None else f" (try again after {outcome.retry_after_s:g} s)"
        return [*lines, f"refused, {outcome.code}: {outcome.message}{again}"]
    return [*lines, f"routed to {outcome.ticket} on {outcome.worker}: {outcome.because}"]


if __name__ == "__main__":
    command()
