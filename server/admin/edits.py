"""Edits: read what stands, make the change from it, commit it whole; again where somebody else came first.

Owns the loop, how often it is gone round, and what the outcomes mean to an HTTP caller; `If-Match` and `ETag` too.
A change is always made from documents that have just been read from Redis, never from a gateway's snapshot, which
may be a moment old. What a change consists of is its route's matter, how it is made atomic `routing.store`'s.
"""

import asyncio
import random
import re
import time
from collections.abc import Callable, Mapping

import msgspec
from fastapi import Request

from routing.access import Caller
from routing.account import OPERATOR, Account
from routing.change import Change, Committed
from routing.document import DocumentError
from routing.store import Store, StoreCorrupt, StoreUnavailable, VersionConflict
from routing.table import Table
from server.admin import rights
from server.errors import Conflict, ControlPlaneGone, PreconditionFailed

ATTEMPTS = 8
FIRST_PAUSE_S = 0.01
"""Between attempts: a random time up to this, twice as long after each."""
_ENTITY_TAG = re.compile(r'\s*(?:W/)?"([^"]*)"\s*(?:,|$)|\s*(\*)\s*$')


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What stands, as it has just been read."""

    table: Table
    """Version 0, and empty, where none has been published yet."""
    accounts: Mapping[str, Account]

    def has(self, tenant: str) -> bool:
        """Whether there is such a tenant: one with an account, with routes, or with both."""
        return tenant != OPERATOR and (tenant in self.accounts or tenant in self.table.tenants)

    def account(self, tenant: str) -> Account:
        """A tenant's account; version 0 where it stands in the table only. Raises UnknownTenant."""
        if not self.has(tenant):
            raise rights.unknown_tenant(tenant)
        return self.accounts.get(tenant) or Account(name=tenant)


async def standing(store: Store) -> Standing:
    """What stands now, for a caller whose key this gateway knows. Raises ControlPlaneGone."""
    try:
        table, accounts = await asyncio.gather(store.load_table(), store.load_accounts())
    except StoreCorrupt as error:
        raise ControlPlaneGone(f"the control plane cannot be read: {error}") from error
    except StoreUnavailable as error:
        raise gone() from error
    if table is None and not accounts:  # the caller's key stood somewhere
        raise ControlPlaneGone(
            "Redis has lost its data, so nothing can be changed now; inference goes on from what the gateways kept. "
            "An operator brings it back with `tombola route recover`",
            retry_after_s=5.0,
        )
    return Standing(table=table if table is not None else Table(), accounts=accounts)


async def commit(store: Store, caller: Caller, make: Callable[[Standing], Change]) -> Committed:
    """Carry out the change that ``make`` makes of what stands, once ``caller`` has been found to stand still.

    ``make`` is called again with what then stands, up to `ATTEMPTS` times, where somebody else has changed the same
    documents meanwhile; what it raises ends everything. Raises Conflict when that goes on, ControlPlaneGone (whether
    the change has been made is then not known), Unauthorized, Suspended.
    """
    async with store.turn:  # who has lost once goes first
        pass
    done = await _attempt(store, caller, make)
    if done is not None:
        return done
    async with store.turn:
        for attempt in range(1, ATTEMPTS):
            done = await _attempt(store, caller, make)
            if done is not None:
                return done
            await asyncio.sleep(random.SystemRandom().uniform(0.0, FIRST_PAUSE_S * 2**attempt))
    raise Conflict("others keep changing the same things; look at how they stand, then try again")


async def _attempt(store: Store, caller: Caller, make: Callable[[Standing], Change]) -> Committed | None:
    """What has been committed; None where somebody else came first. Raises as `commit` does."""
    now = await standing(store)
    own = now.accounts.get(caller.tenant if caller.tenant is not None else OPERATOR)
    rights.still_stands(caller, now.table, own, time.time())
    try:
        return await store.commit(make(now))
    except VersionConflict:
        return None
    except DocumentError as error:
        raise Conflict(f"what would stand then does not hold together: {'; '.join(error.problems[:8])}") from error
    except (StoreUnavailable, StoreCorrupt) as error:
        raise gone() from error


async def report(store: Store, tenant: str, ticket: str) -> bytes:
    """The report of a ticket's registration as JSON; ``null`` where there is none. Raises ControlPlaneGone."""
    try:
        return await store.load_report(tenant, ticket) or b"null"
    except (StoreUnavailable, StoreCorrupt) as error:
        raise gone() from error


def if_match(request: Request) -> frozenset[str] | None:
    """The versions that the request's `If-Match` allows; None where it allows any."""
    given = request.headers.get("if-match")
    if given is None:
        return None
    tags: set[str] = set()
    at = 0
    while at < len(given):
        found = _ENTITY_TAG.match(given, at)
        if found is None:
            return frozenset()  # not an entity tag of anybody: it matches nothing
        if found[2]:
            return None
        tags.add(found[1])
        at = found.end()
    return frozenset(tags)


def check_match(allowed: frozenset[str] | None, version: int) -> None:
    """Raise PreconditionFailed unless ``version`` is one that `If-Match` allows."""
    if allowed is not None and str(version) not in allowed:
        raise PreconditionFailed(f"this is at version {version} now: read it again, then decide")


def etag(version: int) -> str:
    """The value of an `ETag` header."""
    return f'"{version}"'


def gone() -> ControlPlaneGone:
    """What is said while Redis is away."""
    return ControlPlaneGone(
        "Redis cannot be reached, so nothing can be changed now; inference goes on. Look at how things stand before "
        "you try again: a change whose answer was lost may have been made",
        retry_after_s=1.0,
    )
