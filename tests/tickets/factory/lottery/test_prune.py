"""Pruning by magnitude: exact counts, the smallest first, nothing else touched, no layer emptied."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tickets.factory.lottery.masks import are_nested, full, survivors
from tickets.factory.lottery.prune import Scope, prune

pytestmark = [pytest.mark.torch]


def weights(seed: int, *sizes: int, grain: float = 0.0) -> dict[str, Tensor]:
    """Layers of normal weights; with a grain, rounded to it, so that many are equal."""
    random = np.random.default_rng(seed)
    out = {}
    for i, size in enumerate(sizes):
        values = random.normal(size=(size, 3)).astype(np.float32)
        out[f"l{i}"] = torch.from_numpy(np.round(values / grain) * grain if grain else values)
    return out


CASES = {
    "seed": st.integers(0, 999), "sizes": st.lists(st.integers(2, 9), min_size=1, max_size=4),
    "fraction": st.floats(0.05, 0.9), "grain": st.sampled_from([0.0, 0.5]),
    "scope": st.sampled_from(["global", "layer"]),
}  # fmt: skip


@given(**CASES)
def test_what_survives_is_no_smaller_than_what_goes(
    seed: int, sizes: list[int], fraction: float, grain: float, scope: Scope
) -> None:
    """Masks nest, counts are exact, and apart from the last weight of a layer nothing smaller outlives anything."""
    values = weights(seed, *sizes, grain=grain)
    before = prune(values, full(values), 0.3, scope).masks
    after = prune(values, before, fraction, scope)
    assert are_nested(after.masks, before)
    for names in [list(values)] if scope == "global" else [[name] for name in values]:
        alive = sum(survivors(before)[name] for name in names)
        left = sum(survivors(after.masks)[name] for name in names)
        assert left == max(alive - round(fraction * alive), len(names))
        gone = [values[n].abs()[before[n] & ~after.masks[n]] for n in names]
        kept = [values[n].abs()[after.masks[n]] for n in names if survivors(after.masks)[n] > 1]
        if kept and sum(map(len, gone)):
            assert torch.cat(gone).max() <= torch.cat(kept).min()


def test_global_and_layer_wise_differ_where_layers_do() -> None:
    """A layer of small weights loses most globally, and its share when each layer counts for itself."""
    values = {"small": torch.arange(1.0, 11.0) / 100, "large": torch.arange(1.0, 11.0)}
    assert survivors(prune(values, full(values), 0.4, "global").masks) == {"small": 2, "large": 10}
    assert survivors(prune(values, full(values), 0.4, "layer").masks) == {"small": 6, "large": 6}


def test_of_equal_weights_the_first_goes_first() -> None:
    """By the order of layers, then of entries: the same on any machine."""
    values = {"a": torch.tensor([2.0, -1.0, 1.0]), "b": torch.tensor([1.0, 3.0, -1.0])}
    masks = prune(values, full(values), 0.5, "global").masks
    assert masks["a"].tolist() == [True, False, False]
    assert masks["b"].tolist() == [False, True, True]


def test_a_layer_is_never_emptied_and_that_is_said() -> None:
    """Its largest weight stays, another layer's goes instead."""
    values = {"tiny": torch.tensor([0.1, 0.3, 0.2]), "big": torch.arange(1.0, 8.0)}
    pruned = prune(values, full(values), 0.5, "global")
    assert pruned.masks["tiny"].tolist() == [False, True, False]
    assert survivors(pruned.masks) == {"tiny": 1, "big": 4}
    assert pruned.spared == ("tiny",)
    assert prune(values, full(values), 0.2, "global").spared == ()


def test_unprunable_parameters_do_not_count() -> None:
    """Weights that the masks do not name neither go nor change how many go."""
    values = {"w": torch.arange(1.0, 11.0), "bias": torch.zeros(100)}
    pruned = prune(values, {"w": torch.ones(10, dtype=torch.bool)}, 0.5, "global")
    assert survivors(pruned.masks) == {"w": 5}


def test_pruned_weights_are_not_pruned_again() -> None:
    """Zeros in pruned places do not use up the share; a weight that became zero and survives is the first to go."""
    values = {"w": torch.tensor([0.0, 0.0, 5.0, 4.0, 0.0, 3.0])}
    masks = {"w": torch.tensor([False, False, True, True, True, True])}
    assert prune(values, masks, 0.5, "global").masks["w"].tolist() == [False, False, True, True, False, False]


def test_weights_that_diverged_are_refused() -> None:
    values = {"w": torch.tensor([1.0, float("nan")])}
    with pytest.raises(ValueError, match="training diverged"):
        prune(values, full(values), 0.5, "global")
