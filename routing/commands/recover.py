"""`tombola route recover`: what a gateway kept on its disk, published again over a Redis that has lost its data.

Owns which of a directory's files are taken, and what is asked before that. What may be overwritten, and that it happens
in one step, is `routing.redis.recovery`'s.
"""

from pathlib import Path

import click

from routing.change import Committed
from routing.commands.common import RouteError, agreed, counts, redis_url_option, run, yes_option
from routing.diff import diff
from routing.redis.recovery import RecoveryError, newest, recover
from routing.store import Store


@click.command("recover", epilog="Example: tombola route recover .tombola --redis-url unix:///run/redis.sock")
@click.argument("place", metavar="DIR|FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--force", is_flag=True, help="Also over a Redis that holds a table or accounts, which are replaced.")
@yes_option
@redis_url_option
def recover_command(place: Path, force: bool, yes: bool, redis_url: str) -> None:
    """Publish the last table and accounts that gateways kept, after Redis has lost its data.

    DIR is a gateway's state directory: the file with the highest table version is taken. FILE names one. Gateways go on
    serving from what they have meanwhile, and none of them does this by itself.
    """
    try:
        file, kept, passed_over = newest(place)
    except RecoveryError as error:
        raise RouteError(str(error)) from error
    for problem in passed_over:
        click.echo(f"passed over:{problem}", err=True)
    click.echo(f"{file}: table version {kept.table.version} ({counts(kept.table)}), {len(kept.accounts)} accounts")

    async def action(store: Store) -> Committed:
        standing = await store.load_table()
        agreed([] if standing is None else diff(standing, kept.table), "Publish this?", yes=yes)
        return await recover(store, kept, is_forced=force)

    committed = run(redis_url, action)
    assert committed.table is not None
    click.echo(f"recovered as version {committed.table.version}, with {len(committed.accounts)} accounts")
