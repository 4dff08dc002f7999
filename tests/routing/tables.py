"""Small tables with readable names, shared by the tests of routing."""

from routing.document import check
from routing.keys import key_hash
from routing.table import Domain, FamilyTicket, Table, Tenant, Tier

ACCURATE, BALANCED, FAST = "aa" * 32, "bb" * 32, "cc" * 32
"""Ids of the banking family's tickets: 20, 10 and 2 ms; quality 0.97, 0.95 and 0.90."""
OTHER = "dd" * 32
"""The only ticket of the travel family, which is globex's."""
ACME_KEY, GLOBEX_KEY = "tk_acme_0123456789abcdef", "tk_globex_0123456789abcdef"

BANKING = [
    FamilyTicket(id=ACCURATE, tier="accurate", quality=0.97, service_ms=20.0),
    FamilyTicket(id=BALANCED, tier="balanced", quality=0.95, service_ms=10.0),
    FamilyTicket(id=FAST, tier="fast", quality=0.90, service_ms=2.0),
]
TIERS = {
    "accurate": Tier(deadline_ms=100.0),
    "balanced": Tier(deadline_ms=25.0),
    "fast": Tier(deadline_ms=10.0),
    "strict": Tier(deadline_ms=50.0, quality_floor=0.96),
    "perfect": Tier(deadline_ms=50.0, quality_floor=0.99),
}


def example_table(**changes: Tier) -> Table:
    """Acme has banking (family banking), globex has travel (family travel); ``changes`` replace acme's tiers."""
    banking = Domain(family="banking", default_tier="balanced", tiers={**TIERS, **changes})
    travel = Domain(family="travel", default_tier="only", tiers={"only": Tier(deadline_ms=50.0)})
    return check(
        Table(
            families={
                "banking": BANKING,
                "travel": [FamilyTicket(id=OTHER, tier="only", quality=0.9, service_ms=5.0)],
            },
            tenants={
                "acme": Tenant(key_hashes=[key_hash(ACME_KEY)], domains={"banking": banking}),
                "globex": Tenant(key_hashes=[key_hash(GLOBEX_KEY)], domains={"travel": travel}),
            },
        )
    )
