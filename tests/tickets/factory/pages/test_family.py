"""Who is who in a family, and which of them nothing cheaper beats."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tickets.factory.pages import examples
from tickets.factory.pages.family import family_of, pareto
from tickets.factory.pages.ink import spread_out
from tickets.factory.pages.lottery_plots import levels_of
from tickets.factory.pages.structure_plot import skeleton
from tickets.factory.pages.ticket_plots import worst_classes
from tickets.factory.pages.transfer_plots import accuracies, against_own

pytestmark = [pytest.mark.torch]

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


def test_models_are_sorted_by_their_names() -> None:
    family = family_of(examples.found())
    roles = {model.name: model.role for model in family.models}
    assert roles["dense-parent"] == "dense"
    assert roles["banking-fast"] == "ticket"
    assert roles["banking-fast-random"] == "control"
    assert roles["zero-layer-control"] == roles["tf-idf-linear-svm"] == "baseline"
    assert family.control_kinds == ["random", "worst", "reinit"]
    assert [model.tier for model in family.controls("worst")] == ["accurate", "balanced", "fast", "instant"]


def test_a_tier_whose_name_begins_another_is_not_taken_for_its_control() -> None:
    result = {"domain": "a", "tiers": [{"tier": "fast"}, {"tier": "fast-er"}],
              "models": {"a-fast": {}, "a-fast-er": {}, "a-fast-er-random": {}, "a-fast-random": {}}}  # fmt: skip
    found = {model.name: (model.role, model.tier, model.control) for model in family_of(result).models}
    assert found["a-fast-er"] == ("ticket", "fast-er", "")
    assert found["a-fast-er-random"] == ("control", "fast-er", "random")
    assert found["a-fast-random"] == ("control", "fast", "random")


def test_an_untimed_control_costs_what_its_ticket_costs() -> None:
    family = family_of(examples.found())
    control, ticket = family.named("banking-fast-random"), family.named("banking-fast")
    assert control is not None
    assert ticket is not None
    assert family.cost_ms(control) == ticket.text_ms == pytest.approx(1000 / 4490)


@given(POINTS)
def test_the_front_is_what_no_other_beats(points: list[tuple[int, int]]) -> None:
    front = pareto(points)
    beaten = [i for i, (cost, quality) in enumerate(points)
              if any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points)]  # fmt: skip
    assert {points[i] for i in front} == {p for i, p in enumerate(points) if i not in beaten}
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_labels_keep_their_order_and_their_distance(places: list[float]) -> None:
    found = spread_out(places, 0.1, 0.05, 0.95)
    order = sorted(range(len(places)), key=lambda i: places[i])
    assert all(found[b] - found[a] >= 0.1 - 1e-9 for a, b in pairwise(order))
    assert all(0.05 - 1e-9 <= place <= 0.95 + 1e-9 for place in found)


def test_a_structure_stands_at_its_layers_places_in_the_backbone() -> None:
    found = skeleton({"hidden": 8, "heads": [2, 3], "ffn_neurons": [4, 0], "layers": [1, 3], "vocabulary": 5}, 4)
    assert found is not None
    assert found.layers == ((0.0, 0.0), (2.0, 4.0), (0.0, 0.0), (3.0, 0.0))
    assert skeleton(None) is None
    assert skeleton({"heads": [1], "ffn_neurons": []}) is None
    empty = skeleton({"heads": [], "ffn_neurons": [], "layers": []}, 2)
    assert empty is not None
    assert empty.layers == ((0.0, 0.0), (0.0, 0.0))


def test_the_classes_that_lost_most_come_first() -> None:
    worst = worst_classes(family_of(examples.found()))
    drops = [max(by_tier.values()) for _, by_tier in worst]
    assert drops == sorted(drops, reverse=True)
    assert all(drop > 0 for drop in drops)


def test_levels_without_a_density_are_left_out() -> None:
    assert [level.density for level in levels_of({"levels": [{"density": 0.5}, {}, {"density": 1.0}, "x"]})] == [
        1.0,
        0.5,
    ]


def test_distances_are_to_the_columns_own_mask() -> None:
    grid = accuracies({"domains": ["a", "b"], "accuracy": [[0.9, 0.7], [0.8, None]]})
    assert grid == [[0.9, 0.7], [0.8, None]]
    assert against_own(grid, grid) == [[0.0, None], [pytest.approx(-10.0), None]]
