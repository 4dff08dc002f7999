"""API keys: how they are made, and how a request's key names its tenant.

A key carries 256 random bits, so its plain sha256 cannot be searched and needs no salt
or slow hash. Only hashes are ever stored, published or shown.
"""

import hashlib
import re
import secrets

from routing.table import Table

KEY_FORM = re.compile(r"tk_[A-Za-z0-9_-]{16,128}")
"""What an authored document may hold as a key: long enough that nobody guesses it."""


def new_key() -> str:
    """A fresh API key: ``tk_`` and 32 random bytes. It is shown once and cannot be recovered."""
    return "tk_" + secrets.token_urlsafe(32)


def key_hash(key: str) -> str:
    """The form in which a key is stored: 64 hex digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def tenant_of(table: Table, key: str) -> str | None:
    """The tenant whose key this is; None for a key that nobody has."""
    return table.tenant_of_hash.get(key_hash(key))
