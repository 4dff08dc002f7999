"""`tombola inspect` and `tombola verify`: look at a bundle, and check it.

Owns what a person sees of a ticket. Everything shown has been verified by `tickets.bundle`
first; texts from inside a bundle are shown with control characters made visible, because a
stranger may have written them. Running a ticket is left to `tickets.reference` and `tickets.tensor_reference`.
"""

import hashlib
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tickets.bundle import Bundle, BundleError, read
from tickets.manifest import Manifest
from tickets.registry import Registry, TicketMissing


class NotSigned(Exception):
    """The ticket has no signature of the key that was asked for; the message says what it has."""


_registry_option = click.option(
    "--registry",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="TOMBOLA_REGISTRY",
    help="Folder in which a ticket ID is looked up. Take the one that your workers use.",
)


@click.command(
    epilog="Example: tombola inspect banking-fast.ticket   |   tombola inspect 3f9a0c12 --registry .tombola/registry"
)
@click.argument("ticket", metavar="FILE|ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the complete manifest, for programs.")
@_registry_option
def inspect(ticket: str, as_json: bool, registry: Path | None) -> None:
    """Show what a ticket is, where it comes from and what it has proven."""
    try:
        bundle = _open(ticket, registry)
    except (BundleError, TicketMissing, OSError) as error:
        raise click.ClickException(_reason(error)) from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(describe(bundle))).decode())
    else:
        Console().print(page(bundle))


@click.command(epilog="Example: tombola verify --run *.ticket")
@click.argument("tickets", metavar="FILE|ID...", nargs=-1, required=True)
@click.option(
    "--run",
    "run",
    is_flag=True,
    help="Also open the graph, check it against the manifest and reproduce the recorded samples. "
    "Use it before you trust numbers; it executes the graph, so not on bundles from strangers.",
)
@click.option(
    "--signature",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The signature to check, as `tombola sign` wrote it.  [default: FILE.sig, where --public is given]",
)
@click.option(
    "--public",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also check that each ticket carries a signature of this public key (NAME.pub of `tombola keys new`).",
)
@_registry_option
def verify(
    tickets: tuple[str, ...], run: bool, signature: Path | None, public: Path | None, registry: Path | None
) -> None:
    """Check bundles: layout, digests, manifest, and who vouches for them. Exits 1 when any fails, and says why."""
    if signature is not None and (public is None or len(tickets) > 1):
        raise click.BadParameter("is for one ticket, together with --public", param_hint="--signature")
    failed = False
    for ticket in tickets:
        try:
            bundle = _open(ticket, registry)
            note = _signed(bundle, signature or Path(f"{ticket}.sig"), public) if public is not None else ""
            note += _run(bundle) if run else ""
        except NotSigned as error:
            failed = True
            click.echo(f"FAILED  {visible(ticket)}: bad_signature: {visible(str(error))}")
        except (BundleError, TicketMissing, OSError) as error:
            failed = True
            click.echo(f"FAILED  {visible(ticket)}: {_reason(error)}")
        else:
            click.echo(f"ok      {visible(ticket)}: {bundle.id}{note}")
    if failed:
        raise SystemExit(1)


def describe(bundle: Bundle) -> dict[str, Any]:
    """Everything about a bundle but its bytes, ready for JSON."""
    members = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in bundle.members.items()
    }
    return {"id": bundle.id, "bytes": bundle.size_bytes, "members": members, "manifest": bundle.manifest}


