"""The routing document as TOML: what is written reads back into the same table."""

import tomllib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from routing.document import check, parse_toml
from routing.table import Canary, Cascade, Domain, FamilyTicket, Former, Table, Tenant, Tier
from routing.toml import dump_toml
from tests.routing.tables import ACCURATE, BALANCED, FAST, example_table

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,8}", fullmatch=True)
IDS = st.integers(0, 15).map(lambda n: f"{n:x}" * 64)


def test_the_example_comes_back_whole() -> None:
    table = example_table()
    assert parse_toml(dump_toml(table).encode()) == table


def test_what_is_as_it_would_be_anyway_is_not_written() -> None:
    text = dump_toml(example_table())
    for unwritten in ("state", "replaces", "cascade", "canary", "weight", "policy", "version", "format"):
        assert unwritten not in text
    assert "fast = { deadline_ms = 10.0 }" in text


def test_states_cascades_canaries_shares_and_odd_names_come_back() -> None:
    tickets = [
        FamilyTicket(id=ACCURATE, tier="a.b", quality=0.97, service_ms=20.0, replaces=[BALANCED], bytes=1234),
        FamilyTicket(id=BALANCED, tier="a.b", quality=0.95, service_ms=10.0, state="canary"),
        FamilyTicket(id=FAST, tier="fast", quality=1 / 3, service_ms=1e-3, bytes=1 << 40),
    ]
    domain = Domain(
        family="acme/ho.me",
        default_tier="a.b",
        tiers={"a.b": Tier(deadline_ms=0.1, quality_floor=0.9), "fast": Tier(deadline_ms=600_000.0)},
        policy="cascade",
        cascade=Cascade(small=FAST, large=ACCURATE, threshold=0.7, accuracy=0.9),
        canary=Canary(ticket=BALANCED, current=ACCURATE, share=0.25, mode="shadow", is_automatic=True, started_at=1e9),
        former=[Former(tier="fast"), Former(tier="a.b", tickets=[BALANCED], promise=Tier(deadline_ms=5.0))],
    )
    table = check(
        Table(
            families={"acme/ho.me": tickets},
            tenants={
                "acme": Tenant(key_hashes=["ab" * 32], domains={"ho.me": domain}, weight=2.5, reserved_bytes=1 << 30),
                "none": Tenant(),
            },
        )
    )
    assert parse_toml(dump_toml(table).encode()) == table


@given(
    st.dictionaries(NAMES, st.lists(IDS, min_size=1, max_size=3, unique=True), min_size=1, max_size=3),
    st.lists(NAMES, max_size=3, unique=True),
    st.floats(0.01, 600_000.0, allow_subnormal=False),
    st.floats(0.0, 1.0),
)
def test_any_table_comes_back_whole(
    families: dict[str, list[str]], tenants: list[str], deadline_ms: float, quality: float
) -> None:
    tickets = {
        name: [FamilyTicket(id=ticket, tier="t", quality=quality, service_ms=deadline_ms) for ticket in ids]
        for name, ids in families.items()
    }
    domains = {
        name: Domain(family=name, default_tier="t", tiers={"t": Tier(deadline_ms=deadline_ms, quality_floor=quality)})
        for name in families
    }
    table = check(Table(families=tickets, tenants={name: Tenant(domains=domains) for name in tenants}))
    assert parse_toml(dump_toml(table).encode()) == table


def test_texts_with_quotes_and_control_characters_are_escaped() -> None:
    odd = 'a "b" \\ \x7f \x01 ä \U0001f3b2'
    tenant = msgspec.structs.replace(Tenant(), key_hashes=[odd])
    assert tomllib.loads(dump_toml(Table(tenants={odd: tenant})))["tenants"][odd]["key_hashes"] == [odd]
