"""The commands about tickets: inspect and verify (light), find, evaluate, cascade and pack (the factory).

A composition root. The factory is imported only when one of its commands is used, so that
`tombola inspect` and `tombola --help` stay fast and need no torch.
"""

import importlib
import importlib.util
from typing import Any

import click

from tickets.inspect import inspect, verify

FACTORY = {
    "find": "tickets.factory.find_command",
    "evaluate": "tickets.factory.evaluate_command",
    "lottery": "tickets.factory.lottery.command",
    "patterns": "tickets.factory.lottery.patterns_command",
    "transfer": "tickets.factory.lottery.transfer_command",
    "cascade": "tickets.factory.cascade_command",
    "report": "tickets.factory.report_command",
    "runs": "tickets.factory.runs_command",
    "pack": "tickets.pack_command",
}
"""Commands of the factory, and where they live."""

WITHOUT_TORCH = frozenset({"cascade", "pack", "report", "runs"})


class FactoryMissing(click.ClickException):
    """A command of the factory was asked for where the factory is not installed."""

    exit_code = 2


class FactoryCommand(click.Command):
    """Stands for a command of the factory until it is used."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - as click declares it
    ) -> click.Context:
        """Hand over to the real command. Raises FactoryMissing."""
        return _load(str(self.name)).make_context(info_name, args, parent, **extra)


def _load(name: str) -> click.Command:
    missing = FactoryMissing(
        f"`{name}` belongs to the factory, which is not installed here. Install it with: pip install 'tombola[factory]'"
    )
    if name not in WITHOUT_TORCH and not _is_installed("torch"):
        raise missing
    try:
        command = getattr(importlib.import_module(FACTORY[name]), name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "tickets":
            raise
        raise missing from error
    assert isinstance(command, click.Command)
    return command


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a stub stands in its place
        return False


find = FactoryCommand("find", short_help="Find a family of tickets for a domain (factory).")
evaluate = FactoryCommand("evaluate", short_help="Measure a ticket's quality on labelled texts (factory).")
cascade = FactoryCommand("cascade", short_help="Set a cascade's threshold from validation texts (factory).")
lottery = FactoryCommand("lottery", short_help="Iterative magnitude pruning with rewinding (factory).")
patterns = FactoryCommand("patterns", short_help="Prune to 2:4 or blocks, and measure what it costs (factory).")
transfer = FactoryCommand("transfer", short_help="Masks found on one domain, trained on another (factory).")
runs = FactoryCommand("runs", short_help="List, show and compare the factory's runs.")
report = FactoryCommand("report", short_help="Draw a run as one web page.")
pack = FactoryCommand("pack", short_help="Make a ticket from an ONNX model of your own.")


COMMANDS = (find, evaluate, lottery, patterns, transfer, runs, report, cascade, pack, inspect, verify)


@click.group(commands={c.name: c for c in COMMANDS if c.name})
def main() -> None:
    """Find, prove, pack and look at tickets."""


if __name__ == "__main__":
    main(prog_name="tombola")
