"""Problems: what is wrong now, why, and what to do, the heaviest first."""

from typing import Any

import msgspec
import pytest

from routing.event import Event
from server.dashboard import series
from server.dashboard.overview import Overview, Problem
from server.dashboard.series import Reading
from tests.server.dashboard.node import AT, SHARED, TRIED, Node, began, caller


@pytest.fixture
def node() -> Node:
    node = Node()
    node.sample()
    return node


def only(overview: Overview, kind: str) -> Problem:
    """The one problem of a kind; every problem says what is wrong and what to do."""
    assert all(problem.what.endswith(".") and problem.do for problem in overview.problems)
    (found,) = (problem for problem in overview.problems if problem.kind == kind)
    return found


def kinds(overview: Overview) -> list[str]:
    return [problem.kind for problem in overview.problems]


def test_all_in_order_is_no_problem(node: Node) -> None:
    node.ask(count=1000)
    node.ask(count=10, met_sla=False)
    node.sample()
    assert node.look().problems == []
    assert node.look(caller("acme")).problems == []


def test_a_missed_promise_below_the_least_count_is_chance(node: Node) -> None:
    node.ask(count=2, met_sla=False)
    node.sample()
    assert node.look().problems == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"queue_s": 0.015, "run_s": 0.002, "total_s": 0.02}, "Waiting: those answered waited 15 ms"),
        ({"queue_s": 0.001, "run_s": 0.015, "total_s": 0.02}, "Running: tokenizing and running took 15 ms"),
        ({"queue_s": 0.001, "run_s": 0.002, "total_s": 0.02}, "The gateway and the way to the worker took 17 ms"),
        (
            {"queue_s": 0.0005, "run_s": 0.002, "total_s": 0.003},
            "Most are quick (3 ms on average), the slowest are late",
        ),
    ],
)
def test_a_missed_promise_names_what_took_longest(node: Node, changes: dict[str, Any], word: str) -> None:
    node.ask(count=50, met_sla=False, admission_s=0.0001, **changes)
    node.ask(count=50, admission_s=0.0001, **changes)
    node.sample()
    problem = only(node.look(), "sla_missed")
    assert problem.what == "acme / home / fast met its deadline of 10 ms for 50.0% of requests; 99% is promised."
    assert problem.why.startswith(word)
    assert (problem.severity, problem.tenant, problem.domain, problem.tier) == ("act", "acme", "home", "fast")


def test_a_missed_promise_by_wrong_predictions(node: Node) -> None:
    for _ in range(50):
        node.metrics.predicted(SHARED, 5.0, 14.0)
    node.ask(count=50, met_sla=False, queue_s=0.01, total_s=0.015)
    node.sample()
    assert only(node.look(), "sla_missed").why.startswith("Prediction: answers take 2.5 times as long")


@pytest.mark.parametrize("code", ["overloaded", "no_worker", "worker_lost", "inference_failed", "storage_full"])
def test_a_missed_promise_by_refusals(node: Node, code: str) -> None:
    node.ask(count=10)
    node.refuse(code, 10)
    node.sample()
    problem = only(node.look(), "sla_missed")
    assert problem.why.startswith("10 were refused or failed because ")
    assert "Ask the operators" in only(node.look(caller("acme")), "sla_missed").do or code != "overloaded"


def test_late_without_any_answer(node: Node) -> None:
    node.refuse("deadline_exceeded", 10)
    node.sample()
    assert only(node.look(), "sla_missed").why == "They were late: none was answered within its deadline."


def test_a_slow_burn_is_watched_a_fast_one_acted_on(node: Node) -> None:
    node.ask(count=985)
    node.ask(count=15, met_sla=False)
    node.sample()
    assert only(node.look(), "sla_missed").severity == "watch"
    node.ask(count=15, met_sla=False)
    node.sample()
    assert only(node.look(), "sla_missed").severity == "act"


def test_what_fails_most_comes_first(node: Node) -> None:
    node.refuse("overloaded", 10, domain="own")
    node.refuse("overloaded", 500)
    node.sample()
    missed = [problem.domain for problem in node.look(workers=0).problems]
    assert missed == [None, "home", "own"]
    assert kinds(node.look(workers=0))[0] == "no_worker"


def test_a_gateway_without_a_table_or_worker(node: Node) -> None:
    assert kinds(node.look(table=None)) == ["not_ready"]
    assert kinds(node.look(workers=0)) == ["no_worker"]
    assert kinds(node.look(caller("acme"), workers=0)) == ["no_worker"]


def test_redis_away(node: Node) -> None:
    """Everybody is told that nothing can be changed; only operators, for how long."""
    mine, theirs = (node.look(who, redis_away_s=12.4) for who in (caller("acme"), caller("rival", "call")))
    assert only(node.look(redis_away_s=12.4), "redis_away").what.startswith("Redis has not answered for 12 s")
    assert "12" not in only(mine, "redis_away").what
    assert not theirs.control.is_redis_up


