"""API keys: how they look, and whose they are."""

import msgspec

from routing.keys import KEY_FORM, key_hash, new_key, tenant_of
from routing.table import Table, Tenant
from tests.routing.tables import ACME_KEY, GLOBEX_KEY, example_table


def test_new_keys_differ_and_have_the_form_that_documents_accept() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(KEY_FORM.fullmatch(key) and len(key) == 46 for key in keys)


def test_a_key_hash_is_the_plain_sha256_that_others_can_compute() -> None:
    assert key_hash("tk_test") == "c566158525c2647f59ef9a390eacf7f9dc66550ac0a984712fa02c71c7d31e82"


def test_a_key_names_its_tenant_and_nobody_elses() -> None:
    table = example_table()
    assert tenant_of(table, ACME_KEY) == "acme"
    assert tenant_of(table, GLOBEX_KEY) == "globex"


def test_what_is_not_a_key_names_nobody() -> None:
    """Also the hash itself: who reads the table cannot call the API."""
    table = example_table()
    for wrong in ("", ACME_KEY + " ", ACME_KEY.upper(), key_hash(ACME_KEY), "\ud800", "ä" * 10_000):
        assert tenant_of(table, wrong) is None


def test_a_tenant_may_have_several_keys_or_none() -> None:
    tenants = {
        "two": Tenant(key_hashes=[key_hash("tk_a"), key_hash("tk_b")], domains={}),
        "locked": Tenant(key_hashes=[], domains={}),
    }
    table = Table(tenants=tenants)
    assert tenant_of(table, "tk_a") == tenant_of(table, "tk_b") == "two"


def test_a_new_table_does_not_remember_the_keys_of_the_old_one() -> None:
    """The index is built once per table; revoking a key takes effect with the table."""
    old = example_table()
    assert tenant_of(old, ACME_KEY) == "acme"
    new = msgspec.structs.replace(old, tenants={"globex": old.tenants["globex"]})
    assert tenant_of(new, ACME_KEY) is None
    assert tenant_of(new, GLOBEX_KEY) == "globex"
