"""The overview's numbers: rates, quantiles, promises, who answered, processes, and the empty states."""

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from routing.canary import Arm, Counts
from routing.event import Event
from routing.verdict import judge
from server.dashboard.history import History
from server.dashboard.overview import Overview
from server.dashboard.shapes import Flow, TicketRow
from server.dashboard.traffic import sla
from server.overseer import CanaryStanding
from server.telemetry import GatewayMetrics
from tests.server.dashboard.node import AT, OWN, SHARED, TRIED, Node, caller


@pytest.fixture
def node() -> Node:
    """With a first sample: what is counted from now on is the window's."""
    node = Node()
    node.ask()
    node.sample()
    return node


def flow(overview: Overview, tenant: str = "acme", domain: str = "home", tier: str = "fast") -> Flow:
    (found,) = (f for f in overview.flows if (f.tenant, f.domain, f.tier) == (tenant, domain, tier))
    return found


def ticket(overview: Overview, which: str) -> TicketRow:
    (found,) = (row for family in overview.families for row in family.tickets if row.ticket == which)
    return found


def test_before_the_second_sample_nothing_is_known(node: Node) -> None:
    """Every flow of the table stands there all the same, with its promise."""
    overview = node.look()
    assert overview.covered_s == 0
    one = flow(overview)
    assert (one.deadline_ms, one.is_default, one.policy) == (10.0, True, "best")
    assert (one.traffic.rate_per_s, one.traffic.p99_ms, one.traffic.sla.attainment) == (0.0, None, None)
    assert one.traffic.spark.rate_per_s == []
    assert one.steps == []
    assert ticket(overview, SHARED).share is None
    assert len(overview.flows) == 8


def test_an_empty_history_and_no_table_is_an_overview_too() -> None:
    node = Node()
    node.history = History()
    overview = node.look(table=None, accounts={}, workers=0)
    assert (overview.flows, overview.families, overview.tenants) == ([], [], [])
    assert overview.total is not None
    assert [problem.kind for problem in overview.problems] == ["not_ready"]


def test_rates_outcomes_and_promises(node: Node) -> None:
    node.ask(count=95)
    node.ask(count=3, met_sla=False)
    node.refuse("overloaded", 2)
    node.refuse("bad_request", 5, met_sla=None)
    node.sample()
    node.sample()
    traffic = flow(node.look()).traffic
    assert traffic.requests == 105
    assert traffic.rate_per_s == 10.5
    assert traffic.outcomes == {"ok": 98, "overloaded": 2, "bad_request": 5}
    assert traffic.sla.attainment == 0.95
    assert traffic.sla.burn == 5.0
    assert (traffic.sla.met, traffic.sla.missed) == (95, 5)
    assert traffic.spark.rate_per_s == [21.0, 0.0]
    assert traffic.spark.p99_ms[1] is None
    assert node.look().tenants[0].traffic.outcomes == traffic.outcomes


def test_quantiles_are_interpolated_in_buckets(node: Node) -> None:
    """As Prometheus does: evenly within a bucket. 90 requests in (3, 5] ms, 10 in (25, 35]."""
    node.ask(count=90, total_s=0.004)
    node.ask(count=10, total_s=0.03)
    node.sample()
    traffic = flow(node.look()).traffic
    assert traffic.p50_ms == pytest.approx(3 + 2 * 50 / 90, abs=0.001)
    assert traffic.p95_ms == pytest.approx(30.0)
    assert traffic.p99_ms == pytest.approx(34.0)
    assert traffic.spark.p99_ms == [pytest.approx(34.0)]


def test_beyond_the_last_bucket_is_its_bound(node: Node) -> None:
    node.ask(count=10, total_s=60.0)
    node.sample()
    assert flow(node.look()).traffic.p50_ms == 10_000.0


def test_where_the_time_went(node: Node) -> None:
    node.ask(count=10)
    node.sample()
    traffic = flow(node.look()).traffic
    assert traffic.queue_ms == pytest.approx(1.0)
    assert traffic.parts_ms == pytest.approx(
        {"admission": 0.5, "hop": 0.5, "queue": 1.0, "run": 1.5, "tokenize": 0.5}, abs=0.001
    )


def test_who_answered_and_why(node: Node) -> None:
    node.ask(domain="own", count=6, ticket=OWN)
    node.ask(domain="own", count=2, ticket=TRIED, reason="canary")
    node.ask(domain="own", count=2, ticket="ee" * 32, step=1, reason="load")
    node.sample()
    one = flow(node.look(), domain="own")
    assert [(a.ticket, a.tier, a.answers, a.share) for a in one.answered] == [
        (OWN, "fast", 6, 0.6), (TRIED, "fast", 2, 0.2), (None, None, 2, 0.2),
    ]  # fmt: skip
    assert [(s.step, s.answers, s.reasons) for s in one.steps] == [
        ("0", 8, {"best": 6, "canary": 2}), ("1", 2, {"load": 2}),
    ]  # fmt: skip


