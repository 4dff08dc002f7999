"""`tombola keys` and `tombola sign`: a signer's own key, and signatures made with it.

Owns the command line only; keys, signatures and their files are `tickets.signing`'s. A private key never leaves this
machine and is never printed. API keys are something else: `tombola tenants key`.
"""

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tickets.bundle import BundleError, read
from tickets.inspect import visible

if TYPE_CHECKING:
    from tickets.signing import PrivateKey

PASSPHRASE = "TOMBOLA_PASSPHRASE"  # noqa: S105 - the name of a variable

_folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder of the key files.  [default: this one]",
)
_passphrase_option = click.option(
    "--passphrase",
    envvar=PASSPHRASE,
    show_envvar=True,
    help="Of an encrypted key; asked for where it is missing. Prefer the variable: command lines can be seen.",
)


@click.group("keys")
def keys() -> None:
    """Make and show Ed25519 keys that sign tickets."""


@keys.command(epilog="Example: tombola keys new release --dir ~/.tombola-keys --encrypt")
@click.argument("name")
@_folder_option
@click.option("--encrypt", is_flag=True, help="Protect the private key with a passphrase, which is asked for.")
@_passphrase_option
def new(name: str, folder: Path, encrypt: bool, passphrase: str | None) -> None:
    """Make a key pair: NAME.key, which only you may read, and NAME.pub, which a tenant's policy names."""
    from tickets import signing

    if not signing.SIGNER.fullmatch(name):
        raise click.BadParameter("use 1 to 64 of a-z, 0-9, '_', '.', '-'", param_hint="NAME")
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    for path in (private, public):
        if path.exists():
            raise click.ClickException(f"{path} exists, and a key is never replaced: choose another NAME or --dir")
    if encrypt and not passphrase:
        passphrase = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = signing.new_private()
        signing.write_private(private, made, passphrase)
        signing.write_public(public, name, signing.public_text(made))
    except OSError as error:
        raise click.ClickException(f"cannot write the key: {error}") from error
    click.echo(
        f"private key  {private}  (keep it; nobody can make it again)\n"
        f"public key   {public}\n\n"
        f"Let a tenant accept it:  tombola tenants policy TENANT --signer {public}\n"
        f"Sign a ticket:           tombola sign FILE --key {private}"
    )


@keys.command(epilog="Example: tombola keys show release.pub")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_passphrase_option
def show(file: Path, passphrase: str | None) -> None:
    """Print the public key of FILE (a .pub or a .key) as `tombola tenants policy --signer` takes it."""
    from tickets import signing

    try:
        if file.suffix == ".pub":
            name, public = signing.read_public(file)
        else:
            name, public = file.stem, signing.public_text(_private(file, passphrase))
    except (signing.SigningError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{name}={public}")


@click.command(epilog="Example: tombola sign banking-fast.ticket --key release.key")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--key",
    "key",
    required=True,
    envvar="TOMBOLA_SIGNING_KEY",
    show_envvar=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your private key, as `tombola keys new` wrote it.",
)
@click.option(
    "--signer", help="The name that policies know the key by.  [default: the key file's name without its ending]"
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the signature goes; for one FILE only.  [default: FILE.sig]",
)
@_passphrase_option
def sign(files: tuple[Path, ...], key: Path, signer: str | None, output: Path | None, passphrase: str | None) -> None:
    """Vouch for tickets: check each FILE and write its signature to FILE.sig.

    `tombola register FILE` finds FILE.sig by itself.
    """
    from tickets import signing

    name = signer or key.stem
    if not signing.SIGNER.fullmatch(name):
        raise click.BadParameter(f"{name!r}: use 1 to 64 of a-z, 0-9, '_', '.', '-'", param_hint="--signer")
    if output is not None and len(files) > 1:
        raise click.BadParameter("is for one FILE only", param_hint="--output")
    try:
        private = _private(key, passphrase)
        for file in files:
            ticket = read(file).id
            made = base64.b64encode(signing.sign(private, ticket)).decode()
            target = output or file.with_name(f"{file.name}.sig")
            signing.write_signature(target, signing.Signature(signer=name, ticket=ticket, signature=made))
            click.echo(f"{target}: {name} vouches for {ticket}")
    except BundleError as error:
        raise click.ClickException(visible(f"{file} is not signed: {error.code}: {error}")) from error
    except (signing.SigningError, OSError) as error:
        raise click.ClickException(visible(str(error))) from error


def _private(file: Path, passphrase: str | None) -> "PrivateKey":
    """The private key; an encrypted one's passphrase is asked for where it was not given."""
    from tickets import signing

    try:
        return signing.read_private(file, passphrase)
    except signing.PassphraseNeeded:
        return signing.read_private(file, click.prompt(f"Passphrase of {file}", hide_input=True, err=True))
