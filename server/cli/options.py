"""What every command of the admin API takes: where the server is, who asks, and whether to ask back.

Owns these options, so that they are called and explained alike everywhere.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from server.cli.client import Api, read_key

F = TypeVar("F", bound=Callable[..., Any])

_url_option = click.option(
    "--url",
    default="http://127.0.0.1:8080",
    show_default=True,
    envvar="TOMBOLA_URL",
    show_envvar=True,
    help="Where the admin API is: the gateway's address, or its admin port's where it has one.",
)
_key_option = click.option(
    "--key",
    envvar="TOMBOLA_KEY",
    show_envvar=True,
    metavar="KEY|FILE|-",
    help="Who asks: an API key, a file that holds one, or - for standard input. Prefer the variable or a file: command "
    "lines can be seen by others.  [default: operator.key of the state directory]",
)
_state_option = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".tombola"),
    envvar="TOMBOLA_STATE",
    show_default=True,
    help="The state directory of `tombola up`, where the operator's key is found.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
reason_option = click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
tenant_option = click.option(
    "--tenant", help="Whose.  [default: the key's own tenant; an operator has to name one]"
)  # fmt: skip
domain_option = click.option("--domain", help="Which one, where the ticket stands in several domains.")


def connected(function: F) -> F:
    """Give a command ``--url``, ``--key`` and ``--state``, and the `Api` that they make as its first argument."""

    @functools.wraps(function)
    def command(*arguments: Any, url: str, key: str | None, state: Path, **options: Any) -> Any:  # noqa: ANN401
        with Api(url, read_key(key, state)) as api:
            return function(api, *arguments, **options)

    return _url_option(_key_option(_state_option(command)))  # type: ignore[return-value]


class Bound(click.ParamType):  # type: ignore[type-arg] # generic from click 8.3 on only
    """A number, or ``none`` for no bound; bytes may carry a unit (``500MB``, ``4GB``)."""

    name = "number|none"
    _UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}  # noqa: RUF012
    NONE = "none"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """The number, or `NONE`: None is what click says where the option was not given."""
        text = str(value).strip().lower()
        if text == self.NONE:
            return self.NONE
        factor = 1
        for unit, times in self._UNITS.items():
            if self._kind is int and text.endswith(unit) and not text[: -len(unit)].endswith(("k", "m", "g")):
                text, factor = text[: -len(unit)].strip(), times
                break
        try:
            return self._kind(float(text) * factor) if factor > 1 else self._kind(text)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a number nor 'none'", param, ctx)


def chosen(options: Mapping[str, object]) -> dict[str, object]:
    """The bounds that were given on the command line; ``none`` becomes null, which is no bound."""
    return {name: None if value == Bound.NONE else value for name, value in options.items() if value is not None}


def sure(question: str, *, yes: bool) -> None:
    """Go on only if the person says so; without a terminal somebody must have said ``--yes``. Raises Abort."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Say --yes where nobody can be asked.")
    click.confirm(question, abort=True)
