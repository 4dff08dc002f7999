"""One real gateway for all tests of the commands, with an operator's key; every test makes a tenant of its own."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from routing.access import make_key
from routing.account import OPERATOR, Account
from routing.change import Change
from routing.embedded import EmbeddedRedis
from routing.event import Event
from routing.store import Store
from tests.server.cli.house import House
from tests.server.gateways import installation, wait_until

_numbers = itertools.count()


@pytest.fixture(scope="module")
def house(redis_server: EmbeddedRedis) -> Iterator[House]:
    """A running installation and its operator's key."""
    namespace = f"cli-{os.getpid()}-{next(_numbers)}"
    key, kept = make_key("admin", 0.0, label="tests")

    async def give_key() -> None:
        store = Store.connect(redis_server.url, namespace)
        account = Account(name=OPERATOR, keys=[kept])
        await store.commit(
            Change(event=Event(action="key.create", actor="shell/tests@here"), accounts=(account,))
        )  # fmt: skip
        await store.close()

    asyncio.run(give_key())
    with installation(redis_server.url, namespace) as running:
        headers = {"Authorization": f"Bearer {key}"}
        wait_until(lambda: httpx.get(f"{running.url}/v1/tenants", headers=headers).status_code == 200)
        yield House(running, key)


@pytest.fixture
def tenant(house: House) -> str:
    """A fresh tenant's name; an operator has made it."""
    name = f"t{next(_numbers)}"
    house.ok("tenants", "create", name)
    return name


@pytest.fixture
def admin_key(house: House, tenant: str, tmp_path: Path) -> str:
    """An admin key of the tenant, which the gateway knows already."""
    return house.make_key(tenant, "admin")