def test_a_ticket_shows_its_share_and_its_own_numbers(node: Node) -> None:
    node.ask(domain="own", count=30, ticket=OWN)
    node.ask(domain="own", count=10, ticket=TRIED, total_s=0.02, met_sla=False)
    node.sample()
    overview = node.look()
    assert [(row.ticket, row.share, row.rate_per_s) for row in overview.families[0].tickets] == [
        (OWN, 0.75, 6.0), (TRIED, 0.25, 2.0),
    ]  # fmt: skip
    tried = ticket(overview, TRIED)
    assert tried.p50_ms == pytest.approx(17.5)
    assert tried.sla is not None
    assert tried.sla.attainment == 0.0
    assert (overview.families[0].family, overview.families[0].is_shared) == ("acme/own", False)
    assert [use.tenant for use in overview.families[1].used_by] == ["acme", "rival"]


def test_how_a_canary_stands(node: Node) -> None:
    counts = Counts(canary=Arm(asks=50, errors=1, late=2), current=Arm(asks=400))
    standing = CanaryStanding(
        tenant="acme", domain="own", ticket=TRIED, current=OWN, mode="canary", share=0.2, is_automatic=False,
        started_at=AT - 60, counts=counts, verdict=judge(counts),
    )  # fmt: skip
    (shown,) = ticket(node.look(standings={("acme", "own"): standing}), TRIED).canaries
    assert (shown.current, shown.outcome, shown.asks, shown.errors, shown.late) == (OWN, "running", 50, 1, 2)
    assert "not proven yet" in shown.words


@pytest.mark.parametrize("started_at", [AT - 60, AT - 600])
def test_a_canary_that_nobody_could_ask_about_is_one_all_the_same(node: Node, started_at: float) -> None:
    """Neither does what was known of an earlier trial of the same ticket stand for this one."""
    old = CanaryStanding(
        tenant="acme", domain="own", ticket=TRIED, current=OWN, mode="canary", share=0.2, is_automatic=False,
        started_at=AT - 600, counts=Counts(), verdict=judge(Counts()),
    )  # fmt: skip
    (shown,) = ticket(node.look(standings={} if started_at == AT - 60 else {("acme", "own"): old}), TRIED).canaries
    assert (shown.outcome, shown.words, shown.share) == (None, "", 0.2)


def test_several_gateways_are_one_installation(node: Node) -> None:
    node.gateways["gateway-1"] = CollectorRegistry()
    first, node.metrics = node.metrics, GatewayMetrics(node.gateways["gateway-1"])
    node.sample()
    node.ask(count=30)
    node.metrics = first
    node.ask(count=10)
    node.sample()
    overview = node.look()
    assert flow(overview).traffic.requests == 40
    assert [(row.name, row.rate_per_s, row.is_this) for row in overview.gateways] == [
        ("gateway-0", 1.0, True), ("gateway-1", 3.0, False),
    ]  # fmt: skip


def test_a_worker_shows_what_it_does(node: Node) -> None:
    node.worker.loaded(ticket=SHARED, resident_bytes=1_000_000, seconds=0.1)
    node.worker.batch(ticket=SHARED, texts=10, queue_s=[0.001], run_s=2.0)
    node.sample()
    (row,) = node.look().workers
    assert (row.name, row.is_up, row.busy, row.texts_per_s, row.loads, row.tickets) == (
        "worker-0", True, 0.4, 2.0, 1, 1,
    )  # fmt: skip
    assert row.spark_busy == [0.4]
    assert ticket(node.look(), SHARED).resident_bytes == 1_000_000


def test_fifteen_minutes_are_sixty_points(node: Node) -> None:
    for _ in range(180):
        node.ask()
        node.sample()
    spark = flow(node.look(window_s=900)).traffic.spark
    assert spark.step_s == 15.0
    assert 60 <= len(spark.rate_per_s) <= 61
    assert set(spark.rate_per_s) == {0.2}
    short = flow(node.look(window_s=300)).traffic.spark
    assert (short.step_s, len(short.rate_per_s)) == (5.0, 60)
    assert short.ends_at == node.at


def test_traffic_that_the_table_does_not_know_is_shown_to_operators(node: Node) -> None:
    node.refuse("unauthorized", 4, met_sla=None, tenant="", domain="", tier="")
    node.sample()
    overview = node.look()
    assert overview.total is not None
    assert overview.total.outcomes == {"unauthorized": 4}
    assert flow(overview, "other", "other", "other").policy is None


def test_the_last_fifty_events(node: Node) -> None:
    events = [Event(action="ticket.promote", actor="x", tenant="acme", id=f"{100 - n}-0") for n in range(60)]
    assert [event.id for event in node.look(events=events).events] == [f"{100 - n}-0" for n in range(50)]


def test_an_overview_goes_out_as_json_that_reads_back(node: Node) -> None:
    """Nothing in it that JSON does not have: no NaN, no infinity."""
    node.ask(count=10)
    node.sample()
    overview = node.look()
    encoded = msgspec.json.encode(overview)
    assert b"NaN" not in encoded
    assert msgspec.json.decode(encoded, type=Overview) == overview
    assert msgspec.json.decode(msgspec.json.encode(node.look(caller("acme"))), type=Overview)


def test_burn_is_how_fast_the_budget_goes() -> None:
    assert sla({"met": 99.0, "missed": 1.0}).burn == pytest.approx(1.0)
    assert sla({"met": 0.0, "missed": 1.0}).burn == pytest.approx(100.0)
    assert sla({"met": 5.0}).burn == 0.0
    assert sla({}).burn is None