def test_a_process_that_does_not_answer(node: Node) -> None:
    """What it counted before is known, what it is now is not."""
    node.sample()
    node.at += 5
    node.history.add(node.at, [node.readings()[0], Reading(kind="worker", name="worker-0", is_up=False)])
    problem = only(node.look(), "process_down")
    assert (problem.subject, problem.severity) == ("worker-0", "act")
    assert node.look().workers[0].busy is not None
    assert node.look().workers[0].queue_texts is None


def test_a_process_that_is_gone_unless_another_has_its_place(node: Node) -> None:
    """After a rolling restart worker-0.1 does what worker-0 did."""
    gateway, worker = node.readings()
    node.at += 5
    node.history.add(node.at, [gateway])
    assert only(node.look(), "process_gone").subject == "worker-0"
    node.at += 5
    node.history.add(node.at, [gateway, msgspec.structs.replace(worker, name="worker-0.1")])
    assert kinds(node.look()) == []
    node.at += 400
    node.history.add(node.at, [gateway])
    node.at += 301
    node.history.add(node.at, [gateway])
    assert kinds(node.look()) == []


def test_restarts_are_watched_a_crash_loop_acted_on(node: Node) -> None:
    for number, severity in ((1, "watch"), (2, "watch"), (3, "act")):
        node.at += 5
        gateway, worker = node.readings()
        node.history.add(node.at, [gateway, began(worker, AT + number)])
        assert only(node.look(), "process_restarts").severity == severity
    assert node.look().workers[0].restarts == 3


def test_a_worker_that_is_too_busy(node: Node) -> None:
    node.worker.batch(ticket=SHARED, texts=1, queue_s=[], run_s=4.9)
    node.sample()
    assert "98% of the time" in only(node.look(), "worker_busy").what


def test_a_gateway_that_stays_behind_with_its_table(node: Node) -> None:
    def says(name: str, version: float) -> Reading:
        gauges: dict[series.Key, float] = {
            (series.TABLE_VERSION,): version,
            (series.TABLE_USED,): AT,
            (series.IN_FLIGHT,): 0.0,
        }
        return Reading(kind="gateway", name=name, is_up=True, gauges=gauges)

    for passed_s, found in ((5, []), (20, ["table_behind"])):
        node.history.add(AT + 5 + passed_s, [says("gateway-0", 8), says("gateway-1", 7)])
        shown = node.look(at=AT + passed_s)
        assert [kind for kind in kinds(shown) if kind == "table_behind"] == found
    assert only(shown, "table_behind").subject == "gateway-1"
    assert shown.control.table_since == AT


def test_limits_that_are_used_up(node: Node) -> None:
    for limit, count in (("day", 3), ("rate", 2)):
        for _ in range(count):
            node.metrics.control.limited("acme", limit)
    node.sample()
    shown = node.look(caller("acme"))
    assert only(shown, "quota_used_up").what == "3 requests of acme refused: its requests of today are used up."
    assert only(shown, "quota_used_up").severity == "act"
    assert only(shown, "rate_limited").why == "Its limit is 5."
    assert kinds(node.look(caller("rival"))) == []


def test_a_canary_that_was_rolled_back_is_news_for_a_while(node: Node) -> None:
    def rolled_back(at: float) -> Event:
        return Event(
            action="canary.roll_back", actor="overseer/gateway-0", tenant="acme", subject=TRIED, id="1-0", at=at,
            reason="6 of 20 asks of the canary failed", after={"domain": "own"},
        )  # fmt: skip

    problem = only(node.look(caller("acme"), events=[rolled_back(AT)]), "canary_rolled_back")
    assert (problem.why, problem.domain, problem.subject) == ("6 of 20 asks of the canary failed.", "own", "1-0")
    assert kinds(node.look(caller("acme"), events=[rolled_back(AT - 1000)])) == []


def test_a_ticket_that_the_registry_lacks(node: Node) -> None:
    assert only(node.look(missing=frozenset({SHARED})), "ticket_missing").subject == SHARED


@pytest.mark.parametrize(("psi", "severity"), [(0.05, None), (0.15, "watch"), (0.3, "act")])
def test_drift(node: Node, psi: float, severity: str | None) -> None:
    gateway, worker = node.readings()
    drifted = {**worker.gauges, (series.DRIFT, SHARED[:12], "class"): psi, (series.DRIFT, SHARED[:12], "scope"): 0.0}
    node.at += 5
    node.history.add(node.at, [gateway, msgspec.structs.replace(worker, gauges=drifted)])
    assert [problem.severity for problem in node.look().problems] == ([severity] if severity else [])


def test_a_surge(node: Node) -> None:
    node.metrics.unseen.inc(40)
    node.sample()
    assert only(node.look(), "surge").what == "40 requests refused before being looked at."
    assert kinds(node.look(caller("acme"))) == []
