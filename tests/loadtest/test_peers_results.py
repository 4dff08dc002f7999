"""What is kept between runs, and the report made from it."""

import importlib.util
from pathlib import Path

import msgspec
import pytest

from loadtest.peers import picture, table
from loadtest.peers.closed_loop import Closed
from loadtest.peers.results import (
    BareTurn,
    Cost,
    Overloaded,
    Point,
    Result,
    Results,
    Saturated,
    Tried,
    Turn,
    median,
    over_turns,
)
from loadtest.search import Trial

COST = Cost(cpu_s_per_1000=0.5, pss_bytes=200_000_000, rss_bytes=300_000_000, processes=3)


def a_closed(per_s: float, connections: int = 64) -> Closed:
    return Closed(client="wrk", connections=connections, per_s=per_s, p50_ms=1.0, p99_ms=9.0, errors=0)


def a_point(rate: float, **more: object) -> Point:
    point = Point(
        rate_per_s=rate, is_valid=True, answered_per_s=rate, goodput_per_s=rate - 1, good_after_sending_per_s=rate,
        sent_per_s=rate, p50_ms=2.0, p99_ms=8.0, p99_after_sending_ms=7.0, errors={}, tickets={}, cost=COST,
    )  # fmt: skip
    return msgspec.structs.replace(point, **more)


def a_turn(best_per_s: float, capacity_per_s: float = 1000.0) -> Turn:
    overload = a_point(3 * capacity_per_s, goodput_per_s=0.9 * capacity_per_s, errors={"http_503": 5})
    return Turn(
        start_s=1.0,
        idle=COST,
        saturated=[Saturated(closed=a_closed(capacity_per_s, n), cost=COST) for n in (16, 64)],
        points=[a_point(100), a_point(400, is_valid=False)],
        best_per_s=best_per_s,
        trials=[Trial(rate_per_s=best_per_s, valid=True, p99_ms=20.0, answered_per_s=best_per_s)],
        overloaded=Overloaded(capacity_per_s=capacity_per_s, limit="a counter: 9", point=overload),
    )


def a_result(name: str = "some", **more: object) -> Result:
    tried = [Tried(setting="one", closed=[a_closed(900)]), Tried(setting="two", closed=[], failure="no port")]
    result = Result(
        name=name,
        title=name.title(),
        conditions="here; some",
        setting="one",
        tried=tried,
        turns=[a_turn(700), a_turn(900)],
    )
    return msgspec.structs.replace(result, **more)


BARE = Result(
    name="bare",
    title="bare loop",
    conditions="here",
    bare=[BareTurn(plain_per_s=1500, grouped_per_s=2000, grouped_cpu_s_per_1000=0.5)],
)


def test_what_is_saved_is_there_again(tmp_path: Path) -> None:
    Results(tmp_path, "here").save(a_result())
    assert Results(tmp_path, "here").load("some", "Some") == a_result()


def test_results_under_other_conditions_are_not_taken_up(tmp_path: Path) -> None:
    Results(tmp_path, "here").save(a_result())
    found = Results(tmp_path, "there").load("some", "Some")
    assert (found.turns, found.setting, found.conditions) == ([], "", "there; some")


def test_a_system_that_has_changed_is_measured_again(tmp_path: Path) -> None:
    Results(tmp_path, "here", {"some": "1"}).save(a_result(conditions="here; some 1"))
    assert Results(tmp_path, "here", {"some": "1"}).load("some", "Some").turns
    assert Results(tmp_path, "here", {"some": "2"}).load("some", "Some").turns == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"name": 3}'])
def test_a_file_that_cannot_be_read_is_measured_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "some.json").write_bytes(content)
    assert Results(tmp_path, "here").load("some", "Some").turns == []


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    results = Results(tmp_path, "here")
    results.save(a_result())
    results.forget("some")
    results.forget("never there")
    assert results.load("some", "Some").turns == []


def test_medians_leave_out_what_was_not_measured() -> None:
    assert median([3.0, None, 1.0, 2.0]) == 2.0
    assert median([None]) is None
    assert over_turns(a_result(), lambda turn: turn.best_per_s) == 800.0


def row_of(text: str, heading: str, title: str) -> list[str]:
    """The cells of a system's row in the table below a heading."""
    part = text.split(f"## {heading}")[1].split("## ")[0]
    (line,) = (line for line in part.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def report(*results: Result) -> str:
    return table.document(results, BARE, ["a fact"], 25.0)


def test_the_report_gives_medians_and_the_range_where_turns_differ() -> None:
    row = row_of(report(a_result()), "Throughput", "Some")
    assert row == ["Some", "1,000", "1,000", "9.0", "800 [700-900]", "50%", "0.50", "200"]


def test_a_best_rate_that_was_not_looked_for_is_not_zero() -> None:
    turns = [msgspec.structs.replace(turn, best_per_s=0.0, trials=[]) for turn in a_result().turns]
    assert row_of(report(a_result(turns=turns)), "Throughput", "Some")[4] == "-"


def test_the_report_marks_rates_at_which_the_sender_fell_behind() -> None:
    row = row_of(report(a_result()), "Open loop", "Some")
    assert row == ["Some", "2.0 / 8.0, 99", "2.0 / 8.0, 399 !"]


def test_the_report_says_how_overload_went() -> None:
    row = row_of(report(a_result()), "Three times", "Some")
    expected = ["Some", "a counter: 9", "3,000", "3,000", "900", "90%", "3,000", "8.0", "7.0", "-", "http_503"]
    assert row == expected


def test_settings_that_were_tried_are_listed_with_their_failures() -> None:
    text = report(a_result())
    assert "| Some | one (kept) | 900/s with 64 |" in text
    assert "| Some | two | no port |" in text


def test_a_system_that_failed_is_reported_with_its_reason() -> None:
    text = report(a_result(), Result(name="other", title="Other", conditions="here", failure="pip: no such version"))
    assert "## Not measured\n\n- Other: pip: no such version" in text


def test_a_report_can_be_made_of_nothing() -> None:
    assert "bare loop" in table.document([], Result(name="bare", title="bare loop", conditions=""), [], 25.0)


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
@pytest.mark.parametrize("results", [[a_result(), a_result("tombola")], []], ids=["two", "none"])
def test_a_picture_is_written(tmp_path: Path, results: list[Result]) -> None:
    picture.draw(results, BARE, 25.0, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
