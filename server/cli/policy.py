"""`tombola tenants policy`: what a ticket must show before a tenant may serve it.

Owns how gates and signers are named on the command line; what they mean is `routing.account.Policy`, and who checks
them is the gate.
"""

from pathlib import Path
from typing import Any

import click

from server.cli import words
from server.cli.client import Api, Failure, segment
from server.cli.options import Bound, chosen, connected, json_option


@click.command(epilog="Example: tombola tenants policy acme --require-signature --signer release.pub --min-quality 0.9")
@click.argument("name")
@click.option(
    "--require-signature/--no-require-signature",
    "requires_signature",
    default=None,
    help="Whether a ticket needs the signature of a signer.",
)
@click.option(
    "--signer",
    "signers",
    multiple=True,
    metavar="FILE|NAME=KEY",
    help="Accept this signer: a .pub file, or the line that `tombola keys show` prints. Repeatable.",
)
@click.option("--drop-signer", "dropped", multiple=True, metavar="NAME", help="Accept this signer no more. Repeatable.")
@click.option(
    "--require-evidence/--no-require-evidence",
    "requires_evidence",
    default=None,
    help="Whether a ticket must carry an evidence set, so that its claims are measured.",
)
@click.option("--min-quality", type=Bound(float), help="Quality that it needs, from 0 to 1.")
@click.option("--max-loss", type=Bound(float), help="Accuracy that it may lose against its dense parent.")
@click.option("--max-calibration-error", type=Bound(float), help="Expected calibration error that it may have.")
@click.option("--min-out-of-scope-recall", type=Bound(float), help="Part of what it cannot know that it must notice.")
@click.option("--max-service-ms", type=Bound(float), help="Time for one row alone, as measured on the server.")
@click.option("--max-resident-bytes", type=Bound(int), help="Memory that it may take in a worker, like 200MB.")
@json_option
@connected
def policy(
    api: Api, name: str, signers: tuple[str, ...], dropped: tuple[str, ...], as_json: bool, **gates: object
) -> None:
    """Show a tenant's policy, or set the gates that are named; `none` takes a gate away.

    It holds for tickets that are registered from now on.
    """
    path = f"/v1/tenants/{segment(name)}"
    row = api.get(path)
    wanted = row["policy"] | chosen(gates)
    wanted["signers"] = _signers(row["policy"].get("signers") or {}, signers, dropped)
    if wanted != row["policy"]:
        row = api.send("PATCH", path, {"policy": wanted}, version=row["version"])
    if as_json:
        words.as_json(row["policy"])
    else:
        words.facts((gate, _shown(value)) for gate, value in row["policy"].items())


def _signers(standing: dict[str, str], added: tuple[str, ...], dropped: tuple[str, ...]) -> dict[str, str]:
    from tickets import signing

    signers = dict(standing)
    for name in dropped:
        if signers.pop(name, None) is None:
            raise Failure(f"there is no signer {name!r}; there are: {', '.join(standing) or 'none'}")
    for text in added:
        try:
            name, public = signing.parse_public(text) if "=" in text else signing.read_public(Path(text))
        except (signing.SigningError, OSError) as error:
            raise click.BadParameter(str(error), param_hint="--signer") from error
        signers[name] = public
    return signers


def _shown(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return "\n".join(f"{name}={public}" for name, public in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "no gate" if value is None else str(value)
