"""Predictions: what another tenant's load can do to a wait, and what is believed of a worker's figures."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.cost import FAIR_LEAD_MS, Cost
from routing.predict import MAX_SPREAD, margin, prior, wait_ms
from routing.table import FamilyTicket, WorkerView

waiting = st.dictionaries(st.sampled_from(["t1", "t2", "t3"]), st.floats(0.001, 1e3), min_size=1)


@given(waiting, st.sampled_from(["t1", "t2", "t3"]), st.floats(1.0, 1e9), st.sampled_from([0.1, 1.0, 4.0]))
def test_a_flood_delays_another_tenant_by_no_more_than_its_lead(
    queues: dict[str, float], flooder: str, flood: float, weight: float
) -> None:
    """However long the queue of others grows, work of a tenant that has nothing waiting waits for what runs and
    for FAIR_LEAD_MS of each of them."""
    quiet = view_of(queues, {})
    flooded = view_of({**queues, flooder: queues.get(flooder, 0.0) + flood}, {})
    others = len({*queues, flooder})
    before, after = (wait_ms(view, "t0", weight) for view in (quiet, flooded))
    assert after - before <= FAIR_LEAD_MS * others
    assert after <= view_of(queues, {}).running_ms + FAIR_LEAD_MS * others


@given(waiting, st.floats(0.001, 1e3), st.sampled_from([0.1, 1.0, 4.0]))
def test_a_tenant_with_a_queue_is_slowed_down_to_its_share_and_no_further(
    queues: dict[str, float], own: float, weight: float
) -> None:
    """Its own queue at its share of the worker, and the lead of the others: whatever they have waiting; and never
    more than all that waits."""
    view = view_of(queues, {"t0": own}, weight=weight)
    waits = wait_ms(view, "t0", weight) - view.running_ms
    share = own * (weight + len(queues)) / weight
    assert waits <= share + FAIR_LEAD_MS * len(queues) + 1e-6
    assert min(own, view.queued_ms) <= waits + 1e-6
    assert waits <= view.queued_ms + 1e-6


def view_of(queues: dict[str, float], own: dict[str, float], weight: float = 1.0) -> WorkerView:
    """A worker with these tenants' milliseconds waiting; the others weigh 1 each."""
    tenants = {**queues, **own}
    return WorkerView(
        name="w", running_ms=3.0, queued_ms=sum(tenants.values()), tenants=tenants,
        active_weight=len(queues) + (weight if own else 0.0),
    )  # fmt: skip


def test_where_nobody_says_whose_a_queue_is_all_of_it_is_waited_for() -> None:
    assert wait_ms(WorkerView(name="w", running_ms=1.0, queued_ms=50.0), "t0", 1.0) == 51.0


@given(st.floats(), st.floats(), st.floats(), st.floats())
def test_a_wait_is_a_time_whatever_a_worker_says(running: float, queued: float, own: float, weight: float) -> None:
    view = WorkerView(
        name="w", running_ms=running, queued_ms=queued, tenants={"t0": own, "t1": queued}, active_weight=weight
    )
    assert wait_ms(view, "t0", 1.0) >= 0.0
    assert wait_ms(view, "t2", 1.0) >= 0.0


@pytest.mark.parametrize(
    ("spread", "factor"),
    [(0.0, 1.0), (0.1, 1.2), (1.0, 3.0), (50.0, 3.0), (math.inf, 3.0), (math.nan, 3.0), (-1.0, 1.0)],
)
def test_the_margin_is_twice_how_far_off_predictions_are_within_bounds(spread: float, factor: float) -> None:
    assert margin(Cost(1.0, 0.0, 0.0, spread)) == factor
    assert factor <= 1.0 + 2.0 * MAX_SPREAD


def test_a_ticket_that_no_worker_has_measured_costs_what_the_table_says() -> None:
    """One row alone exactly; further rows half of that each, since batches save."""
    cost = prior(FamilyTicket(id="aa" * 32, tier="fast", quality=0.9, service_ms=2.0))
    assert (cost.of(1, 1e6), cost.of(9, 0.0)) == (2.0, 10.0)
