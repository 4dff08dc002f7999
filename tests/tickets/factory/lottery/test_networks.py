"""The lottery's networks: what can be pruned, what they learn from, and courses cut at a step."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch

from tests.tickets.factory.lottery.tiny import EPOCHS, STEPS, STEPS_PER_EPOCH, digits_network, texts_network
from tickets.factory.backbone import Backbone
from tickets.factory.compute import Compute
from tickets.factory.loop import Watch, run, total_steps
from tickets.factory.lottery.digits import NETWORKS, DigitsNetwork, load_images
from tickets.factory.lottery.networks import beginning_at, epoch_ends, rewind_step, steps_per_epoch, until
from tickets.factory.lottery.step import Step

pytestmark = [pytest.mark.torch]


def test_the_digits_are_split_once_and_for_all() -> None:
    """Every image in one split, all ten classes in each, pixels from 0 to 1, the same whenever they are loaded."""
    images = load_images()
    assert {name: len(targets) for name, (_, targets) in images.splits.items()} == {
        "train": 997, "validation": 300, "test": 500,
    }  # fmt: skip
    for pixels, targets in images.splits.values():
        assert pixels.shape == (len(targets), 1, 8, 8)
        assert set(targets.tolist()) == set(range(10))
        assert (pixels.min(), pixels.max()) == (0, 1)
    assert load_images().digest() == images.digest()


@pytest.mark.parametrize(("name", "weights"), [("mlp", 50_200), ("convnet", 23_568)])
def test_small_networks_may_lose_all_their_weights_and_no_bias(name: str, weights: int) -> None:
    """LeNet-300-100 and Conv-2, scaled to 8 x 8 pixels."""
    make, recipe = NETWORKS[name]
    network = DigitsNetwork(name, recipe, make)
    state = network.build(0).state_dict()
    assert sum(state[one].numel() for one in network.prunable()) == weights
    assert set(state) - set(network.prunable()) == {one for one in state if one.endswith("bias")}
    assert not any(state[one].any() for one in state if one.endswith("bias"))


def test_a_seed_is_a_network() -> None:
    """The same seed gives the same weights, another seed others; reinit is another start of the same network."""
    network = digits_network()
    one, again, other = (network.build(seed).state_dict()["1.weight"] for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(network.reinit(4).state_dict()["1.weight"], other)


def test_the_mlp_learns_the_digits(tmp_path: Path) -> None:
    """Ten epochs are enough for nine of ten."""
    torch.set_num_threads(1)
    make, recipe = NETWORKS["mlp"]
    network = DigitsNetwork("mlp", replace(recipe, epochs=10), make)
    model = network.build(0)
    before = network.examine(model, "test", Compute())
    run(model, network.course(0), Compute(), Watch(tmp_path))
    after = network.examine(model, "test", Compute())
    assert before.accuracy < 0.3 < 0.9 < after.accuracy
    assert after.loss < before.loss


def test_what_a_result_depends_on_is_described() -> None:
    """Another recipe or another architecture is another description; the same is the same."""
    first = digits_network().described()
    assert digits_network().described() == first
    assert digits_network(learning_rate=1e-3).described() != first
    make, recipe = NETWORKS["mlp"]
    assert DigitsNetwork("small", recipe, make).described()["shapes"] != first["shapes"]


def test_the_transformer_loses_matrices_and_nothing_else(backbone: Backbone, data_file: Path) -> None:
    """Attention and feed-forward; embeddings, norms, biases and the head stay dense."""
    network = texts_network(backbone, data_file)
    assert len(network.prunable()) == 4 * backbone.layers
    state = network.build(0).state_dict()
    for name in set(state) - set(network.prunable()):
        assert name.startswith(("embeddings.", "head.")) or state[name].ndim == 1, name
    assert network.described()["labels"] == ["open_door", "play_song", "set_alarm"]


def test_the_transformer_starts_pretrained_and_its_reinit_does_not(backbone: Backbone, data_file: Path) -> None:
    """Step 0 is the backbone's weights with a seeded head; re-initialised, none of them is left."""
    network = texts_network(backbone, data_file)
    built, other, fresh = network.build(0).state_dict(), network.build(1).state_dict(), network.reinit(0).state_dict()
    for name in network.prunable():
        assert torch.equal(built[name], backbone.weights[name])
        assert torch.equal(built[name], other[name])
        assert not (fresh[name] == backbone.weights[name]).any()
        assert 0.015 < fresh[name].std() < 0.025
    assert not torch.equal(built["head.weight"], other["head.weight"])
    assert torch.equal(fresh["layers.0.norm1.weight"], torch.ones(backbone.hidden))
    assert not fresh["layers.0.norm1.bias"].any()


def test_the_transformer_learns_in_scope_texts_only(backbone: Backbone, data_file: Path, tmp_path: Path) -> None:
    """No logit for out of scope; every test text of the three labels is examined."""
    torch.set_num_threads(1)
    network = texts_network(backbone, data_file)
    model = network.build(0)
    assert model.state_dict()["head.bias"].shape == (3,)
    before = network.examine(model, "validation", Compute())
    run(model, network.course(0), Compute(), Watch(tmp_path))
    assert network.examine(model, "validation", Compute()).loss < before.loss
    assert len(network.examine(model, "test", Compute()).hits) == 24


STEPS_TO_CUT = [1, 4, 5, 6, 10, 14, 15]


@pytest.mark.parametrize("step", STEPS_TO_CUT)
def test_a_course_cut_at_a_step_and_its_rest_are_the_course(step: int) -> None:
    """Together the same batches at the same rates, in the same order."""
    course = digits_network().course(0)
    head, rest = until(course, step), beginning_at(course, step)
    assert total_steps(head) == step
    whole = [index for epoch in range(EPOCHS) for index in course.batches(epoch)]
    first = [index for epoch in range(head.epochs) for index in head.batches(epoch)]
    assert all(np.array_equal(one, other) for one, other in zip(first, whole, strict=False))
    assert [head.scale(at, step) for at in range(step)] == [course.scale(at, STEPS) for at in range(step)]
    assert rest.first_step == step
    assert epoch_ends(rest) == [end for end in (5, 10, 15) if end > step]


def test_a_flat_course_has_the_last_rate_throughout() -> None:
    """A tenth, for the digits; a tenth of the highest for the transformer, whose schedule falls."""
    flat = beginning_at(digits_network().course(0), 0, is_flat=True)
    assert {flat.scale(at, STEPS) for at in range(STEPS)} == {0.1}


def test_steps_are_resolved_against_the_course() -> None:
    """Epochs have five steps here; the end of the course is too late."""
    course = digits_network().course(0)
    assert steps_per_epoch(course) == STEPS_PER_EPOCH
    assert rewind_step(course, Step(2, 3)) == 13
    with pytest.raises(ValueError, match="choose an earlier one"):
        rewind_step(course, Step(3))


def test_the_transformer_s_rate_rises_and_falls_to_its_floor(backbone: Backbone, data_file: Path) -> None:
    """From a share of the highest to it, then down to a tenth, never zero."""
    course = texts_network(backbone, data_file).course(0)
    rates = [course.scale(at, 100) for at in range(100)]
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.1 < rates[-1] < 0.12
