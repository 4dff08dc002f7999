"""Signatures: who vouches for a ticket. Ed25519 over the ticket's id, which is the sha256 of its bundle.

Owns the signed message, the files that keys and signatures travel in, and the check. A signature says that the
holder of a private key has seen this very bundle; whose signatures a tenant accepts is its policy's business
(`routing.account`), and where in registration one is asked for, the gate's.
"""

import base64
import binascii
import os
import re
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PrivateKey = Ed25519PrivateKey
"""What other modules call it, so that only this one knows whose it is."""
PREFIX = b"tombola-ticket-v1\0"
"""Signed in front of the id, so that no signature made for anything else is one of a ticket."""
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
MAX_FILE_BYTES = 64 << 10

_TICKET = re.compile(r"[0-9a-f]{64}")
SIGNER = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
"""What a signer may be called: the form of every name of ours."""


class SigningError(ValueError):
    """A key, a signature or a file of one that cannot be used; the message says why. It never quotes a private key."""


class PassphraseNeeded(SigningError):
    """The private key is encrypted, and no passphrase was given."""


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The contents of a ``.sig`` file: whose signature of which ticket."""

    signer: str
    ticket: str
    signature: str
    """64 bytes, base64."""

    @property
    def header(self) -> str:
        """As it travels beside an upload: ``signer:base64``."""
        return f"{self.signer}:{self.signature}"


def new_private() -> PrivateKey:
    """A fresh private key from the system's randomness."""
    return Ed25519PrivateKey.generate()


def public_text(private: PrivateKey) -> str:
    """The public half in the form that a policy takes: 32 bytes, base64, 44 characters."""
    return base64.b64encode(private.public_key().public_bytes_raw()).decode()


def sign(private: PrivateKey, ticket_id: str) -> bytes:
    """The 64 bytes that vouch for a ticket. Raises SigningError for what is no id."""
    return private.sign(_message(ticket_id))


def verify(public_base64: str, ticket_id: str, signature: bytes) -> bool:
    """Whether ``signature`` is this key's of this ticket. Anything malformed is not."""
    try:
        public = Ed25519PublicKey.from_public_bytes(_unpacked(public_base64, PUBLIC_BYTES))
        public.verify(signature, _message(ticket_id))
    except (InvalidSignature, SigningError, ValueError):
        return False
    return True


def write_private(path: Path, private: PrivateKey, passphrase: str | None = None) -> None:
    """Keep a private key as PKCS#8 PEM, readable by this user only from its first byte on.

    Raises FileExistsError rather than replace a key, and OSError.
    """
    cipher = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(pem)


def read_private(path: Path, passphrase: str | None = None) -> PrivateKey:
    """The private key in a file. Raises PassphraseNeeded, SigningError, OSError."""
    data = _bounded(path)
    try:
        private = serialization.load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except TypeError as error:  # as the library says both that one is needed and that one is too many
        if passphrase:
            raise SigningError(f"{path} is not encrypted: leave the passphrase out") from error
        raise PassphraseNeeded(f"{path} is encrypted: it needs its passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        problem = "the passphrase is wrong, or the file is damaged" if passphrase else "it is no private key in PEM"
        raise SigningError(f"{path}: {problem}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SigningError(f"{path} holds a key of another kind; `tombola keys new` makes an Ed25519 key")
    return private


def write_public(path: Path, name: str, public: str) -> None:
    """Keep a public key with its signer's name as the line ``name=base64``. Raises FileExistsError, OSError."""
    with open(path, "x", encoding="ascii") as file:
        file.write(f"{name}={public}\n")


def parse_public(text: str) -> tuple[str, str]:
    """(signer, public key) of a line ``name=base64``. Raises SigningError."""
    name, _, public = text.strip().partition("=")
    if not SIGNER.fullmatch(name):
        raise SigningError("expected name=base64 of a public key, as `tombola keys show` prints it")
    return name, base64.b64encode(_unpacked(public, PUBLIC_BYTES)).decode()


def read_public(path: Path) -> tuple[str, str]:
    """(signer, public key) of a ``.pub`` file. Raises SigningError, OSError."""
    try:
        return parse_public(_bounded(path).decode("ascii"))
    except (UnicodeDecodeError, SigningError) as error:
        raise SigningError(f"{path} is not a public key as `tombola keys new` writes it") from error


def write_signature(path: Path, signature: Signature) -> None:
    """Write a ``.sig`` file. Raises OSError."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(signature)) + b"\n")


def read_signature(path: Path) -> Signature:
    """What a ``.sig`` file says; whether it holds is `verify`'s. Raises SigningError, OSError."""
    try:
        found = msgspec.json.decode(_bounded(path), type=Signature)
        signature_bytes(found.signature)
        _message(found.ticket)
    except (msgspec.DecodeError, SigningError) as error:
        raise SigningError(f"{path} is not a signature as `tombola sign` writes it: {error}") from error
    if not SIGNER.fullmatch(found.signer):
        raise SigningError(f"{path} names no signer")
    return found


def signature_bytes(text: str) -> bytes:
    """The 64 bytes of a signature in base64. Raises SigningError."""
    return _unpacked(text, SIGNATURE_BYTES)


def _message(ticket_id: str) -> bytes:
    if not _TICKET.fullmatch(ticket_id):
        raise SigningError("a ticket's id is 64 hex digits")
    return PREFIX + ticket_id.encode("ascii")


def _unpacked(text: str, size_bytes: int) -> bytes:
    """Base64, with or without its padding, of exactly so many bytes. Raises SigningError."""
    try:
        data = base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SigningError(f"expected {size_bytes} bytes in base64") from error
    if len(data) != size_bytes:
        raise SigningError(f"expected {size_bytes} bytes in base64, got {len(data)}")
    return data


def _bounded(path: Path) -> bytes:
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise SigningError(f"{path} is too large to be a key or a signature")
    return data
