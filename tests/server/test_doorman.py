"""Who may come in: the doorman's refusals, as the table and the accounts change under it."""

import pytest

from routing.access import make_key
from routing.account import OPERATOR, Account, Limits
from routing.keys import key_hash, new_key
from routing.table import Table, Tenant
from server.doorman import Doorman
from server.errors import Forbidden, NotReady, Suspended, Unauthorized

NOW = 1_000_000.0


def headers(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


def doorman(**accounts: Account) -> Doorman:
    made = Doorman(clock=lambda: NOW)
    made.use_table(Table(tenants={name: Tenant() for name in accounts}))
    made.use_accounts({account.name: account for account in accounts.values()})
    return made


def test_before_there_is_anything_to_know_it_is_not_ready() -> None:
    with pytest.raises(NotReady):
        Doorman().caller(headers(new_key()))


def test_a_revoked_key_stays_out_as_soon_as_the_accounts_are_replaced() -> None:
    key, kept = make_key("call", NOW)
    door = doorman(acme=Account(name="acme", keys=[kept]))
    assert door.tenant(headers(key)) == "acme"
    door.use_accounts({"acme": Account(name="acme")})
    with pytest.raises(Unauthorized):
        door.tenant(headers(key))


def test_a_new_table_keeps_the_accounts_keys_and_the_other_way_round() -> None:
    authored = new_key()
    key, kept = make_key("call", NOW)
    door = doorman(acme=Account(name="acme", keys=[kept]))
    door.use_table(Table(tenants={"acme": Tenant(key_hashes=[key_hash(authored)])}))
    assert door.tenant(headers(key)) == door.tenant(headers(authored)) == "acme"
    door.use_accounts({})
    assert door.tenant(headers(authored)) == "acme"


def test_a_suspended_tenants_keys_are_refused_also_those_of_the_table() -> None:
    authored = new_key()
    key, kept = make_key("admin", NOW)
    door = doorman(acme=Account(name="acme", keys=[kept], is_suspended=True))
    door.use_table(Table(tenants={"acme": Tenant(key_hashes=[key_hash(authored)])}))
    for suspended in (key, authored):
        with pytest.raises(Suspended):
            door.tenant(headers(suspended))


def test_an_operator_does_not_call() -> None:
    key, kept = make_key("admin", NOW)
    door = doorman(operator=Account(name=OPERATOR, keys=[kept]))
    assert door.caller(headers(key)).role == "operator"
    with pytest.raises(Forbidden, match="key of a tenant"):
        door.tenant(headers(key))


def test_a_role_that_does_not_suffice_is_said_so() -> None:
    key, kept = make_key("call", NOW)
    with pytest.raises(Forbidden, match="role is 'call'; this needs 'register'"):
        doorman(acme=Account(name="acme", keys=[kept])).tenant(headers(key), "register")


def test_a_tenant_without_an_account_has_the_defaults() -> None:
    assert doorman().account("acme").limits == Limits()
