"""Cuts: the child with everything is the parent, what does nothing can go, controls have the ticket's counts."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tickets.factory.encoder import Classifier, Layer, Shape, parameters
from tickets.factory.fisher import random_scores, reversed_scores
from tickets.factory.shrink import Kept, choose_counts, cut

pytestmark = [pytest.mark.torch]

SHAPE = Shape(vocabulary=40, hidden=64, head_size=16, heads=(3, 2), neurons=(24, 32), sources=(1, 4), positions=16)
EVERYTHING = Kept((0, 1), ((0, 1, 2), (0, 1)), (tuple(range(24)), tuple(range(32))))
BATCH = torch.tensor([[5, 9, 3, 7], [8, 2, 0, 0], [1, 39, 6, 0]])


def parent_of(shape: Shape = SHAPE) -> Classifier:
    torch.manual_seed(3)
    return Classifier(shape, 5).eval()


def answer(model: Classifier) -> torch.Tensor:
    with torch.inference_mode():
        logits, _ = model.eval()(BATCH)
    return torch.as_tensor(logits)


@st.composite
def structures(draw: st.DrawFn) -> Kept:
    """Any structure of SHAPE: a layer keeps some heads or some neurons, or both."""
    layers, heads, neurons = [], [], []
    for i in range(SHAPE.layers):
        some_heads = draw(st.sets(st.integers(0, SHAPE.heads[i] - 1)))
        some_neurons = draw(st.sets(st.integers(0, SHAPE.neurons[i] - 1), max_size=4))
        if some_heads or some_neurons:
            layers.append(i)
            heads.append(tuple(sorted(some_heads)))
            neurons.append(tuple(sorted(some_neurons)))
    return Kept(tuple(layers), tuple(heads), tuple(neurons))


def test_a_cut_that_keeps_everything_is_the_parent() -> None:
    """To the last bit: the weights are the same."""
    parent = parent_of()
    child = cut(parent, EVERYTHING, "gelu")
    assert child.shape == parent.shape
    assert torch.equal(answer(child), answer(parent))


@given(structures())
@settings(max_examples=12, deadline=None)
def test_a_child_has_what_was_kept_and_nothing_else(kept: Kept) -> None:
    """Its counts and sources are those of ``kept``, its weights as many as its shape says, its answers finite."""
    child = cut(parent_of(), kept, "gelu")
    assert child.shape.heads == tuple(map(len, kept.heads))
    assert child.shape.neurons == tuple(map(len, kept.neurons))
    assert child.shape.sources == tuple(SHAPE.sources[i] for i in kept.layers)
    assert sum(p.numel() for p in child.parameters()) == parameters(child.shape, 5)
    assert answer(child).isfinite().all()


@given(structures())
@settings(max_examples=12, deadline=None)
def test_what_puts_nothing_back_can_go(kept: Kept) -> None:
    """Heads and neurons whose way out is zero: without them the parent computes the same, as long as one is left."""
    parent = parent_of()
    weights = dict(parent.named_parameters())
    with torch.no_grad():
        for i, heads, neurons in zip(kept.layers, kept.heads, kept.neurons, strict=True):
            for head in set(range(SHAPE.heads[i])) - set(heads) if heads else ():
                weights[f"layers.{i}.out.weight"][:, head * 16 : (head + 1) * 16] = 0
            for neuron in set(range(SHAPE.neurons[i])) - set(neurons) if neurons else ():
                weights[f"layers.{i}.down.weight"][:, neuron] = 0
    whole = dict(zip(kept.layers, zip(kept.heads, kept.neurons, strict=True), strict=True))
    silent = Kept(
        (0, 1),
        tuple(whole.get(i, ((), ()))[0] or EVERYTHING.heads[i] for i in (0, 1)),
        tuple(whole.get(i, ((), ()))[1] or EVERYTHING.neurons[i] for i in (0, 1)),
    )
    torch.testing.assert_close(answer(cut(parent, silent, "gelu")), answer(parent), atol=1e-5, rtol=0)


def test_a_sub_layer_without_units_is_gone_with_its_residual_and_norm() -> None:
    """The child has no weights of it, and the other sub-layer works on the layer's input."""
    parent = parent_of()
    child = cut(parent, Kept((1,), ((),), (tuple(range(32)),)), "gelu")
    names = {name.split(".")[2] for name in child.state_dict() if name.startswith("layers.")}
    assert names == {"up", "down", "norm2"}
    layer = parent.layers[1]
    assert isinstance(layer, Layer)
    with torch.inference_mode():
        x = parent.embeddings(BATCH)
        fed = layer.norm2(x + layer.down(torch.nn.functional.gelu(layer.up(x))))
        keep = (BATCH != 0).float()[:, :, None]
        wanted = parent.head((fed * keep).sum(1) / keep.sum(1))
    torch.testing.assert_close(answer(child), wanted, atol=1e-5, rtol=0)


def test_what_a_parent_lacks_its_child_lacks_too() -> None:
    """A parent without attention in one layer and without feed-forward in the other can be cut again."""
    parent = parent_of(replace(SHAPE, heads=(0, 2), neurons=(24, 0)))
    same = Kept((0, 1), ((), (0, 1)), (tuple(range(24)), ()))
    assert torch.equal(answer(cut(parent, same, "gelu")), answer(parent))
    smaller = cut(parent, Kept((0, 1), ((), (1,)), ((3, 5), ())), "gelu")
    assert (smaller.shape.heads, smaller.shape.neurons) == ((0, 1), (2, 0))
    assert answer(smaller).isfinite().all()


@given(structures(), st.integers(0, 9))
@settings(deadline=None)
def test_controls_have_the_ticket_s_counts(kept: Kept, seed: int) -> None:
    """The same layers and as many units in each, distinct and in order, whatever the scores."""
    for scores in (random_scores(SHAPE, seed), reversed_scores(random_scores(SHAPE, seed))):
        other = choose_counts(kept, scores)
        assert other.layers == kept.layers
        for mine, its in ((kept.heads, other.heads), (kept.neurons, other.neurons)):
            assert [len(units) for units in its] == [len(units) for units in mine]
            assert all(list(units) == sorted(set(units)) for units in its)


def test_the_worst_are_those_that_the_best_are_not() -> None:
    """Half of the neurons by scores, and by reversed scores, are all of them."""
    scores = random_scores(SHAPE, 2)
    kept = Kept((0, 1), ((0,), (0,)), (tuple(range(12)), tuple(range(16))))
    best, worst = choose_counts(kept, scores), choose_counts(kept, reversed_scores(scores))
    for i in (0, 1):
        assert set(best.heads[i]).isdisjoint(worst.heads[i])
        assert set(best.neurons[i]) | set(worst.neurons[i]) == set(EVERYTHING.neurons[i])
    assert best.heads[0] == (int(np.argmax(scores.heads[0])),)
