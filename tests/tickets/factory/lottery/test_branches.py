"""The controls' arithmetic: counts kept layer by layer, values kept layer by layer, chance that is seeded."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tickets.factory.lottery.branches import draw_masks, permute_survivors
from tickets.factory.lottery.masks import are_nested, full, survivors

pytestmark = [pytest.mark.torch]


def some_masks(seed: int, density: float) -> dict[str, Tensor]:
    random = np.random.default_rng(seed)
    return {name: torch.from_numpy(random.random((6, size)) < density) for name, size in (("a", 4), ("b", 7))}


@given(seed=st.integers(0, 999), density=st.floats(0, 1))
def test_random_masks_keep_the_counts_and_stay_within(seed: int, density: float) -> None:
    """As many as the ticket in every layer, none outside what was left, the same for the same seed."""
    within = some_masks(seed, 0.8)
    counts = {name: mask & some_masks(seed + 1, density)[name] for name, mask in within.items()}
    drawn = draw_masks(counts, within, np.random.default_rng(seed))
    assert survivors(drawn) == survivors(counts)
    assert are_nested(drawn, within)
    again = draw_masks(counts, within, np.random.default_rng(seed))
    assert all(torch.equal(drawn[name], again[name]) for name in drawn)


def test_every_weight_may_survive_by_chance() -> None:
    """Over many draws each of twenty-four weights survives about as often as another."""
    counts = {"a": torch.arange(24).reshape(6, 4) < 12}
    random = np.random.default_rng(0)
    often = sum(draw_masks(counts, full(counts), random)["a"].int() for _ in range(400))
    assert 140 < int(torch.as_tensor(often).min()) <= int(torch.as_tensor(often).max()) < 260


@given(seed=st.integers(0, 999), density=st.floats(0, 1))
def test_permuting_survivors_keeps_each_layer_s_values(seed: int, density: float) -> None:
    """The same multiset in the same places; what is pruned or not masked stays, and so does the original."""
    masks = some_masks(seed, density)
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(mask.shape, generator=generator) for name, mask in masks.items()}
    weights["bias"] = torch.randn(3, generator=generator)
    before = {name: value.clone() for name, value in weights.items()}
    out = permute_survivors(weights, masks, np.random.default_rng(seed))
    for name, mask in masks.items():
        assert torch.equal(out[name][~mask], weights[name][~mask])
        assert torch.equal(out[name][mask].sort().values, weights[name][mask].sort().values)
    assert torch.equal(out["bias"], weights["bias"])
    assert all(torch.equal(weights[name], before[name]) for name in weights)
