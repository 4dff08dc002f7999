"""Fine-tuning under quantization: torch computes what the int8 graph does, and learns back what rounding cost."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tickets.factory.compute import Compute, host_isa
from tickets.factory.data import Examples
from tickets.factory.encoder import Classifier, Shape
from tickets.factory.graph import WEIGHT_LIMIT, Isa, build_fp32, build_int8
from tickets.factory.loop import Watch
from tickets.factory.qat import finetune, is_better, needs_qat, quantized, round_through
from tickets.factory.quantize import calibrate, matrices
from tickets.factory.tokens import pad
from tickets.factory.train import Corpus, Recipe, predict
from tickets.reference import open_graph

pytestmark = [pytest.mark.torch]

SHAPE = Shape(vocabulary=80, hidden=32, head_size=8, heads=(2, 3), neurons=(16, 24), sources=(0, 1), positions=24)
SHAPES = {
    "gelu": SHAPE,
    "relu": replace(SHAPE, activation="relu"),
    "narrow words": replace(SHAPE, rank=12),
    "sub-layers gone": replace(SHAPE, heads=(0, 2), neurons=(16, 0)),
    "no layers": replace(SHAPE, heads=(), neurons=(), sources=(), rank=12),
}
RECIPE = Recipe(epochs=2, learning_rate=2e-3, batch=16, distil_weight=0.9, vector_weight=1.0)


def opinionated(shape: Shape) -> Classifier:
    """A model whose activations spread and whose logits differ."""
    torch.manual_seed(5)
    model = Classifier(shape, 4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(4 if name == "head.weight" else 1.5)
    return model.eval()


def texts(count: int = 96) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.integers(1, SHAPE.vocabulary, n) for n in random.integers(3, 20, count)]


def in_runtime(graph: bytes, ids: list[np.ndarray]) -> np.ndarray:
    (logits,) = open_graph(graph, 1).run(None, {"input_ids": pad(ids).astype(np.int32)})
    return np.asarray(logits)


def weights_of(model: Classifier) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def corpus(model: Classifier, ids: list[np.ndarray]) -> Corpus:
    said = predict(model, ids)
    targets = said.logits.argmax(axis=1).astype(np.int64)
    return Corpus(Examples(tuple(str(i) for i in range(len(ids))), targets, ("in",) * len(ids)), ids, said)


@pytest.mark.parametrize("isa", sorted({"avx2", host_isa()}))
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_torch_computes_what_the_int8_graph_computes(shape: Shape, isa: Isa) -> None:
    """Far closer to ONNX Runtime's int8 answers than fp32 is, and with the same labels; made for any CPU, and for this
    machine's.
    """
    model, ids = opinionated(shape), texts()
    ranges, weights = calibrate(model, ids, 0), weights_of(model)
    served = in_runtime(build_int8(shape, weights, ranges, isa), ids)
    whole = in_runtime(build_fp32(shape, weights), ids)
    with quantized(model, ranges, WEIGHT_LIMIT[isa]), torch.inference_mode():
        ours = model(torch.from_numpy(pad(ids)))[0].numpy()
    assert np.abs(ours - served).mean() < 0.1 * np.abs(whole - served).mean()
    # What is left are values that lie on the border of two steps, which another order of additions tips over.
    assert np.abs(ours - served).max() < 0.01 * np.ptp(served)
    np.testing.assert_array_equal(ours.argmax(axis=1), served.argmax(axis=1))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_model_leaves_as_it_came(shape: Shape) -> None:
    """Weights, names and hooks are as before, also after an error inside."""
    model, ids = opinionated(shape), texts()
    before, ranges = weights_of(model), calibrate(model, ids, 0)
    with pytest.raises(RuntimeError, match="stopped"), quantized(model, ranges):
        raise RuntimeError("stopped")
    after = weights_of(model)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_rounding_is_passed_over_backwards_and_clipping_is_not() -> None:
    """Straight-through: the gradient is that of the identity inside the range and zero outside."""
    x = torch.tensor([0.4, 1.6, -2.5], requires_grad=True)
    round_through(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0, 1.0]

    model, ids = opinionated(SHAPE), texts(8)
    clipped = {name: replace(r, scale=1e-9, zero_point=0) for name, r in calibrate(model, ids, 0).items()}
    with quantized(model, clipped):
        _, vectors = model(torch.from_numpy(pad(ids)))
        vectors.square().sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if name.startswith("layers.")}
    # Every input is clipped to nearly nothing: what is multiplied with it hardly gets a gradient.
    weights = [gradient for name, gradient in gradients.items() if name.endswith("weight.original")]
    assert len(weights) == 8
    assert all(gradient is not None and gradient.abs().max() < 1e-4 for gradient in weights)


def test_the_weights_limit_is_that_of_the_products_alone() -> None:
    """Matrices have at most 2 x 64 + 1 steps per row; rows that are only looked up keep all of theirs."""
    model, ids = opinionated(replace(SHAPE, hidden=320, head_size=160)), texts(4)
    with quantized(model, calibrate(model, ids, 0), weight_limit=64):
        weight, words = dict(matrices(model))["layers.0.qkv"].weight, model.embeddings.word.weight
        steps = max(len(torch.unique(row)) for row in weight.unbind())
        word_steps = words.abs().max(dim=0).values / (words.abs() + (words == 0) * 9).min(dim=0).values
    assert 60 < steps <= 129
    assert word_steps.max() > 64.5


def test_fine_tuning_learns_back_what_coarse_ranges_cost(tmp_path: Path) -> None:
    """The int8 graph of the tuned weights answers more like the fp32 parent than that of the old ones."""
    model, ids = opinionated(SHAPE), texts(128)
    ranges = {name: replace(r, scale=r.scale * 40) for name, r in calibrate(model, ids, 0).items()}
    data, before = corpus(model, ids), weights_of(model)
    model.dropout.p = 0.0
    recipe = Recipe(epochs=4, learning_rate=2e-3, weight_decay=0.0, distil_weight=1.0)
    tuned = finetune(
        model, ranges, data, recipe, seed=0, compute=Compute(), watch=Watch(tmp_path),
        weight_limit=WEIGHT_LIMIT[host_isa()],
    )  # fmt: skip

    def divergence(weights: dict[str, np.ndarray]) -> float:
        assert data.signals is not None
        served = log_softmax(in_runtime(build_int8(SHAPE, weights, ranges, host_isa()), ids))
        wanted = log_softmax(data.signals.logits)
        return float((np.exp(wanted) * (wanted - served)).sum(axis=1).mean())

    assert divergence(weights_of(tuned)) < 0.75 * divergence(before)
    assert list(tuned.state_dict()) == list(before)
    for name, value in before.items():  # the model itself was not touched
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), value)


def test_it_is_the_same_again_in_any_precision_and_after_an_interruption(tmp_path: Path) -> None:
    """Same seed, same bits; bf16 is not used; a stopped run continues to the same weights."""
    model, ids = opinionated(replace(SHAPE, rank=12)), texts(64)
    ranges, data = calibrate(model, ids, 0), corpus(model, ids)

    def tune(folder: Path, compute: Compute, progress: Callable[[int, int, float], None]) -> dict[str, np.ndarray]:
        folder.mkdir(exist_ok=True)
        watch = Watch(folder, progress)
        return weights_of(finetune(model, ranges, data, RECIPE, seed=3, compute=compute, watch=watch))

    def stop(done: int, total: int, loss: float) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    wanted = tune(tmp_path / "one", Compute(), lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "two", Compute(), stop)
    for again in (
        tune(tmp_path / "two", Compute(), lambda *_: None),
        tune(tmp_path / "three", Compute(precision="bf16"), lambda *_: None),
    ):
        for name, value in wanted.items():
            np.testing.assert_array_equal(again[name], value)


@pytest.mark.parametrize(
    ("fp32", "calibrated", "wanted"),
    [
        ({"accuracy": 0.95, "auroc": 0.97}, {"accuracy": 0.95, "auroc": 0.97}, False),
        ({"accuracy": 0.95, "auroc": 0.97}, {"accuracy": 0.947, "auroc": 0.967}, False),  # exactly the bounds
        ({"accuracy": 0.95, "auroc": 0.97}, {"accuracy": 0.9469, "auroc": 0.97}, True),
        ({"accuracy": 0.95, "auroc": 0.97}, {"accuracy": 0.96, "auroc": 0.9669}, True),
        ({"accuracy": 0.95}, {"accuracy": 0.94}, True),
        ({"accuracy": 0.95}, {"accuracy": 0.949}, False),
    ],
)
def test_fine_tuning_is_needed_where_more_than_the_bounds_is_lost(
    fp32: dict[str, float], calibrated: dict[str, float], wanted: bool
) -> None:
    assert needs_qat(fp32, calibrated) is wanted


@pytest.mark.parametrize(
    ("tuned", "calibrated", "wanted"),
    [
        ({"accuracy": 0.95, "auroc": 0.97}, {"accuracy": 0.94, "auroc": 0.97}, True),
        ({"accuracy": 0.95, "auroc": 0.95}, {"accuracy": 0.94, "auroc": 0.97}, False),
        ({"accuracy": 0.95, "auroc": 0.97}, {"accuracy": 0.95, "auroc": 0.97}, False),  # a draw
        ({"accuracy": 0.95}, {"accuracy": 0.94}, True),
    ],
)
def test_the_better_form_is_chosen_on_validation_and_a_draw_goes_to_the_simpler_one(
    tuned: dict[str, float], calibrated: dict[str, float], wanted: bool
) -> None:
    assert is_better(tuned, calibrated) is wanted
