"""The lease: how processes of one installation find each other.

A process announces its lease again and again with a time to live; when it dies, the
lease runs out by itself. Owns the type only; storing it belongs to `routing.store`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

LeaseKind = Literal["worker", "gateway"]


class Lease(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A live process: what it is, its name (unique per kind), and where it listens."""

    kind: LeaseKind
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")]
    address: Annotated[str, Meta(min_length=1, max_length=512)]
    """``unix:/path`` or ``tcp://host:port``: a `server.wire` peer."""
    pid: Annotated[int, Meta(ge=1)]
