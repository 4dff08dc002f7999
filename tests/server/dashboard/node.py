"""A node under test: real metrics of gateways and workers, dumped and read as the dashboard does, at times of a test's
own. It holds no assertions."""

from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from routing.access import Caller
from routing.account import Account, Limits
from routing.document import check
from routing.table import Canary, Domain, FamilyTicket, Table, Tenant, Tier
from server.dashboard.facts import Facts, Users
from server.dashboard.history import STEP_S, History
from server.dashboard.overview import Overview
from server.dashboard.series import STARTED, Reader, Reading
from server.dashboard.view import look
from server.exposition import dump
from server.telemetry import GatewayMetrics
from server.worker_metrics import WorkerMetrics

AT = 1_790_000_000.0
OPERATOR = Caller(tenant=None, role="operator", key_id="0" * 12)
SHARED, OWN, TRIED, THEIRS = "a1" * 32, "b2" * 32, "c3" * 32, "d4" * 32


def caller(tenant: str, role: str = "admin") -> Caller:
    """A tenant's key."""
    return Caller(tenant=tenant, role=role, key_id="1" * 12)  # type: ignore[arg-type]


def table() -> Table:
    """Acme has `home` on a shared family and `own` on its own, with a canary; rival has `secret`, and `home` too."""
    tiers = {"fast": Tier(deadline_ms=10.0), "accurate": Tier(deadline_ms=100.0)}
    home = Domain(family="home", default_tier="fast", tiers=tiers)
    canary = Canary(ticket=TRIED, current=OWN, share=0.2, started_at=AT - 60)
    return check(
        Table(
            version=7,
            families={
                "home": [FamilyTicket(id=SHARED, tier="fast", quality=0.95, service_ms=1.0)],
                "acme/own": [
                    FamilyTicket(id=OWN, tier="fast", quality=0.9, service_ms=2.0, bytes=1000),
                    FamilyTicket(id=TRIED, tier="fast", quality=0.91, service_ms=1.5, bytes=1000, state="canary"),
                ],
                "rival/secret": [FamilyTicket(id=THEIRS, tier="fast", quality=0.8, service_ms=3.0, bytes=1000)],
            },
            tenants={
                "acme": Tenant(
                    domains={"home": home, "own": msgspec.structs.replace(home, family="acme/own", canary=canary)}
                ),
                "rival": Tenant(domains={"home": home, "secret": msgspec.structs.replace(home, family="rival/secret")}),
            },
        )
    )


class Node:
    """One gateway and one worker, and the history of what they count."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.history = History()
        self.table = table()
        self.gateways = {"gateway-0": CollectorRegistry()}
        self.metrics = GatewayMetrics(self.gateways["gateway-0"])
        self.worker_registry = CollectorRegistry()
        self.worker = WorkerMetrics(self.worker_registry)
        self.at = AT
        self.users = Users(900.0)

    def ask(self, tenant: str = "acme", domain: str = "home", count: int = 1, **changes: Any) -> None:
        """So many requests ended: answered in 4 ms by the shared ticket where nothing else is said."""
        facts: dict[str, Any] = {
            "tier": "fast", "outcome": "ok", "total_s": 0.004, "queue_s": 0.001, "run_s": 0.002, "met_sla": True,
            "ticket": SHARED, "step": 0, "admission_s": 0.0005, "tokenize_s": 0.0005,
        } | changes  # fmt: skip
        for _ in range(count):
            self.metrics.record(tenant=tenant, domain=domain, **facts)

    def refuse(self, code: str, count: int = 1, met_sla: bool | None = False, **who: str) -> None:
        """So many requests ended in an error."""
        names = {"tenant": "acme", "domain": "home", "tier": "fast"} | who
        for _ in range(count):
            self.metrics.record(
                tenant=names["tenant"], domain=names["domain"], tier=names["tier"], outcome=code, total_s=0.0001,
                met_sla=met_sla,
            )  # fmt: skip

    def readings(self) -> list[Reading]:
        """What all processes say now. They began before the history did."""
        dumps = {name: dump(registry) for name, registry in self.gateways.items()}
        dumps["worker-0"] = dump(self.worker_registry)
        found = [self.reader.read(name, dumped) for name, dumped in dumps.items()]
        return [began(reading, AT - 100) for reading in found]

    def sample(self, passed_s: float = STEP_S) -> None:
        """Sample everything, ``passed_s`` after the last time."""
        self.at += passed_s
        self.history.add(self.at, self.readings())

    def facts(self, **changes: object) -> Facts:
        """The moment after the last sample."""
        facts = Facts(
            at=self.at, version="test", gateway="gateway-0", table=self.table, workers=1,
            accounts={"acme": Account(name="acme", limits=Limits(rate_per_s=5.0)), "rival": Account(name="rival")},
            users=self.users.see(self.table, self.at),
        )  # fmt: skip
        return msgspec.structs.replace(facts, **changes)

    def look(self, who: Caller = OPERATOR, window_s: int = 60, **changes: object) -> Overview:
        """What somebody sees."""
        return look(who, window_s, self.history.window(window_s), self.facts(**changes))


def began(reading: Reading, at: float) -> Reading:
    """The same reading of a process that started at ``at``."""
    if not reading.is_up:
        return reading
    return msgspec.structs.replace(reading, gauges={**reading.gauges, (STARTED,): at})
