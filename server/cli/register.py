"""`tombola register`: a ticket, or an ONNX model with a TOML beside it, through the gate and into a domain.

Owns the way from a file to a registered ticket as a person sees it: what is checked before anything is sent, the
gate's steps as they come, what to do next. The gate itself is the server's; how a model becomes a bundle is
`tickets.imported`'s.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from server.cli import words
from server.cli.canary import part
from server.cli.client import Api, Failure, failure_of, segment
from server.cli.options import connected, json_option, tenant_option
from server.cli.progress import Progress
from tickets.bundle import Bundle, BundleError, parse, read_bytes


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be registered."""

    bundle: Bundle
    data: bytes
    signature: str | None = None
    """``signer:base64``."""


@click.command("register", epilog="Example: tombola register banking-fast.ticket --tenant acme --canary 5%")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@tenant_option
@click.option("--domain", help="The domain it goes to.  [default: the one that the ticket names]")
@click.option("--tier", help="The tier it is for.  [default: the one that the ticket names]")
@click.option(
    "--signature",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Who vouches for it, as `tombola sign` wrote it.  [default: FILE.sig, where there is one]",
)
@click.option("--canary", "canary_share", metavar="PART", help="Try it at once on this part of the requests, like 5%.")
@click.option("--promote", "is_promoted", is_flag=True, help="Give it all requests of its tier at once.")
@json_option
@connected
def command(
    api: Api,
    file: Path,
    tenant: str | None,
    domain: str | None,
    tier: str | None,
    signature: Path | None,
    canary_share: str | None,
    is_promoted: bool,
    as_json: bool,
) -> None:
    """Register FILE: a .ticket, or your own .onnx with a .toml of the same name beside it.

    The server examines it in a process of its own: integrity, signature, graph, samples, speed, claims, your policy. A
    refused one leaves nothing behind; the same file again changes nothing. A registered ticket answers who names it as
    `version`; --canary and --promote, or `tombola tickets`, give it traffic.
    """
    if canary_share is not None and is_promoted:
        raise click.UsageError("--canary tries it and --promote does not: say one of them")
    share = part(canary_share) if canary_share is not None else None
    package = load(file, signature)
    owner = api.own_tenant(tenant)
    place = {name: value for name, value in (("domain", domain), ("tier", tier)) if value is not None}
    try:
        with Progress(is_quiet=as_json) as progress:
            found = _known(api, owner, package, place) or _upload(api, owner, package, place, progress)
    except Failure as error:
        if as_json and error.document:
            words.as_json(error.document)
        raise
    move: dict[str, Any] | None = None
    if share is not None and found["state"] == "registered":
        move = {"share": share, "domain": found["domain"]}
    elif is_promoted and found["state"] != "promoted":
        move = {"domain": found["domain"]}
    if move is not None:
        name = "promote" if is_promoted else "canary"
        moved = api.send("POST", f"/v1/tenants/{segment(owner)}/tickets/{found['ticket']}/{name}", move)
        found = found | {"state": moved["state"]}
    if as_json:
        words.as_json(found)
    else:
        click.echo(words.visible(_ending(api, owner, found, package)))


def load(file: Path, signature: Path | None) -> Package:
    """What FILE holds, checked as far as can be without running it. Raises Failure."""
    try:
        data = _packed(file) if file.suffix in (".onnx", ".toml") else read_bytes(file)
        bundle = parse(data)
    except BundleError as error:
        raise Failure(words.visible(f"{file} is no sound ticket ({error.code}): {error}"), code=error.code) from error
    except ModuleNotFoundError as error:
        raise Failure(f"recording a model's answers needs {error.name}: pip install 'tombola[cpu]'") from error
    except (OSError, ValueError) as error:
        raise Failure(words.visible(f"{file} cannot be registered: {error}")) from error
    beside = file.with_name(f"{file.name}.sig")
    path = signature or (beside if beside.exists() else None)
    return Package(bundle=bundle, data=data, signature=_signature(path, bundle) if path is not None else None)


def _packed(file: Path) -> bytes:
    """The bundle of an ONNX model that a TOML describes. Raises ValueError, OSError, Failure."""
    from tickets.imported import pack_model

    description = file.with_suffix(".toml")
    if not description.exists():
        raise Failure(f"{file.name} needs a {description.name} beside it that says what it is: docs/bring-your-own.md")
    return pack_model(description)


def _signature(path: Path, bundle: Bundle) -> str:
    from tickets import signing

    try:
        found = signing.read_signature(path)
    except (signing.SigningError, OSError) as error:
        raise Failure(words.visible(str(error))) from error
    if found.ticket != bundle.id:
        raise Failure(f"{path} is a signature of another ticket, {found.ticket[: words.SHORT]}: sign this one again")
    return found.header


def _known(api: Api, tenant: str, package: Package, place: dict[str, str]) -> dict[str, Any] | None:
    """The ticket as it is registered already; None where it is not."""
    try:
        row = api.get(f"/v1/tenants/{segment(tenant)}/tickets/{package.bundle.id}", domain=place.get("domain"))
    except Failure as error:
        if error.code == "unknown_ticket":
            return None
        raise
    return {name: row[name] for name in ("ticket", "state", "domain", "tier", "report")} | {"is_new": False}


def _upload(api: Api, tenant: str, package: Package, place: dict[str, str], progress: Progress) -> dict[str, Any]:
    """The ticket once it is registered. Raises Failure, with the gate's words where it has refused it."""
    headers: dict[str, str] = {"X-Tombola-Ticket": package.bundle.id}
    if package.signature is not None:
        headers["X-Tombola-Signature"] = package.signature
    size = len(package.data)
    path = f"/v1/tenants/{segment(tenant)}/tickets"
    with (
        progress.sending(io.BytesIO(package.data), size) as sent,
        api.upload(path, sent, size, headers, place) as lines,
    ):
        return _outcome(lines, progress)


def _outcome(lines: Iterator[dict[str, Any]], progress: Progress) -> dict[str, Any]:
    for line in lines:
        if "error" in line:
            progress.refused(line.get("report") or {})
            raise failure_of(line)
        if "ticket" in line:
            return line | {"is_new": True}
        progress.step(line)
    raise Failure("the server ended its answer too soon: look with `tombola tickets list` before you try again")


def _ending(api: Api, tenant: str, found: dict[str, Any], package: Package) -> str:
    """What is so now, and what to do next."""
    ticket = found["ticket"]
    now = "is registered" if found["is_new"] else "was registered already"
    lines = [
        f"ticket {ticket}",
        f"{now} for {tenant} in domain {found['domain']}, tier {found['tier']}; it is {found['state']}",
    ]
    if found["state"] == "promoted":
        return "\n".join(lines)
    here = f"--tenant {tenant} --domain {found['domain']}"
    if found["state"] == "registered":
        lines += [
            "",
            "Try it on a part of the requests, or give it all of them:",
            f"  tombola tickets canary {ticket[: words.SHORT]} --share 5% --watch {here}",
            f"  tombola tickets promote {ticket[: words.SHORT]} {here}",
        ]
    else:
        lines += ["", f"How it does:  tombola tickets canary --watch {here}"]
    if package.bundle.manifest.task == "text-classification":
        body = msgspec.json.encode({"domain": found["domain"], "text": "...", "version": ticket[: words.SHORT]})
        lines += [
            "",
            "Ask it by name (with a key of the tenant):",
            f"  curl -sS {api.url}/v1/classify -H 'Authorization: Bearer KEY' "
            f"-H 'Content-Type: application/json' -d '{body.decode()}'",
        ]
    return "\n".join(lines)
