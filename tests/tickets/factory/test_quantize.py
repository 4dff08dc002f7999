"""Calibration: every real token of every text counts, padding does not, what a layer lacks has no range."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tickets.factory import quantize
from tickets.factory.encoder import PAD_ID, Classifier, Shape
from tickets.factory.graph import Range
from tickets.factory.quantize import best_range, calibrate, fake_quantize, matrices

pytestmark = [pytest.mark.torch]

SHAPE = Shape(
    vocabulary=60, hidden=32, head_size=8, heads=(2, 0, 1), neurons=(16, 24, 0), sources=(0, 1, 2), positions=24
)


def model(shape: Shape = SHAPE) -> Classifier:
    torch.manual_seed(1)
    return Classifier(shape, 5).eval()


def texts(count: int = 40, longest: int = 20) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.integers(1, SHAPE.vocabulary, n) for n in random.integers(3, longest, count)]


def test_only_matrices_that_exist_have_ranges() -> None:
    """A layer without attention has no qkv and no out, one without neurons neither up nor down."""
    wanted = {
        "layers.0.qkv", "layers.0.out", "layers.0.up", "layers.0.down", "layers.1.up", "layers.1.down",
        "layers.2.qkv", "layers.2.out",
    }  # fmt: skip
    assert set(calibrate(model(), texts(), seed=0)) == wanted
    assert {name for name, _ in matrices(model())} == wanted


def test_no_layers_no_ranges() -> None:
    """The zero-layer control has no int8 activations."""
    assert calibrate(model(replace(SHAPE, heads=(), neurons=(), sources=())), texts(), seed=0) == {}


def test_padding_does_not_shape_a_range() -> None:
    """Whatever stands in the row of padding, the ranges are the same to the bit."""
    plain, loud = model(), model()
    with torch.no_grad():
        loud.embeddings.word.weight[PAD_ID] = torch.linspace(-900, 4000, SHAPE.hidden)
    assert calibrate(plain, texts(), seed=0) == calibrate(loud, texts(), seed=0)


def test_long_texts_count_as_much_as_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts come in order of length: a sample that stopped when it was full would never see the long ones."""
    monkeypatch.setattr(quantize, "_SAMPLE", 2000)
    net = model()
    with torch.no_grad():
        net.embeddings.position.zero_()
        net.embeddings.word.weight[5] = torch.tensor([1.0, -1.0]).repeat(SHAPE.hidden // 2)  # becomes +-1
        net.embeddings.word.weight[6] = torch.eye(SHAPE.hidden)[0]  # becomes a spike of 5.6
    short, long = [np.full(4, 5)] * 150, [np.full(20, 6)] * 50
    range_ = calibrate(net, [*short, *long], seed=0)["layers.0.qkv"]
    assert range_.scale * (255 - range_.zero_point) > 5


def test_the_same_seed_gives_the_same_ranges() -> None:
    assert calibrate(model(), texts(), seed=4) == calibrate(model(), texts(), seed=4)


def test_calibration_needs_texts() -> None:
    with pytest.raises(ValueError, match="needs texts"):
        calibrate(model(), [], seed=0)


def test_a_model_is_left_as_it_was() -> None:
    """No hook stays behind."""
    net = model()
    calibrate(net, texts(), seed=0)
    assert not any(module._forward_pre_hooks for module in net.modules())


@given(
    hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-50, 50, width=32)),
    st.floats(0, 1000, width=32),
    st.booleans(),
)
@example(np.array([np.finfo(np.float32).tiny, -4.0], np.float32), 0.0, True)
@settings(max_examples=80)
def test_every_range_is_valid_and_holds_zero(values: np.ndarray, beyond: float, positive: bool) -> None:
    """Scale above zero, zero point in U8, zero exact, also where extremes lie far outside the sample."""
    extremes = (float(values.min()) - beyond, float(values.max()) + beyond)
    range_ = best_range(values, positive=positive, extremes=extremes)
    assert range_.scale > 0
    assert 0 <= range_.zero_point <= 255
    assert fake_quantize(np.zeros(1, np.float32), range_)[0] == 0.0
    assert not positive or range_.zero_point == 0


@given(hnp.arrays(np.float32, st.integers(2, 200), elements=st.floats(-8, 8, width=32)))
@settings(max_examples=60)
def test_the_choice_is_never_worse_than_minimum_and_maximum(values: np.ndarray) -> None:
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    if high - low < 1e-3:
        return
    scale = float(np.float32((high - low) / 255))
    whole = Range(scale, int(np.rint(-low / scale)))

    def error(range_: Range) -> float:
        return float(np.square(fake_quantize(values, range_) - values).mean())

    assert error(best_range(values, positive=False)) <= error(whole) + 1e-12
