"""Small changes of every kind, for the tests of the store."""

from typing import Any

from routing.account import Account, ApiKey
from routing.change import Change
from routing.event import Event


def event(action: str = "key.create", **fields: Any) -> Event:
    return Event(**{"action": action, "actor": "operator/0123456789ab", **fields})


def account(name: str = "acme", version: int = 0, **fields: Any) -> Account:
    return Account(**{"name": name, "version": version, **fields})


def key(digit: str, **fields: Any) -> ApiKey:
    return ApiKey(**{"id": digit * 12, "hash": digit * 64, **fields})


def change(**fields: Any) -> Change:
    return Change(**{"event": event(), **fields})
