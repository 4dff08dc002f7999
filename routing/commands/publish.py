"""`tombola route validate`, `diff`, `publish`, `restore` and `recover`: how a table comes to be the table.

Owns what is asked and said before one table replaces another. Each publishes over the version that was looked at, so
that nobody's work is overwritten unknowingly; making it so in one step is `routing.store`'s.
"""

from pathlib import Path

import click

from routing.commands.common import (
    RouteError,
    agreed,
    counts,
    load,
    published,
    put,
    read,
    reason_option,
    redis_url_option,
    run,
    yes_option,
)
from routing.diff import diff
from routing.restore import ended_since, restored
from routing.store import Store, StoreCorrupt, VersionConflict
from routing.table import Table

_file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.command(epilog="Example: tombola route validate table.toml")
@_file_argument
def validate(file: Path) -> None:
    """Check FILE (TOML or JSON) and say everything that is wrong with it. It needs no Redis."""
    click.echo(f"{file} can be published: {counts(read(file, 'a table that can be published'))}")


@click.command("diff", epilog="Example: tombola route diff table.toml   |   tombola route diff --from 3 --to 5")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--from", "from_version", type=click.IntRange(1), help="The older version.  [default: what stands]")
@click.option("--to", "to_version", type=click.IntRange(1), help="The newer version.  [default: FILE, or what stands]")
@redis_url_option
def diff_command(file: Path | None, from_version: int | None, to_version: int | None, redis_url: str) -> None:
    """Say what FILE, or another version, changes. With neither, name at least --from."""
    if file is not None and to_version is not None:
        raise click.UsageError("FILE is the newer one already: leave --to out")
    if file is None and from_version is None and to_version is None:
        raise click.UsageError("compare what? Name a FILE, or --from a version")
    new = read(file, "compared") if file is not None else None

    async def both(store: Store) -> tuple[Table | None, Table]:
        old = await store.load_table() if file is not None and from_version is None else await load(store, from_version)
        return old, new if new is not None else await load(store, to_version)

    old, newer = run(redis_url, both)
    differences = diff(old, newer)
    for difference in differences:
        click.echo(str(difference))
    if not differences:
        click.echo("no difference")


@click.command(epilog="Example: tombola route publish table.toml --expect-version 3")
@_file_argument
@click.option("--expect-version", type=click.IntRange(0), help="Publish only over this version (0: over none).")
@click.option("--drop-tenants", is_flag=True, help="Also where FILE lacks tenants that have accounts.")
@reason_option
@yes_option
@redis_url_option
def publish(file: Path, expect_version: int | None, drop_tenants: bool, reason: str, yes: bool, redis_url: str) -> None:
    """Check FILE (TOML or JSON) and make it the routing table of all gateways, whole and at once.

    What it changes is shown first. It replaces the table that it was compared with and no other: where somebody
    publishes meanwhile, nothing happens.
    """
    table = read(file, "published")

    async def action(store: Store) -> Table:
        try:
            standing = await store.load_table()
        except StoreCorrupt as error:
            click.echo(f"{error}: it is replaced.", err=True)
            return await store.publish(table, expect_version=expect_version, reason=reason)
        current = standing.version if standing is not None else 0
        if expect_version is not None and expect_version != current:
            raise VersionConflict(expect_version, current)
        if not drop_tenants:
            await _refuse_to_drop(store, standing, table)
        if standing is not None:
            agreed(diff(standing, table), f"Publish this over version {current}?", yes=yes)
        return await put(store, table, standing, action="table.publish", reason=reason, facts={})

    click.echo(published(run(redis_url, action)))


@click.command(epilog="Example: tombola route restore 3 --reason 'the new floors refuse too much'")
@click.argument("version", type=click.IntRange(1))
@reason_option
@yes_option
@redis_url_option
def restore(version: int, reason: str, yes: bool, redis_url: str) -> None:
    """Bring back the families and domains of VERSION, as a new version.

    Keys, limits and accounts stay as they are now; tenants deleted since stay deleted. `tombola route show` lists the
    versions that are kept.
    """

    async def action(store: Store) -> Table:
        standing, earlier = await load(store), await load(store, version)
        ended = await ended_since(version, lambda before: store.events(before=before))
        if ended is None:
            raise RouteError(
                f"the audit log does not reach back to version {version}, so nobody knows which tenants have been "
                "deleted since: restoring it could give a new one of the same name the old one's domains. Look at it "
                f"with `tombola route show --version {version}`, then publish what you want of it"
            )
        new = restored(standing, earlier, ended)
        agreed(diff(standing, new), f"Restore version {version} over version {standing.version}?", yes=yes)
        return await put(store, new, standing, action="table.restore", reason=reason, facts={"restored": version})

    click.echo(published(run(redis_url, action)))


async def _refuse_to_drop(store: Store, standing: Table | None, new: Table) -> None:
    """Raise RouteError where ``new`` takes the routes of tenants away who have accounts."""
    accounts = await store.load_accounts()
    dropped = sorted(
        name for name in (standing.tenants if standing is not None else {}) if name in accounts.keys() - new.tenants
    )
    if dropped:
        raise RouteError(
            f"this table lacks {', '.join(dropped)}, whose accounts stand: nothing of theirs would be answered. "
            "Delete tenants with `tombola tenants delete`, or say --drop-tenants."
        )
