"""The table with long deadlines: one that Tombola accepts, different from its own in nothing but the deadlines."""

import json

import msgspec

from loadtest.peers.patience import lengthened
from routing.document import dump_json, from_data
from routing.keys import key_hash
from routing.table import Domain, FamilyTicket, Table, Tenant, Tier

KEY = "tk_0123456789abcdef0123"
TIERS = {"accurate": Tier(deadline_ms=100.0, quality_floor=0.9), "fast": Tier(deadline_ms=25.0)}
TABLE = Table(
    version=3,
    families={"banking": [FamilyTicket(id="ab" * 32, tier="accurate", quality=0.95, service_ms=0.5)]},
    tenants={
        "demo": Tenant(
            key_hashes=[key_hash(KEY)],
            domains={"banking": Domain(family="banking", default_tier="fast", tiers=TIERS)},
        )
    },
)


def test_only_the_deadlines_differ() -> None:
    shown = json.loads(dump_json(TABLE))
    shown["tenants"]["demo"]["key_hashes"] = ["38b208c3bb88..."]  # as `tombola route show` prints them
    found = from_data(lengthened(shown, KEY, 5000.0))
    tenant = found.tenants["demo"]
    assert {tier.deadline_ms for tier in tenant.domains["banking"].tiers.values()} == {5000.0}
    before = {name: msgspec.structs.replace(tier, deadline_ms=5000.0) for name, tier in TIERS.items()}
    domain = msgspec.structs.replace(TABLE.tenants["demo"].domains["banking"], tiers=before)
    assert tenant == msgspec.structs.replace(TABLE.tenants["demo"], domains={"banking": domain})
    assert found.families == TABLE.families
