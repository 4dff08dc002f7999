"""A bundle's signature against a tenant's policy: when it is checked, and what its absence means.

Owns the header's form (``<signer>:<base64>``) and the rule; the arithmetic is `tickets.signing`'s, whose library
is imported only where there is something to check.
"""

import base64
import binascii
from collections.abc import Mapping

SIGNATURE_BYTES = 64


class SignatureRefused(ValueError):
    """No signature where one is asked for, or one that does not hold."""


def check_signature(ticket: str, header: str | None, signers: Mapping[str, str], is_required: bool) -> str | None:
    """The signer whose signature holds; None where there is none to check and none is asked for.

    One by somebody who is not among ``signers`` counts as none. Raises SignatureRefused.
    """
    if header is None:
        if is_required:
            raise SignatureRefused(f"a signature is asked for, by one of {sorted(signers)}; see `tombola sign`")
        return None
    signer, signature = _parsed(header)
    public = signers.get(signer)
    if public is None:
        if is_required:
            raise SignatureRefused(f"signer {signer[:64]!r} is not one of {sorted(signers)}")
        return None
    from tickets.signing import verify

    if not verify(public, ticket, signature):
        raise SignatureRefused(f"the signature is not {signer}'s of this ticket")
    return signer


def _parsed(header: str) -> tuple[str, bytes]:
    signer, colon, encoded = header.partition(":")
    try:
        signature = base64.b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureRefused(f"the signature is not base64: {error}") from error
    if not colon or not signer or len(signature) != SIGNATURE_BYTES:
        raise SignatureRefused(f"a signature has the form signer:base64 of {SIGNATURE_BYTES} bytes")
    return signer, signature
