"""The connection: a client of the Redis that a URL names, and the names it uses there.

Owns how an address becomes a client (one server, Sentinel's primary, a cluster), how long anything may take, and
listening for announcements. Every module of `routing.redis` works on one of these. What must be atomic is a Lua
script run with ``client.eval``: that works the same everywhere, which pipelines and transactions do not.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from routing.redis.errors import OPERATION_S, bounded
from routing.redis.keys import Keys
from routing.redis.url import Address, read_url

SOCKET_TIMEOUT_S = 1.0
_RETRIES = 1  # a restarted Redis leaves dead connections in the pool: the second try opens a fresh one
_RETRY_PAUSE_S = 0.05

_sentinel: Any = Sentinel  # redis-py leaves its signature untyped
Listen = Callable[[float], Awaitable[None]]
"""Returns when something has been announced, or after so many seconds."""


class Connection:
    """A client and its names. Nothing is sent before it is used."""

    def __init__(self, client: Redis, keys: Keys, address: Address | None = None) -> None:
        self.client = client
        """A cluster's client too: what both can do is `eval` and the plain commands on one key."""
        self.keys = keys
        self.is_cluster = address is not None and address.kind == "cluster"
        self._address = address
        self._sentinel: Sentinel | None = None

    @classmethod
    def open(cls, url: str, namespace: str) -> "Connection":
        """At any of the forms of `routing.redis.url`. Raises ValueError for what cannot be."""
        address, keys = read_url(url), Keys(namespace)
        options: dict[str, Any] = {
            "username": address.username, "password": address.password, "protocol": 2,
            "socket_timeout": SOCKET_TIMEOUT_S, "socket_connect_timeout": SOCKET_TIMEOUT_S,
            "retry": Retry(ConstantBackoff(_RETRY_PAUSE_S), _RETRIES),
        }  # fmt: skip
        tls: dict[str, Any] = {"ssl": True, **address.tls} if address.is_tls else {}
        if address.kind == "socket":
            client = Redis(unix_socket_path=address.path, db=address.db, **options)
        elif address.kind == "server":
            host, port = address.nodes[0]
            client = Redis(host=host, port=port, db=address.db, **options, **tls)
        elif address.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in address.nodes]
            client = cast(Redis, RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options, **tls))
        else:
            theirs = {**options, "username": address.sentinel_username, "password": address.sentinel_password, **tls}
            sentinel: Sentinel = _sentinel(list(address.nodes), sentinel_kwargs=theirs, db=address.db, **options, **tls)
            connection = cls(sentinel.master_for(address.service), keys, address)
            connection._sentinel = sentinel
            return connection
        return cls(client, keys, address)

    def __repr__(self) -> str:
        return f"Connection({self._address}, {self.keys.namespace})"

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()
        for client in self._sentinel.sentinels if self._sentinel is not None else ():
            await client.aclose()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Listen]:
        """Hear announcements while inside. In a cluster nothing is heard, and waiting takes its whole time.

        Raises StoreUnavailable, also from the function that it gives.
        """
        if self.is_cluster:  # where redis-py's releases differ in what they can do
            yield asyncio.sleep
            return
        async with contextlib.aclosing(self.client.pubsub()) as channel:
            async with bounded():
                await channel.subscribe(self.keys.channel)

            async def listen(within_s: float) -> None:
                async with bounded(within_s + OPERATION_S):
                    await channel.get_message(ignore_subscribe_messages=True, timeout=within_s)

            yield listen
