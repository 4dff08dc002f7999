"""Restoring an earlier table: what comes back, and what must not."""

import msgspec
import pytest

from routing.document import check
from routing.event import Event
from routing.keys import key_hash
from routing.restore import ended_since, restored
from routing.table import Domain, FamilyTicket, Table, Tenant, Tier
from tests.routing.tables import FAST, example_table

replace = msgspec.structs.replace
EARLIER = replace(example_table(), version=3)
OWN = [FamilyTicket(id=FAST, tier="fast", quality=0.9, service_ms=2.0)]


def own_domain(tenant: str) -> Domain:
    return Domain(family=f"{tenant}/home", default_tier="fast", tiers={"fast": Tier(deadline_ms=5.0)})


def with_tenant(table: Table, name: str) -> Table:
    """The table with a tenant that has registered a ticket of its own."""
    row = Tenant(key_hashes=[key_hash(f"tk_{name}_0123456789abcdef")], domains={"home": own_domain(name)})
    return check(replace(table, families={**table.families, f"{name}/home": OWN}, tenants={**table.tenants, name: row}))


def without(table: Table, *names: str) -> Table:
    return replace(table, tenants={name: row for name, row in table.tenants.items() if name not in names})


def test_domains_and_families_come_back_and_the_version_is_todays() -> None:
    acme = replace(EARLIER.tenants["acme"], domains={})
    now = replace(EARLIER, version=7, families={}, tenants={"acme": acme, "globex": Tenant()})
    again = check(restored(now, EARLIER, ()))
    assert (again.version, again.families) == (7, EARLIER.families)
    assert again.tenants["acme"].domains == EARLIER.tenants["acme"].domains


def test_keys_weights_and_reservations_stay_todays() -> None:
    new = key_hash("tk_a_newer_key_0123456789")
    now = replace(EARLIER, tenants={**EARLIER.tenants, "acme": Tenant(key_hashes=[new], weight=2.0, reserved_bytes=5)})
    acme = restored(now, EARLIER, ()).tenants["acme"]
    assert (acme.key_hashes, acme.weight, acme.reserved_bytes) == ([new], 2.0, 5)
    assert acme.domains == EARLIER.tenants["acme"].domains


def test_a_tenant_that_was_dropped_from_the_table_comes_back_without_keys() -> None:
    assert restored(without(EARLIER, "acme"), EARLIER, ()).tenants["acme"] == replace(
        EARLIER.tenants["acme"], key_hashes=[]
    )


def test_a_tenant_that_was_deleted_stays_deleted_with_its_tickets() -> None:
    again = check(restored(EARLIER, with_tenant(EARLIER, "gone"), {"gone"}))
    assert "gone" not in again.tenants
    assert "gone/home" not in again.families


def test_another_tenant_under_a_deleted_ones_name_gets_nothing_of_it() -> None:
    """It keeps what it has now: here, no domain at all."""
    now = replace(EARLIER, tenants={**EARLIER.tenants, "name": Tenant(weight=4.0)})
    again = check(restored(now, with_tenant(EARLIER, "name"), {"name"}))
    assert again.tenants["name"] == Tenant(weight=4.0)
    assert "name/home" not in again.families


def test_a_tenant_made_since_keeps_its_routes_and_its_tickets() -> None:
    now = with_tenant(EARLIER, "later")
    again = check(restored(now, EARLIER, {"later"}))
    assert again.tenants["later"] == now.tenants["later"]
    assert again.families["later/home"] == OWN


def test_a_tenant_published_since_keeps_the_shared_family_that_it_needs() -> None:
    now = replace(
        EARLIER,
        families={**EARLIER.families, "new": OWN},
        tenants={**EARLIER.tenants, "later": Tenant(domains={"x": replace(own_domain("x"), family="new")})},
    )
    assert check(restored(now, EARLIER, ())).families["new"] == OWN


def event(action: str, tenant: str | None = None, version: int | None = None) -> Event:
    return Event(action=action, actor="operator/0123", tenant=tenant, table_version=version)


class Log:
    """An audit log that gives so many events a page, newest first, and counts the pages."""

    def __init__(self, events: list[Event], per_page: int) -> None:
        self.events = [msgspec.structs.replace(item, id=str(i)) for i, item in enumerate(events)]
        self.per_page = per_page
        self.pages = 0

    async def page(self, before: str | None) -> list[Event]:
        self.pages += 1
        first = 0 if before is None else int(before) + 1
        return self.events[first : first + self.per_page]


LOG = [
    event("key.create", "acme"),
    event("tenant.create", "new", 6),
    event("tenant.delete", "old", 5),
    event("table.publish", None, 4),
    event("tenant.delete", "long-gone", 3),
]


@pytest.mark.parametrize("per_page", [1, 2, 100])
@pytest.mark.parametrize(("version", "ended"), [(3, {"new", "old"}), (4, {"new", "old"}), (5, {"new"}), (6, set())])
async def test_the_log_says_who_was_made_or_deleted_since_a_version(
    version: int, ended: set[str], per_page: int
) -> None:
    found = await ended_since(version, Log(LOG, per_page).page)
    assert found is not None
    assert set(found) == ended


async def test_a_log_that_does_not_reach_back_says_nothing() -> None:
    assert await ended_since(3, Log([event("tenant.create", "new", 6), event("key.create", "acme")], 1).page) is None
    assert await ended_since(3, Log([], 1).page) is None


async def test_a_log_that_begins_with_the_very_next_version_reaches_back_far_enough() -> None:
    found = await ended_since(3, Log([event("tenant.delete", "old", 4)], 1).page)
    assert found is not None
    assert set(found) == {"old"}


async def test_no_page_older_than_the_version_is_read() -> None:
    log = Log(LOG, 1)
    await ended_since(5, log.page)
    assert log.pages == 2
