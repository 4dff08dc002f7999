"""Every name that Tombola uses in Redis, and what stands under it. The only place where names are made.

All names of one installation begin with ``{namespace}:``. The braces are a hash tag: a Redis Cluster keeps them in one
slot, so that one script may change several of them atomically.
"""

import re

from routing.lease import LeaseKind

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Keys:
    """The names under one namespace. A namespace holds no colon and no brace, so namespaces cannot overlap."""

    def __init__(self, namespace: str) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError(f"namespace {namespace!r}: use 1 to 64 letters, digits, '_', '.', '-'")
        self.namespace = namespace
        at = f"{{{namespace}}}"
        self.schema = f"{at}:schema"  # string: the version of this layout (`routing.redis.schema`)
        self.table = f"{at}:table"  # hash: version, publication (the stamp of the change), document
        self.history = f"{at}:table:history"  # hash: version -> document
        self.channel = f"{at}:published"  # pub/sub: "table" or "accounts" when one of these has changed
        self.accounts = f"{at}:accounts"  # hash: account name -> document
        self.accounts_changed = f"{at}:accounts:changed"  # sorted set: account name -> when it was last changed
        self.accounts_gone = f"{at}:accounts:gone"  # sorted set: name of a deleted account -> when
        self.accounts_version = f"{at}:accounts:version"  # string: the stamp of the last change of any account
        self.events = f"{at}:events"  # stream: the audit log, oldest trimmed; its ids are the stamps
        self._done = f"{at}:done"
        self._reports = f"{at}:reports"
        self._limits = f"{at}:limits"
        self._trials = f"{at}:trials"
        self._leader = f"{at}:leader"
        self._leases = f"{at}:leases"

    def names(self, kind: LeaseKind) -> str:
        """Set of the names that have announced a lease."""
        return f"{self._leases}:{kind}"

    def lease(self, kind: LeaseKind, name: str) -> str:
        """String with a TTL: the lease itself."""
        return f"{self._leases}:{kind}:{name}"

    def done(self, change: str) -> str:
        """String with a TTL: the outcome of a change, for a call that is sent again because its reply was lost."""
        return f"{self._done}:{change}"

    def reports(self, tenant: str) -> str:
        """Hash: ticket id -> the report of its registration."""
        return f"{self._reports}:{tenant}"

    def limits(self, tenant: str, part: str = "") -> str:
        """What of a tenant's limits is used, and who holds which share (`routing.redis.shares`)."""
        return f"{self._limits}:{tenant}:{part}" if part else f"{self._limits}:{tenant}"

    def trial(self, tenant: str, domain: str, ticket: str) -> str:
        """Hash: gateway -> what it has counted of one canary (`routing.redis.trials`)."""
        return f"{self._trials}:{tenant}:{domain}:{ticket}"

    def leader(self, duty: str) -> str:
        """String with a TTL: the name of the gateway that does a duty of which one is enough."""
        return f"{self._leader}:{duty}"
