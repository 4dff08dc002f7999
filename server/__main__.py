"""The command line `tombola`: a table of sub-commands, each imported only when it is called.

Owns the names, the one-line descriptions (so that `--help` imports nothing) and the check of
``TOMBOLA_*`` environment variables. Options and work belong to the modules named in COMMANDS:
`tombola worker` never imports the HTTP stack, `tombola load` never imports the server.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

import click


class Target(NamedTuple):
    """Where a sub-command lives, and what it does in one line."""

    module: str
    attribute: str
    help: str


COMMANDS = {
    "up": Target("server.run_up", "command", "Start everything on this machine: Redis, workers, gateways."),
    "gateway": Target("server.run_gateway", "command", "Start one gateway (HTTP) against a Redis."),
    "worker": Target("server.run_worker", "command", "Start one worker (ONNX Runtime) against a Redis."),
    "restart": Target("server.restart", "command", "Replace the processes of a running `up`, losing no request."),
    "probe": Target("server.probe", "command", "Ask one process to show that it works (a liveness check)."),
    "quarantine": Target("server.run_quarantine", "command", "Show and clear tickets that crashed their workers."),
    "doctor": Target("server.doctor", "command", "Check this machine and suggest how to run on it."),
    "tenants": Target("server.cli.tenants", "command", "Create, limit, suspend and delete tenants, and their keys."),
    "register": Target("server.cli.register", "command", "Register a ticket, or an ONNX model of your own."),
    "tickets": Target("server.cli.tickets", "command", "List, try, promote, roll back and retire tickets."),
    "events": Target("server.cli.events", "command", "Show who changed what, and when."),
    "route": Target("routing.__main__", "command", "Edit, publish, show and explain the routing table."),
    "inspect": Target("tickets.__main__", "inspect", "Show what a ticket says about itself."),
    "verify": Target("tickets.__main__", "verify", "Check that a ticket is whole, and that it runs."),
    "keys": Target("tickets.sign_commands", "keys", "Make and show keys to sign tickets with."),
    "sign": Target("tickets.sign_commands", "sign", "Sign a ticket."),
    "find": Target("tickets.__main__", "find", "Find tickets for your own labelled texts (needs torch)."),
    "evaluate": Target("tickets.__main__", "evaluate", "Measure tickets on labelled texts."),
    "lottery": Target("tickets.__main__", "lottery", "Find winning tickets by iterative magnitude pruning."),
    "patterns": Target("tickets.__main__", "patterns", "Prune to 2:4 or blocks for accelerators, and measure it."),
    "transfer": Target("tickets.__main__", "transfer", "Measure how masks of one domain do on another."),
    "runs": Target("tickets.__main__", "runs", "List, show and compare the factory's runs."),
    "report": Target("tickets.__main__", "report", "Draw a run of the factory as one web page."),
    "cascade": Target("tickets.__main__", "cascade", "Say when a small ticket may answer in place of a large one."),
    "pack": Target("tickets.__main__", "pack", "Make a ticket from an ONNX model."),
    "load": Target(
        "loadtest.__main__", "command", "Load-test a gateway: open loop, percentiles, goodput within the SLA."
    ),
}

KNOWN_VARIABLES = frozenset(
    {
        "TOMBOLA_ADMIN_HOST",
        "TOMBOLA_ADMIN_PORT",
        "TOMBOLA_BATCH_TOKENS",
        "TOMBOLA_DRAIN_S",
        "TOMBOLA_GATEWAYS",
        "TOMBOLA_HOST",
        "TOMBOLA_KEY",
        "TOMBOLA_LISTEN",
        "TOMBOLA_MAX_BODY_BYTES",
        "TOMBOLA_MAX_IN_FLIGHT",
        "TOMBOLA_MEMORY_BYTES",
        "TOMBOLA_NAME",
        "TOMBOLA_OPS_HOST",
        "TOMBOLA_OPS_PORT",
        "TOMBOLA_PASSPHRASE",
        "TOMBOLA_PORT",
        "TOMBOLA_PRELOAD",
        "TOMBOLA_PROBE_PATIENCE_S",
        "TOMBOLA_PROVIDERS",
        "TOMBOLA_QUEUE_TEXTS",
        "TOMBOLA_OTLP_ENDPOINT",
        "TOMBOLA_TRACE_RATIO",
        "TOMBOLA_REQUEST_LOG",
        "TOMBOLA_REDIS_URL",
        "TOMBOLA_REGISTRY",
        "TOMBOLA_RUN_DIR",
        "TOMBOLA_SIGNING_KEY",
        "TOMBOLA_STARTER",
        "TOMBOLA_STATE",
        "TOMBOLA_TABLE_CACHE",
        "TOMBOLA_URL",
        "TOMBOLA_WORKERS",
    }
)
"""Every variable that some sub-command reads (tests/server/test_cli.py compares it with their options)."""

EPILOG = """\b
The usual path:
  tombola up                        start, and print a curl line that works
  curl ... /v1/classify             ask (copy the line that `up` prints)
  tombola load --key KEY            how fast is it? percentiles and goodput within the SLA
  tombola find --data FILE --domain NAME --tiers fast
                                    tickets for your own labelled texts
"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one sub-command; None for a name that does not exist."""
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        found = getattr(importlib.import_module(target.module), target.attribute)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but an unknown command is answered with the nearest known one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; see `tombola --help`"
            ctx.fail(f"there is no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, target.help) for name, target in COMMANDS.items()])


def complaint_about(names: Iterable[str]) -> str | None:
    """What is wrong with the ``TOMBOLA_*`` variables among ``names``; None when all are known.

    A misspelt variable would otherwise be a setting that silently does not hold.
    """
    unknown = sorted(name for name in names if name.startswith("TOMBOLA_") and name not in KNOWN_VARIABLES)
    if not unknown:
        return None
    nearest = difflib.get_close_matches(unknown[0], sorted(KNOWN_VARIABLES), n=1, cutoff=0.0)[0]
    return f"unknown environment variable {unknown[0]}; the nearest that exists is {nearest}. Correct it or unset it."


def _print_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if not is_asked or ctx.resilient_parsing:
        return
    import importlib.metadata  # slow, and only needed here

    try:
        click.echo(f"tombola {importlib.metadata.version('tombola')}")
    except importlib.metadata.PackageNotFoundError:
        click.echo("tombola (a checkout that is not installed)")
    ctx.exit()


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def tombola() -> None:
    """Serve winning lottery tickets: small, fast subnetworks of one backbone, by domain and latency tier."""


def main() -> None:
    """Run the command line; the console script's entry point."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime 1.32 begins to collect when it is imported
    complaint = complaint_about(os.environ)
    if complaint is not None:
        click.echo(f"Error: {complaint}", err=True)
        sys.exit(2)
    tombola(prog_name="tombola")


if __name__ == "__main__":
    main()
