"""The arithmetic of a report, on records made by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.record import Record, Run
from loadtest.report import Latency, Report, Sla, StepReport, latency, percentile, reduce_run, strict_percentile_ms
from loadtest.schedule import Step

SLA = Sla()
MS = 0.001


def a_run(*steps: Step, interrupted: bool = False) -> Run:
    return Run(
        url="http://x",
        arrivals="constant",
        seed=0,
        steps=list(steps),
        timeout_s=10,
        max_connections=8,
        started="2025-01-01T00:00:00+00:00",
        interrupted=interrupted,
    )


def a_record(at: float = 0.0, took: float = 0.010, **fields: object) -> Record:
    """A good answer, ``took`` seconds after its intended time ``at``, sent on time."""
    known: dict[str, object] = {
        "step": 0,
        "tenant": "acme",
        "domain": "banking",
        "tier": "fast",
        "intended_s": at,
        "fired_s": at,
        "sent_s": at,
        "done_s": at + took,
        "status": 200,
    }
    return Record(**(known | fields))  # type: ignore[arg-type]


def reduce_one(records: list[Record], sla: Sla = SLA, step: Step | None = None) -> StepReport:
    """The report of a run of one step."""
    (found,) = reduce_run(a_run(step or Step(rate_per_s=100, duration_s=1)), records, sla).steps
    return found


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, None),
        ([7.0], 0.999, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 0.999, 100.0),
        ([float(n) for n in range(1, 1001)], 0.999, 999.0),
        ([1.0, 2.0], 0.0, 1.0),
    ],
)
def test_percentiles_are_nearest_rank(values: list[float], share: float, expected: float | None) -> None:
    assert percentile(values, share) == expected


@given(st.lists(st.floats(0, 100), min_size=1))
def test_percentiles_rise_and_are_values_that_happened(values: list[float]) -> None:
    found = latency(values)
    ordered = [found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms, found.p99_9_ms, found.max_ms]
    assert all(value in [1000.0 * v for v in values] for value in ordered)
    assert ordered == sorted(value for value in ordered if value is not None)


def test_a_stall_shows_in_the_intended_latency_and_hides_from_send() -> None:
    """Coordinated omission: 100/s for 10 s, one connection, and the server stalls from 4 s to 6 s.

    The 200 requests due meanwhile wait for the connection. From their sending each took 10 ms or less, all but the
    one that the stall caught: 0.1 % of them. From their intended times 20 % of the requests took up to 2 s.
    """
    records = [a_record(n / 100, 0.005) for n in range(400)]
    records.append(a_record(4.0, 2.0))
    records += [a_record(n / 100, sent_s=6.0, done_s=6.005) for n in range(401, 600)]
    records += [a_record(n / 100, 0.005) for n in range(600, 1000)]
    step = reduce_one(records, step=Step(rate_per_s=100, duration_s=10))
    assert step.total.from_send.p99_ms == pytest.approx(5)
    assert step.total.from_intended.p99_ms == pytest.approx(1905)
    assert step.waited_for_connection == 199
    assert step.verdict.valid, "the wait was the server's doing; the sender was on time"
    assert step.total.attainment == pytest.approx(0.803, abs=0.005)


def test_goodput_counts_good_answers_within_each_tiers_own_deadline() -> None:
    records = [
        a_record(0.1, 9 * MS, tier="fast"),
        a_record(0.2, 11 * MS, tier="fast"),
        a_record(0.3, 11 * MS, tier="accurate"),
        a_record(0.4, 1 * MS, tier="accurate", status=503, code="overloaded"),
    ]
    step = reduce_one(records, Sla(default_ms=50, by_tier={"fast": 10}), Step(rate_per_s=2, duration_s=2))
    assert (step.total.requests, step.total.good) == (4, 3)
    assert step.total.goodput_per_s == 1.0
    assert step.total.attainment == 0.5
    assert step.total.sla_ms is None
    assert {group.tier: (group.sla_ms, group.attainment) for group in step.groups} == {
        "accurate": (50, 0.5),
        "fast": (10, 0.5),
    }


def test_a_refusal_is_an_error_and_not_a_fast_answer() -> None:
    """A server that refuses everything at once must not look quick."""
    refused = reduce_one([a_record(took=MS, status=503, code="overloaded")] * 3)
    assert refused.total.from_intended.p50_ms is None
    assert refused.total.errors == {"overloaded": 3}
    assert refused.total.attainment == 0


def test_a_timeout_counts_in_the_percentiles_at_the_time_waited() -> None:
    records = [a_record(took=0.005)] * 9 + [a_record(took=10.0, status=0, code="timeout", sent_s=None)]
    found = reduce_one(records)
    assert found.total.from_intended.max_ms == pytest.approx(10_000)
    assert found.total.from_send.max_ms == pytest.approx(5), "it was never sent"
    assert found.total.errors == {"timeout": 1}


def test_rates_count_what_happened_while_the_step_lasted() -> None:
    """A backlog that is answered after the end is no throughput."""
    step = Step(rate_per_s=10, duration_s=1, warmup_s=1)
    records = [a_record(1 + n / 10, 0.01) for n in range(5)] + [a_record(1.9, 5.0)] * 5
    total = reduce_one(records, step=step).total
    assert (total.sent_per_s, total.answered_per_s, total.goodput_per_s) == (10, 5, 5)


def test_groups_are_by_tenant_domain_and_tier_in_order() -> None:
    records = [a_record(tenant=t, domain=d) for t, d in (("b", "x"), ("a", "y"), ("a", "x"), ("a", "x"))]
    groups = reduce_one(records).groups
    assert [(g.tenant, g.domain, g.requests) for g in groups] == [("a", "x", 2), ("a", "y", 1), ("b", "x", 1)]


def test_the_servers_own_times_and_tickets_are_kept() -> None:
    records = [
        a_record(ticket="aa", queue_ms=1.0, run_ms=2.0, total_ms=4.0),
        a_record(ticket="bb"),
        a_record(ticket="aa"),
    ]
    total = reduce_one(records).total
    assert total.tickets == {"aa": 2, "bb": 1}
    assert (total.server_queue.p50_ms, total.server_run.p50_ms, total.server_total.p50_ms) == (1.0, 2.0, 4.0)


def late(count: int, late_ms: float, of: int = 1000) -> StepReport:
    """The report of a run with ``count`` of ``of`` requests sent ``late_ms`` late."""
    on_time = [a_record() for _ in range(of - count)]
    return reduce_one(on_time + [a_record(fired_s=late_ms * MS, sent_s=late_ms * MS) for _ in range(count)])


def test_a_run_whose_sender_fell_behind_is_invalid_and_says_so() -> None:
    verdict = late(11, 6.0).verdict
    assert not verdict.valid
    assert "11 of 1000" in verdict.reasons[0]
    assert "5 ms" in verdict.rule


@pytest.mark.parametrize(("count", "late_ms"), [(10, 500.0), (1000, 4.9), (0, 0.0)])
def test_a_run_is_valid_up_to_the_rule(count: int, late_ms: float) -> None:
    step = late(count, late_ms)
    assert step.verdict.valid
    assert step.verdict.reasons == []
    assert step.lateness.max_ms == pytest.approx(late_ms)


def test_a_run_without_requests_is_invalid() -> None:
    assert reduce_one([]).verdict.reasons == ["no request was measured"]


def test_the_warm_up_is_in_no_figure() -> None:
    step = reduce_one([a_record(took=9.0, warmup=True, fired_s=9.0), a_record(took=0.005)])
    assert step.total.requests == 1
    assert step.total.from_intended.max_ms == pytest.approx(5)
    assert step.verdict.valid


def test_an_interruption_counts_what_was_measured() -> None:
    """What was under way is in no figure, and steps that never began are left out."""
    steps = [Step(rate_per_s=rate, duration_s=1) for rate in (100, 200, 300)]
    records = [a_record(), a_record(code="interrupted", status=0), a_record(step=1)]
    report = reduce_run(a_run(*steps, interrupted=True), records, SLA)
    assert [(step.index, step.total.requests, step.interrupted) for step in report.steps] == [(0, 1, 1), (1, 1, 0)]


def test_one_invalid_step_makes_the_sweep_invalid() -> None:
    steps = [Step(rate_per_s=rate, duration_s=1) for rate in (100, 200)]
    records = [a_record(), a_record(step=1, fired_s=1.0)]
    report = reduce_run(a_run(*steps), records, SLA)
    assert [step.verdict.valid for step in report.steps] == [True, False]
    assert not report.valid


def test_the_strict_percentile_takes_a_missing_answer_for_infinitely_late() -> None:
    records = [a_record(took=0.005)] * 99 + [a_record(took=MS, status=503, code="overloaded")]
    assert strict_percentile_ms(records, 0.99) == pytest.approx(5)
    assert strict_percentile_ms([*records, records[-1]], 0.99) == math.inf
    assert strict_percentile_ms([], 0.99) == math.inf


def test_nothing_measured_is_none_and_not_zero() -> None:
    assert latency([]) == Latency(p50_ms=None, p90_ms=None, p95_ms=None, p99_ms=None, p99_9_ms=None, max_ms=None)
    report: Report = reduce_run(a_run(Step(rate_per_s=1, duration_s=1), interrupted=True), [], SLA)
    assert not report.valid
