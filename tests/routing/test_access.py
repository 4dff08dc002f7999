"""Whose key a key is: the table's, the accounts', the operators'; what expires, what is suspended, what is unknown."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.access import Access, Caller, key_of, make_key
from routing.account import OPERATOR, ROLES, Account, ApiKey, Role
from routing.keys import KEY_FORM, key_hash, new_key
from routing.table import Table, Tenant

NOW = 1_000_000.0


def access(*keys: ApiKey, name: str = "acme", table: Table | None = None, is_suspended: bool = False) -> Access:
    return Access(table, {name: Account(name=name, keys=list(keys), is_suspended=is_suspended)})


def test_a_key_of_an_account_names_its_tenant_and_role() -> None:
    key, kept = make_key("register", NOW)
    assert access(kept).find(key, NOW) == Caller(tenant="acme", role="register", key_id=kept.id)


def test_a_key_of_the_table_may_only_call() -> None:
    key = new_key()
    table = Table(tenants={"acme": Tenant(key_hashes=[key_hash(key)])})
    found = Access(table, {}).find(key, NOW)
    assert found is not None
    assert (found.tenant, found.role) == ("acme", "call")


def test_an_operators_key_has_no_tenant() -> None:
    key, kept = make_key("admin", NOW)
    found = access(kept, name=OPERATOR).find(key, NOW)
    assert found == Caller(tenant=None, role="operator", key_id=kept.id)
    assert found.actor == f"operator/{kept.id}"


def test_nobodys_key_is_nobodys() -> None:
    key, kept = make_key("call", NOW)
    for other in ("", "tk_", key[:-1], key + "x", key.upper(), new_key(), "\udcff", kept.hash):
        assert access(kept).find(other, NOW) is None


def test_a_key_whose_hash_begins_alike_is_not_taken_for_another() -> None:
    key, kept = make_key("call", NOW)
    alike = msgspec.structs.replace(kept, hash=kept.hash[:32] + "0" * 32)
    assert access(alike).find(key, NOW) is None


@pytest.mark.parametrize(("now", "is_known"), [(NOW + 59.9, True), (NOW + 60.0, False), (NOW + 1e6, False)])
def test_a_key_is_unknown_from_the_moment_it_expires(now: float, is_known: bool) -> None:
    key, kept = make_key("call", NOW, expires_at=NOW + 60)
    assert (access(kept).find(key, now) is not None) is is_known


def test_a_suspended_tenant_is_known_as_such() -> None:
    key, kept = make_key("admin", NOW)
    found = access(kept, is_suspended=True)
    assert found.find(key, NOW) is not None
    assert found.suspended == {"acme"}


@pytest.mark.parametrize("has", ROLES)
@pytest.mark.parametrize("needs", ROLES)
def test_a_role_may_do_all_that_stands_before_it(has: Role, needs: Role) -> None:
    may = Caller(tenant="acme", role=has, key_id="0" * 12).may(needs)
    assert may is (ROLES.index(has) >= ROLES.index(needs))


def test_what_is_kept_of_a_key_does_not_hold_it() -> None:
    key, kept = make_key("call", NOW, label="ci")
    assert KEY_FORM.fullmatch(key)
    assert key[3:] not in msgspec.json.encode(kept).decode()
    assert kept == key_of("call", key, NOW, label="ci")


@given(st.lists(st.sampled_from(ROLES), max_size=20), st.integers(0, 30))
def test_every_key_finds_its_own_tenant(roles: list[Role], other: int) -> None:
    made = [make_key(role, NOW) for role in roles]
    accounts = {f"t{i}": Account(name=f"t{i}", keys=[kept]) for i, (_, kept) in enumerate(made)}
    found = Access(None, accounts)
    for i, (key, kept) in enumerate(made):
        assert found.find(key, NOW) == Caller(tenant=f"t{i}", role=kept.role, key_id=kept.id)
    assert found.find(f"tk_{other:043d}", NOW) is None
