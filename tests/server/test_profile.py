"""The profile: the line is found again, never slopes downwards, and follows the host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.cost import Cost
from server.profile import MIN_SPREAD, PRIOR, Correction, Profiles, fit

SHAPES = [(1, 8), (1, 32), (8, 16), (16, 24)]

milliseconds = st.floats(0.01, 50.0)
parts = st.one_of(st.just(0.0), st.floats(0.001, 20.0))


@given(parts, parts, parts)
def test_measurements_without_noise_give_the_line_back(fixed_ms: float, row_ms: float, unit_ms: float) -> None:
    true = Cost(fixed_ms, row_ms, unit_ms)
    points = [(rows, size, true.of(rows, size)) for rows, size in SHAPES]
    if min(ms for *_, ms in points) < 0.01:
        return
    found = fit(points)
    assert found.spread == MIN_SPREAD
    for rows, size in [*SHAPES, (32, 64), (4, 12)]:
        assert found.of(rows, size) == pytest.approx(true.of(rows, size), rel=1e-3)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(1, 512), milliseconds), min_size=1, max_size=8))
def test_whatever_was_measured_more_rows_and_longer_ones_never_cost_less(
    points: list[tuple[int, float, float]],
) -> None:
    found = fit(points)
    assert min(found.fixed_ms, found.row_ms, found.unit_ms) >= 0
    assert found.of(1, 1) <= found.of(2, 1) <= found.of(2, 9)
    assert found.of(points[0][0], points[0][1]) > 0
    assert found.spread >= MIN_SPREAD


@given(st.lists(st.floats(0.8, 1.25), min_size=4, max_size=4))
def test_noise_of_a_fifth_moves_predictions_of_the_measured_shapes_little(noise: list[float]) -> None:
    true = Cost(0.3, 0.1, 0.01)
    points = [(rows, size, true.of(rows, size) * by) for (rows, size), by in zip(SHAPES, noise, strict=True)]
    found = fit(points)
    for rows, size in SHAPES:
        assert 0.6 < found.of(rows, size) / true.of(rows, size) < 1.6


def test_a_lone_row_counts_as_much_as_a_full_batch() -> None:
    """Plain least squares would miss the short measurement by far: the long one decides."""
    found = fit([(1, 8, 0.5), (1, 8, 0.5), (32, 8, 10.0), (32, 8, 14.0)])
    assert found.of(1, 8) == pytest.approx(0.5, rel=0.05)


def test_one_point_is_a_line_and_none_is_an_error() -> None:
    assert fit([(4, 16, 2.0)]).of(4, 16) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="at least one measurement"):
        fit([])


def test_the_factor_arrives_where_the_host_is_and_the_spread_at_what_is_left() -> None:
    cost = Cost(1.0, 0.1, 0.01, 0.1)
    correction = Correction(cost)
    for _ in range(100):
        correction.learn(2.0 * cost.of(8, 16) / correction.of(cost).of(8, 16))
    assert correction.of(cost).of(8, 16) == pytest.approx(2.0 * cost.of(8, 16), rel=0.01)
    assert correction.spread == pytest.approx(MIN_SPREAD, abs=0.01)


def test_a_guess_is_replaced_within_a_few_batches() -> None:
    correction = Correction(PRIOR)
    for _ in range(6):
        correction.learn(3.0 / correction.factor)
    assert correction.factor == pytest.approx(3.0, rel=0.25)


def test_one_interrupted_batch_changes_little() -> None:
    correction = Correction(Cost(1.0, 0.1, 0.01, 0.1))
    for _ in range(50):
        correction.learn(1.0)
    correction.learn(1000.0)
    assert correction.factor < 1.2
    assert correction.spread < 0.3


@given(st.lists(st.floats(0.0, 1e6), max_size=200))
def test_whatever_is_measured_the_factor_stays_positive_and_finite(ratios: list[float]) -> None:
    correction = Correction(Cost(1.0, 0.1, 0.01, 0.1))
    for ratio in ratios:
        correction.learn(ratio / correction.factor)
        assert 0 < correction.factor < float("inf")
        assert MIN_SPREAD <= correction.spread <= 3.0


def test_it_is_news_once_when_it_moves_by_more_than_a_tenth() -> None:
    correction = Correction(Cost(1.0, 0.1, 0.01, 0.2))
    correction.learn(1.05)
    assert not correction.is_news()
    for _ in range(20):
        correction.learn(1.1)
    assert correction.is_news()
    assert not correction.is_news()


def slowed(factor: float, *tickets: str) -> Profiles:
    """Tickets of 1 ms that have run ``factor`` times as long for a while."""
    profiles = Profiles()
    for ticket in tickets:
        profiles.know(ticket, Cost(1.0, 0.0, 0.0, 0.2))
        for _ in range(100):
            profiles.learn(ticket, factor / profiles.cost(ticket).fixed_ms)
    profiles.news()
    return profiles


def test_a_ticket_that_is_not_asked_any_more_gets_another_chance() -> None:
    """Too slow for every deadline once, it would never run again, and so never be found to be fast again: after
    about 2 s its cost goes back to what was measured when it was loaded, and gateways are told on the way.
    """
    profiles = slowed(8.0, "k")
    told = []
    for _ in range(60):
        told += [correction.factor for correction in profiles.news().values()]
    assert profiles.cost("k").fixed_ms == 1.0
    assert profiles.cost("k").spread == 0.2
    assert len(told) > 3
    assert told == sorted(told, reverse=True)
    assert told[-1] < 1.12


def test_what_runs_keeps_its_correction() -> None:
    """However rarely, if it does within the 2 s."""
    profiles = slowed(4.0, "k")
    for call in range(100):
        if call % 7 == 0:
            profiles.learn("k", 4.0 / profiles.cost("k").fixed_ms)
        profiles.news()
    assert profiles.cost("k").fixed_ms == pytest.approx(4.0, rel=0.05)


def test_a_ticket_that_is_still_slow_is_known_to_be_within_a_few_batches() -> None:
    """Not only after as many as it took to trust the correction at first."""
    profiles = slowed(8.0, "k")
    for _ in range(60):
        profiles.news()
    for _ in range(8):
        profiles.learn("k", 8.0 / profiles.cost("k").fixed_ms)
    assert profiles.cost("k").fixed_ms > 4.0


def test_a_correction_that_has_worn_off_costs_nothing_more_and_a_ticket_that_went_is_forgotten() -> None:
    profiles = slowed(2.0, "k", "gone")
    profiles.forget("gone")
    for _ in range(60):
        profiles.news()
    assert profiles.news() == {}
    assert not profiles._corrected
