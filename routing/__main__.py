"""`tombola route`: edit, check, compare, publish, restore, show and explain the routing table.

Owns the list of its sub-commands, each of which is a file of `routing.commands`, and the making of API keys for
authored documents. Reading and checking documents is `routing.document`, the decision `routing.decide`, Redis
`routing.store`.
"""

import click

from routing.commands.edit import edit
from routing.commands.explain import explain_command
from routing.commands.history import history
from routing.commands.publish import diff_command, publish, restore, validate
from routing.commands.recover import recover_command
from routing.commands.show import show
from routing.keys import key_hash, new_key


@click.group(name="route", help="Edit, publish, show and explain the routing table.")
def command() -> None:
    """The group `tombola route`."""


@command.command(epilog="Example: tombola route key")
def key() -> None:
    """Make an API key for a table document: give the key to the tenant, put its hash into key_hashes.

    It may call, no more. Keys with roles and an end are made with `tombola tenants key new`.
    """
    made = new_key()
    click.echo(f"key       {made}\nkey hash  {key_hash(made)}")


for _command in (show, edit, validate, diff_command, publish, restore, history, explain_command, recover_command):
    command.add_command(_command)


if __name__ == "__main__":
    command()
