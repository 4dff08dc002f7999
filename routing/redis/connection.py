"""The connection: a client of the Redis that a URL names, and the names it uses there.

Owns how a URL becomes a client, and how long anything may take. Every module of `routing.redis` works on one of these.
"""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from routing.redis.keys import Keys

SOCKET_TIMEOUT_S = 1.0
_RETRIES = 1  # a restarted Redis leaves dead connections in the pool: the second try opens a fresh one
_RETRY_PAUSE_S = 0.05


class Connection:
    """A client and its names. Nothing is sent before it is used."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    @classmethod
    def open(cls, url: str, namespace: str) -> "Connection":
        """At ``redis://``, ``rediss://`` or ``unix:///path``. Raises ValueError for what cannot be."""
        client = Redis.from_url(
            url,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            retry=Retry(ConstantBackoff(_RETRY_PAUSE_S), _RETRIES),
            protocol=2,
        )
        return cls(client, Keys(namespace))

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()
