"""`tombola pack`: a model of one's own becomes a bundle, by a TOML file or by a manifest written out.

A composition root: options in, one file out. What the TOML means is `tickets.imported`'s. Needs no torch; the
TOML form needs what runs tickets, because it records the model's answers.
"""

from pathlib import Path

import click
import msgspec

from tickets import bundle as bundles
from tickets.bundle import BundleError
from tickets.files import write_whole
from tickets.manifest import Manifest

_FILE = click.Path(exists=False, dir_okay=False, path_type=Path)


class Refused(click.ClickException):
    """The command's input cannot be used; nothing was changed."""

    exit_code = 2


@click.command(
    epilog="Example: tombola pack churn.toml   |   tombola pack model.onnx --manifest ticket.json -o my.ticket",
    short_help="Make a ticket from an ONNX model of your own.",
)
@click.argument("model", metavar="TOML|ONNX", type=_FILE)
@click.option("--manifest", type=_FILE, help="With an ONNX file: its manifest as JSON (docs/bundle-format.md).")
@click.option("--member", "members", type=_FILE, multiple=True, help="With an ONNX file: further files.")
@click.option("-o", "--out", type=_FILE, help="The bundle to write. Default: beside the TOML, ending in .ticket.")
def pack(model: Path, manifest: Path | None, members: tuple[Path, ...], out: Path | None) -> None:
    """Pack an ONNX model into one verified bundle: by a TOML file that names it (docs/bring-your-own.md), which
    also records what the model answers to samples, or with a manifest that you have written out.
    """
    try:
        if model.suffix.lower() == ".toml":
            if manifest is not None or members:
                raise Refused("a TOML file names everything itself: leave out --manifest and --member")
            data = _by_toml(model)
            out = out or model.with_suffix(".ticket")
        else:
            if manifest is None or out is None:
                raise Refused("an ONNX file needs --manifest and --out; or write a TOML file (docs/bring-your-own.md)")
            decoded = msgspec.json.decode(manifest.read_bytes(), type=Manifest)
            contents = {path.name: path.read_bytes() for path in members} | {"model.onnx": model.read_bytes()}
            data = bundles.pack(decoded, contents)
        write_whole(out, data)
    except (BundleError, ValueError) as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")) from error
    click.echo(f"{out}\t{bundles.ticket_id(data)}")


def _by_toml(path: Path) -> bytes:
    from tickets.imported import pack_model

    try:
        return pack_model(path)
    except ModuleNotFoundError as error:
        raise Refused(f"recording the samples needs {error.name}: pip install 'tombola[cpu]'") from error