def page(bundle: Bundle) -> Table:
    """The page a person reads: one row per subject."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(bundle):
        table.add_row(name, Text(visible(value)))
    return table


def _rows(bundle: Bundle) -> list[tuple[str, str]]:
    manifest = bundle.manifest
    calibration = manifest.calibration
    scope = {
        "none": "everything is in scope",
        "class": f"in scope when 1 - p(out of scope) >= {calibration.threshold:g}",
        "max_probability": f"in scope when the best probability >= {calibration.threshold:g}",
    }[calibration.out_of_scope]
    sizes = [f"{name} {_size(len(data))}" for name, data in bundle.members.items()]
    return [
        ("id", bundle.id),
        ("name", manifest.name),
        ("task", manifest.task),
        ("domain", manifest.domain),
        ("tier", manifest.tier or "-"),
        ("verdict", manifest.verdict),
        ("labels", _labels(manifest.labels)),
        ("structure", _structure(manifest)),
        ("size", f"{_size(bundle.size_bytes)}: {', '.join(sizes)}"),
        ("calibration", f"temperature {calibration.temperature:g}; {scope}"),
        *_lineage(manifest),
        *_evidence(manifest),
        ("licence", manifest.licence),
    ]


def _labels(labels: list[str]) -> str:
    shown = ", ".join(labels[:8])
    return f"{len(labels)}: {shown}{', ...' if len(labels) > 8 else ''}" if labels else "-"


def _structure(manifest: Manifest) -> str:
    s = manifest.structure
    if s is None:
        return "-"
    return (
        f"{len(s.heads)} layers; heads {s.heads}; FFN neurons {s.ffn_neurons}; hidden {s.hidden}; "
        f"vocabulary {s.vocabulary:,}; {s.parameters:,} parameters; {s.quantization}"
    )


def _lineage(manifest: Manifest) -> list[tuple[str, str]]:
    lineage = manifest.lineage
    facts = {
        "backbone": lineage.backbone,
        "  sha256": lineage.backbone_sha256,
        "dense parent": lineage.dense_parent,
        "parent": lineage.parent,
        "data": "\n".join(f"{name} {digest}" for name, digest in lineage.data.items()),
        "seeds": ", ".join(f"{name} {seed}" for name, seed in lineage.seeds.items()),
        "recipe": _nested(lineage.recipe),
        "factory": lineage.factory,
    }
    return [(name, value) for name, value in facts.items() if value]


def _evidence(manifest: Manifest) -> list[tuple[str, str]]:
    evidence = manifest.evidence
    rows = [("quality", f"{evidence.quality:.4f} in-scope accuracy on held-out data")]
    if evidence.service_ms is not None:
        rows.append(("service", f"{evidence.service_ms:g} ms for one text on the measuring host"))
    if evidence.speedup is not None:
        rows.append(("speed-up", f"{evidence.speedup:g} x the dense parent"))
    if evidence.report:
        rows.append(("evidence", _nested(evidence.report)))
    return rows


def _nested(value: object, prefix: str = "") -> str:
    """``a.b.c  value`` lines. Nesting is bounded by tickets.bundle."""
    if isinstance(value, dict) and value:
        return "\n".join(_nested(child, f"{prefix}.{key}" if prefix else str(key)) for key, child in value.items())
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{prefix}  {shown}" if prefix else ""


def visible(text: str) -> str:
    """``text`` with control characters written as escapes, so that it cannot steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.1f} kB"


def _open(ticket: str, registry: Path | None) -> Bundle:
    """A file if there is one of that name, else a ticket of the registry."""
    if Path(ticket).exists() or registry is None:
        return read(ticket)
    tickets = Registry(registry)
    return tickets.get(tickets.resolve(ticket))


def _signed(bundle: Bundle, file: Path, public: Path) -> str:
    """What is said of a good signature. Raises NotSigned."""
    from tickets import signing

    try:
        signer, key = signing.read_public(public)
        signature = signing.read_signature(file)
    except FileNotFoundError as error:
        raise NotSigned(f"there is no {file}; make it with `tombola sign`") from error
    except (signing.SigningError, OSError) as error:
        raise NotSigned(str(error)) from error
    if signature.ticket != bundle.id:
        raise NotSigned(f"{file} is of another ticket, {signature.ticket[:12]}...")
    if not signing.verify(key, bundle.id, signing.signature_bytes(signature.signature)):
        raise NotSigned(f"{file} is not a signature of {signer} ({public})")
    return f" (signed by {signer})"


def _run(bundle: Bundle) -> str:
    from tickets.tensor_reference import reproduce

    try:
        return f" (graph fits the manifest; {reproduce(bundle)} samples reproduced)"
    except ModuleNotFoundError as error:
        raise click.ClickException(f"--run needs {error.name}: pip install 'tombola[cpu]'") from error


def _reason(error: BundleError | TicketMissing | OSError) -> str:
    if isinstance(error, BundleError):
        return visible(f"{error.code}: {error}")
    if isinstance(error, OSError):
        return visible(f"cannot be read: {error.strerror or error}")
    return visible(str(error))
