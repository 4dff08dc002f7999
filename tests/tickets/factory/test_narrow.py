"""Narrow encoders: all coordinates are the parent, fewer are the chosen ones."""

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch

from tickets.factory.encoder import Classifier, Shape, parameters
from tickets.factory.fisher import random_scores
from tickets.factory.narrow import choose_hidden, narrow, project
from tickets.factory.shrink import Kept, cut

pytestmark = [pytest.mark.torch]

SHAPE = Shape(vocabulary=40, hidden=64, head_size=16, heads=(3, 2), neurons=(24, 32), sources=(0, 1), positions=16)
SHAPES = {
    "whole": SHAPE,
    "narrow word table": replace(SHAPE, rank=8),
    "sub-layers gone": replace(SHAPE, heads=(0, 2), neurons=(24, 0)),
    "no layers": replace(SHAPE, heads=(), neurons=(), sources=()),
}
BATCH = torch.tensor([[5, 9, 3, 7], [8, 2, 0, 0], [1, 39, 6, 0]])


def parent_of(shape: Shape) -> Classifier:
    """Random, norms included."""
    torch.manual_seed(3)
    model = Classifier(shape, 5).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name or name == "embeddings.position":
                value.add_(0.3 * torch.randn_like(value))
    return model


def answer(model: Classifier) -> torch.Tensor:
    with torch.inference_mode():
        logits, _ = model.eval()(BATCH)
    return torch.as_tensor(logits)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_all_coordinates_are_the_parent(shape: Shape) -> None:
    """In their order to the last bit, in another one nearly."""
    parent = parent_of(shape)
    torch.testing.assert_close(answer(narrow(parent, tuple(range(64)))), answer(parent), atol=1e-6, rtol=0)
    turned = project(parent, torch.eye(64)[:, torch.randperm(64)])
    torch.testing.assert_close(answer(turned), answer(parent), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_narrow_encoder_is_as_large_as_its_shape_says(shape: Shape) -> None:
    """The hidden width alone is other, it runs, and what was cut from it runs."""
    child = narrow(parent_of(shape), choose_hidden(random_scores(shape, 1), 32))
    assert child.shape == replace(shape, hidden=32)
    assert sum(p.numel() for p in child.parameters()) == parameters(child.shape, 5)
    assert answer(child).isfinite().all()
    assert answer(cut(child, Kept((), (), ()), "gelu")).isfinite().all()


def test_word_rows_norms_and_products_keep_the_same_coordinates() -> None:
    """Every matrix has the columns or rows that were chosen."""
    parent, keep = parent_of(SHAPE), (1, 2, 40, 63)
    index = torch.tensor(keep)
    old, new = parent.state_dict(), narrow(parent, keep).state_dict()
    for name in ("embeddings.word.weight", "embeddings.position", "layers.1.qkv.weight", "layers.1.up.weight"):
        assert torch.equal(new[name], old[name][:, index])
    for name in ("layers.1.out.weight", "layers.0.down.bias", "layers.0.norm1.weight", "embeddings.norm.bias"):
        assert torch.equal(new[name], old[name][index])
    for name in ("layers.1.qkv.bias", "layers.0.up.bias", "head.bias"):
        assert torch.equal(new[name], old[name])


def test_the_best_scored_coordinates_stay() -> None:
    """And no more than there are."""
    scores = random_scores(SHAPE, 1)
    keep = choose_hidden(scores, 32)
    assert list(keep) == sorted(set(keep))
    assert min(scores.hidden[list(keep)]) == sorted(scores.hidden)[-32]
    for width in (0, 65):
        with pytest.raises(ValueError, match=f"cannot keep {width} of 64"):
            choose_hidden(scores, width)
