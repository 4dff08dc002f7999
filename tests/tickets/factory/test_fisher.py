"""Scores: what they say of units that do nothing, of twins, of units that are gone."""

from typing import Literal

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch

from tickets.factory.encoder import Classifier, Gates, Shape
from tickets.factory.fisher import TEMPERATURE, Scores, directions, random_scores, reversed_scores, score
from tickets.factory.shrink import Kept, cut

pytestmark = [pytest.mark.torch]

SHAPE = Shape(vocabulary=40, hidden=64, head_size=32, heads=(2, 2), neurons=(48, 48), sources=(0, 1), positions=16)
KINDS = ("fisher", "taylor")

Kind = Literal["fisher", "taylor"]


def model_of(seed: int = 3) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(SHAPE, 5).eval()


@pytest.fixture(scope="module")
def ids() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(1, 40, int(n)) for n in random.integers(3, 12, 24)]


@pytest.fixture(scope="module")
def said() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(24, 5)).astype(np.float32)


def every(scores: Scores) -> np.ndarray:
    return np.concatenate([*scores.heads, *scores.neurons, scores.sublayers.ravel(), scores.hidden])


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_that_does_nothing_has_no_score(ids: list[np.ndarray], said: np.ndarray, kind: Kind) -> None:
    """A head and a neuron whose way out is zero."""
    model = model_of()
    weights = dict(model.named_parameters())
    with torch.no_grad():
        weights["layers.0.out.weight"][:, 32:] = 0
        weights["layers.1.down.weight"][:, 7] = 0
    scores = score(model, ids, said, kind)
    assert scores.heads[0][1] == 0
    assert scores.heads[0][0] > 0
    assert scores.neurons[1][7] == 0
    assert (np.delete(scores.neurons[1], 7) > 0).all()
    assert (scores.sublayers > 0).all()
    assert (scores.hidden > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_twins_have_the_same_score(ids: list[np.ndarray], said: np.ndarray, kind: Kind) -> None:
    """Two heads, and two neurons, with the same weights."""
    model = model_of()
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for part in ("weight", "bias"):
            qkv = weights[f"layers.0.qkv.{part}"]
            for first in (0, 64, 128):  # of Q, K and V
                qkv[first + 32 : first + 64] = qkv[first : first + 32]
            weights[f"layers.1.up.{part}"][5] = weights[f"layers.1.up.{part}"][3]
        weights["layers.0.out.weight"][:, 32:] = weights["layers.0.out.weight"][:, :32]
        weights["layers.1.down.weight"][:, 5] = weights["layers.1.down.weight"][:, 3]
    scores = score(model, ids, said, kind)
    np.testing.assert_allclose(scores.heads[0][1], scores.heads[0][0], rtol=1e-4)
    np.testing.assert_allclose(scores.neurons[1][5], scores.neurons[1][3], rtol=1e-4)


def test_scores_of_what_a_layer_lacks_are_empty(ids: list[np.ndarray], said: np.ndarray) -> None:
    """No attention in one layer, no feed-forward in the other; and no layers at all."""
    child = cut(model_of(), Kept((0, 1), ((), (0,)), (tuple(range(16)), ())), "gelu")
    scores = score(child, ids, said)
    assert [len(s) for s in scores.heads] == [0, 1]
    assert [len(s) for s in scores.neurons] == [16, 0]
    assert (scores.sublayers[0, 0], scores.sublayers[1, 1]) == (0, 0)
    bare = score(cut(model_of(), Kept((), (), ()), "gelu"), ids, said)
    assert (bare.heads, bare.neurons, bare.sublayers.shape) == ((), (), (0, 2))
    assert (bare.hidden > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_is_the_sum_over_single_examples(ids: list[np.ndarray], said: np.ndarray, kind: Kind) -> None:
    """Batches change nothing: each example's gates see only its own direction."""
    model = model_of()
    parts = [every(score(model, [ids[i]], said[i : i + 1], kind)) for i in range(6)]
    np.testing.assert_allclose(every(score(model, ids[:6], said[:6], kind)), sum(parts), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_of_the_gradients_that_differences_find(ids: list[np.ndarray], said: np.ndarray, kind: Kind) -> None:
    """A head's and a hidden coordinate's gate, moved by a little."""
    model = model_of().double()
    one, step = torch.from_numpy(ids[0])[None], 1e-3  # attention is computed in fp32: smaller steps drown

    def moved(head: float, coordinate: float) -> float:
        gates = Gates(
            [torch.ones(1, 2, dtype=torch.float64) for _ in range(2)],
            [torch.ones(1, 48, dtype=torch.float64) for _ in range(2)],
            [torch.ones(1, 2, dtype=torch.float64) for _ in range(2)],
            torch.ones(1, 64, dtype=torch.float64),
        )
        gates.heads[1][0, 0], gates.hidden[0, 9] = head, coordinate
        with torch.inference_mode():
            logits = model.with_states(one, gates)[0]
        return float((logits * torch.from_numpy(said[:1])).sum())

    head = (moved(1 + step, 1) - moved(1 - step, 1)) / (2 * step)
    coordinate = (moved(1, 1 + step) - moved(1, 1 - step)) / (2 * step)
    scores = score(model_of(), ids[:1], said[:1], kind)
    wanted = (head**2, coordinate**2) if kind == "fisher" else (abs(head), abs(coordinate))
    np.testing.assert_allclose((scores.heads[1][0], scores.hidden[9]), wanted, rtol=1e-2)


def test_scoring_leaves_the_model_as_it_was(ids: list[np.ndarray], said: np.ndarray) -> None:
    """Same weights, no gradients left behind."""
    model = model_of()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score(model, ids, said)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_random_scores_are_of_the_shape_and_repeat_with_their_seed() -> None:
    """Same seed, same scores; reversing them turns every order round."""
    scores = random_scores(SHAPE, 4)
    assert np.array_equal(every(scores), every(random_scores(SHAPE, 4)))
    assert not np.array_equal(every(scores), every(random_scores(SHAPE, 5)))
    assert every(scores).shape == (2 * 2 + 2 * 48 + 4 + 64,)
    assert np.array_equal(np.argsort(every(reversed_scores(scores))), np.argsort(every(scores))[::-1])


def test_directions_have_the_covariance_of_what_the_teachers_say() -> None:
    """diag(p) - pp', which is the curvature of the distillation loss where child and teachers agree."""
    logits = np.array([[2.0, 1.0, 0.0, -4.0]], np.float32)
    drawn = directions(np.repeat(logits, 200_000, axis=0), seed=0)
    shares = np.exp(logits[0] / TEMPERATURE)
    shares /= shares.sum()
    np.testing.assert_allclose(np.cov(drawn.T), np.diag(shares) - np.outer(shares, shares), atol=4e-3)
    np.testing.assert_allclose(drawn.sum(axis=1), 0, atol=1e-5)


def test_a_model_that_agrees_with_its_teachers_has_scores(ids: list[np.ndarray]) -> None:
    """The gradient of the distillation loss vanishes there and would rank noise."""
    model = model_of()
    with torch.inference_mode():
        said = np.concatenate([model(torch.from_numpy(one)[None])[0].numpy() for one in ids])
    weights = dict(model.named_parameters())
    with torch.no_grad():
        weights["layers.1.down.weight"][:, 7] *= 30
        weights["layers.1.down.weight"][:, 8] /= 30
    scores = score(model, ids, directions(said, 0))
    assert scores.neurons[1].argmax() == 7
    assert scores.neurons[1].argmin() == 8
