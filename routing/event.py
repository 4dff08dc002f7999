"""The event: one line of the audit log - who changed what, when, from what, to what.

Owns the type. An event is written in the same atomic step as the change it tells of, so there is no change without
one; where the log is kept belongs to `routing.redis`. It never holds a key, a signature's private half or a text.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Action = Annotated[str, Meta(pattern=r"^[a-z]+(\.[a-z_]+)+\Z")]
"""What happened, as ``noun.verb``: ``ticket.promote``, ``key.rotate``, ``table.publish``, ``canary.roll_back``."""


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One change. ``id`` and ``at`` are given by the store when it is written; ids order events."""

    action: Action
    actor: Annotated[str, Meta(max_length=200)]
    """``operator/<key id>``, ``tenant/<name>/<key id>``, ``shell/<user>@<host>``, or ``overseer/<gateway>``."""
    tenant: str | None = None
    """Whose this is; None: the installation's, for operators only."""
    subject: Annotated[str, Meta(max_length=200)] = ""
    """What was changed: a ticket's id, a key's id, a domain, a tenant."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    reason: Annotated[str, Meta(max_length=2000)] = ""
    table_version: int | None = None
    """The version of the table that this change made, where it made one."""
    id: str = ""
    at: float = 0.0
    """Seconds since 1970, by Redis's clock."""
