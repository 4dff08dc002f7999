"""The overview that one viewer gets: everything for an operator, for a tenant only what is its own. Pure.

Owns who sees what. A tenant gets the rows, families, events and problems that bear its name, and no sum over others,
because what is missing in it would be told by subtraction; of processes it gets nothing.
"""

from collections import defaultdict
from collections.abc import Iterable

from routing.access import Caller
from routing.account import OPERATOR, Account
from routing.event import Event
from routing.restore import TENANT_CREATED, TENANT_DELETED
from routing.table import FamilyTicket, Tenant
from server.control_metrics import KNOWN, REGISTERED
from server.dashboard import series
from server.dashboard.facts import Facts, label_of
from server.dashboard.families import families_of
from server.dashboard.history import STEP_S, Process, Window
from server.dashboard.overview import Overview, Viewer
from server.dashboard.problems import GONE_S, Seen, find_problems
from server.dashboard.processes import control_of, gateway_rows, worker_rows
from server.dashboard.shapes import Flow, TenantRow
from server.dashboard.traffic import Flows, Who, is_own

EVENTS = 50


def look(caller: Caller, window_s: int, window: Window, facts: Facts) -> Overview:
    """What ``caller`` sees of the last ``window_s`` seconds."""
    tenant, is_operator = caller.tenant, caller.tenant is None
    flows = Flows(window, window_s, tenant)
    seen = Seen(
        facts=facts,
        is_operator=is_operator,
        tenants=_tenants(facts, flows, tenant),
        flows=_flows(facts, flows, tenant),
        families=families_of(facts, window, flows, tenant),
        workers=worker_rows(window, flows.points) if is_operator else [],
        gateways=gateway_rows(window, facts) if is_operator else [],
        control=control_of(window, facts, is_operator=is_operator),
        events=_events(caller, facts.events),
        gone=list(_gone(window, facts.at)) if is_operator else [],
        quarantined=_most(window, series.QUARANTINED) if is_operator else 0.0,
        unseen=window.total((series.UNSEEN,)) if is_operator else 0.0,
        limited=_by_tenant(window, series.LIMITED, tenant),
        gated={key: n for key, n in _by_tenant(window, series.REGISTRATIONS, tenant).items() if _is_refusal(key[1])},
    )
    return Overview(
        at=round(facts.at, 3), version=facts.version, viewer=Viewer(tenant=tenant, role=caller.role),
        window_s=window_s, covered_s=round(window.covered_s, 3), sample_s=STEP_S, problems=find_problems(seen),
        total=flows.of(flows.sums) if is_operator else None, tenants=seen.tenants, flows=seen.flows,
        families=seen.families, workers=seen.workers, gateways=seen.gateways, control=seen.control, events=seen.events,
        are_events_fresh=facts.are_events_fresh,
    )  # fmt: skip


def _rows(facts: Facts, tenant: str | None) -> dict[str, Tenant]:
    """The tenants that may be seen, by name: those of the table, then those that only have an account."""
    names = set(facts.table.tenants if facts.table is not None else ()) | set(facts.accounts) - {OPERATOR}
    rows = facts.table.tenants if facts.table is not None else {}
    return {name: rows.get(name, Tenant()) for name in sorted(names) if tenant is None or name == tenant}


def _flows(facts: Facts, flows: Flows, tenant: str | None) -> list[Flow]:
    tickets: dict[str, FamilyTicket] = {}
    if facts.table is not None:
        tickets = {label_of(one.id): one for family in facts.table.families.values() for one in family}
    found: dict[Who, Flow] = {}
    for name, row in _rows(facts, tenant).items():
        for domain_name, domain in sorted(row.domains.items()):
            for tier_name, tier in sorted(domain.tiers.items()):
                who = (name, domain_name, tier_name)
                found[who] = Flow(
                    tenant=name, domain=domain_name, tier=tier_name, is_default=tier_name == domain.default_tier,
                    policy=domain.policy, deadline_ms=tier.deadline_ms, quality_floor=tier.quality_floor,
                    traffic=flows.of([who]), steps=flows.steps(who), answered=flows.answered(who, tickets),
                )  # fmt: skip
    for who in sorted(flows.sums.keys() - found.keys()):
        found[who] = Flow(
            tenant=who[0], domain=who[1], tier=who[2], is_default=False, policy=None, deadline_ms=None,
            quality_floor=None, traffic=flows.of([who]), steps=flows.steps(who), answered=flows.answered(who, tickets),
        )  # fmt: skip
    return list(found.values())


def _tenants(facts: Facts, flows: Flows, tenant: str | None) -> list[TenantRow]:
    whos: dict[str, list[Who]] = defaultdict(list)
    for who in flows.sums:
        whos[who[0]].append(who)
    found = []
    for name, row in _rows(facts, tenant).items():
        account = facts.accounts.get(name) or Account(name=name)
        traffic = flows.of(whos[name])
        limits = account.limits
        found.append(
            TenantRow(
                tenant=name, is_suspended=account.is_suspended, weight=row.weight, domains=len(row.domains),
                traffic=traffic, refused_by_limits=traffic.outcomes.get("rate_limited", 0.0),
                limits={
                    "rate_per_s": limits.rate_per_s, "burst": limits.burst, "concurrency": limits.concurrency,
                    "daily_requests": limits.daily_requests,
                },
            )
        )  # fmt: skip
    return found


def _events(caller: Caller, events: Iterable[Event]) -> list[Event]:
    """An operator's: all. A tenant's: its own, for the roles that may read its audit log, and none from before it
    began, which are about another that had its name."""
    if caller.tenant is None:
        return list(events)[:EVENTS]
    found: list[Event] = []
    if caller.may("register"):
        for event in events:
            if event.tenant != caller.tenant:
                continue
            if event.action == TENANT_DELETED:
                break
            found.append(event)
            if event.action == TENANT_CREATED:
                break
    return found[:EVENTS]


def _gone(window: Window, now: float) -> Iterable[Process]:
    """The processes that went away lately, and whose place no other has taken: ``worker-0.1`` takes ``worker-0``'s."""
    there = {(one.kind, _place(one.name)) for one in window.processes.values() if one.is_known}
    for process in window.processes.values():
        is_replaced = process.is_known or (process.kind, _place(process.name)) in there
        if not is_replaced and process.seen_at is not None and now - process.seen_at < GONE_S:
            yield process


def _place(name: str) -> str:
    place, dot, number = name.rpartition(".")
    return place if dot and number.isdigit() else name


def _by_tenant(window: Window, name: str, tenant: str | None) -> dict[tuple[str, str], float]:
    """What grew of a metric that is counted by tenant and something else."""
    return {(key[1], key[2]): window.total(key) for key in window.keys(name) if is_own(key[1], tenant)}


def _is_refusal(outcome: str) -> bool:
    return outcome not in (REGISTERED, KNOWN)


def _most(window: Window, name: str) -> float:
    return max((one.gauges.get((name,), 0.0) for one in window.processes.values() if one.is_up), default=0.0)
