"""The ONNX graphs compute what torch computes, and int8 answers do not depend on the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from tests.tickets.factory.conftest import labelled_rows
from tickets.factory.backbone import Backbone
from tickets.factory.compute import host_isa
from tickets.factory.encoder import Classifier
from tickets.factory.graph import MASKED, Range, build_fp32, build_int8, quantize_weight
from tickets.factory.models import from_backbone
from tickets.factory.quantize import best_range, calibrate, fake_quantize
from tickets.factory.shrink import Kept, cut
from tickets.factory.tokens import full_vocabulary, pad
from tickets.reference import open_graph

pytestmark = pytest.mark.torch

TEXTS = [text for text, *_ in labelled_rows()][::3]
UNEVEN = Kept((0, 2), ((0,), (0, 1)), (tuple(range(64)), tuple(range(0, 96, 2))))
STRUCTURES = {
    "uneven layers": UNEVEN,
    "attention alone, then feed-forward alone": Kept((0, 2), ((0, 1), ()), ((), tuple(range(64)))),
    "only feed-forward": Kept((1,), ((),), (tuple(range(32)),)),
    "only attention": Kept((2,), ((1,),), ((),)),
    "no layers": Kept((), (), ()),
}


def small(backbone: Backbone, activation: str, kept: Kept = UNEVEN) -> tuple[Classifier, list[np.ndarray]]:
    vocabulary = full_vocabulary(backbone.tokenizer_json, 32)
    model = from_backbone(backbone, vocabulary, classes=4, seed=0)
    with torch.no_grad():
        model.head.weight.mul_(40)  # a head with opinions: differences must show
    return cut(model, kept, activation).eval(), vocabulary.encode(TEXTS)


def run(graph: bytes, batch: np.ndarray) -> np.ndarray:
    (logits,) = open_graph(graph, 1).run(None, {"input_ids": batch.astype(np.int32)})
    return np.asarray(logits)


@pytest.mark.parametrize("kept", STRUCTURES.values(), ids=STRUCTURES)
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_fp32_graph_equals_torch(backbone: Backbone, activation: str, kept: Kept) -> None:
    """For layers with different head and neuron counts, or with a sub-layer gone, to the last digits of fp32."""
    model, ids = small(backbone, activation, kept)
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    batch = pad(ids)
    with torch.inference_mode():
        wanted = model(torch.from_numpy(batch))[0].numpy()
    np.testing.assert_allclose(run(build_fp32(model.shape, weights), batch), wanted, atol=1e-4)


@pytest.mark.parametrize("kept", STRUCTURES.values(), ids=STRUCTURES)
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_int8_graph_stays_close_to_fp32_and_uses_int8_products(backbone: Backbone, activation: str, kept: Kept) -> None:
    """The graph holds no fp32 weight matrix but the classifier, and logits move by a few percent of their range."""
    import onnx

    model, ids = small(backbone, activation, kept)
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    graph = build_int8(model.shape, weights, calibrate(model, ids, seed=0), host_isa())
    wanted, got = run(build_fp32(model.shape, weights), pad(ids)), run(graph, pad(ids))
    assert np.abs(got - wanted).mean() < 0.05 * np.ptp(wanted)
    large = [i.name for i in onnx.load_from_string(graph).graph.initializer if i.data_type == 1 and len(i.dims) == 2]
    assert len(large) == 1  # the classifier


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_int8_answers_are_the_same_alone_in_a_batch_and_padded(backbone: Backbone, activation: str) -> None:
    """Static scales: probabilities agree within 1e-5 whatever stands beside a text, and the label never changes."""
    model, ids = small(backbone, activation)
    weights = {k: v.numpy() for k, v in model.state_dict().items()}
    session = open_graph(build_int8(model.shape, weights, calibrate(model, ids, seed=0), host_isa()), 1)

    def answer(batch: np.ndarray) -> np.ndarray:
        (logits,) = session.run(None, {"input_ids": batch.astype(np.int32)})
        e = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(e / e.sum(1, keepdims=True))

    together = answer(pad(ids))
    for i, one in enumerate(ids):
        alone = answer(pad([one]))[0]
        padded = answer(np.pad(pad([one]), ((0, 0), (0, 32 - len(one)))))[0]
        neighbours = answer(pad([one, ids[(i + 7) % len(ids)], ids[(i + 3) % len(ids)]]))[0]
        for other in (padded, neighbours, together[i]):
            np.testing.assert_allclose(other, alone, atol=1e-5)
            assert other.argmax() == alone.argmax()


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-8, 8, width=32)))
def test_weights_lose_at_most_half_a_step(weight: np.ndarray) -> None:
    """Symmetric S8: every weight is within half its column's scale of what it was; within 64 for AVX2, so that two
    products of 255 times it fit into 16 bits.
    """
    quantized, scale = quantize_weight(weight, 64)
    assert np.abs(quantized).max(initial=0) <= 64
    assert 2 * 255 * 64 < 1 << 15
    assert (np.abs(quantized * scale - weight) <= scale / 2 + 1e-6).all()
    quantized, scale = quantize_weight(weight)
    assert quantized.dtype == np.int8
    assert np.abs(quantized).max(initial=0) <= 127
    assert (np.abs(quantized * scale - weight) <= scale / 2 + 1e-6).all()


@given(hnp.arrays(np.float32, st.integers(2, 200), elements=st.floats(-50, 50, width=32)))
@settings(max_examples=60)
def test_ranges_hold_zero_exactly_and_relu_ranges_start_there(values: np.ndarray) -> None:
    """Zero (padding, dead neurons) survives quantization exactly."""
    assert fake_quantize(np.zeros(1, np.float32), best_range(values, positive=False))[0] == 0.0
    assert best_range(np.abs(values), positive=True).zero_point == 0


def test_the_range_has_the_least_error_of_its_candidates() -> None:
    """Values with thin tails are clipped where that loses less than coarser steps would."""
    values = (np.random.default_rng(0).standard_t(3, size=150_000) * 0.1).astype(np.float32)
    chosen = best_range(values, positive=False)
    whole = Range(float(np.ptp(values)) / 255, round(-float(values.min()) * 255 / float(np.ptp(values))))

    def error(range_: Range) -> float:
        return float(np.square(fake_quantize(values, range_) - values).mean())

    assert error(chosen) < error(whole)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_a_narrow_word_table_is_the_same_in_torch_fp32_and_nearly_so_in_int8(
    backbone: Backbone, activation: str
) -> None:
    """The int8 graph feeds the narrow table's rows to its product as they are stored."""
    from tickets.factory.shrink import with_vocabulary

    model, ids = small(backbone, activation)
    rows = np.arange(model.shape.vocabulary)
    narrow = with_vocabulary(model, rows, 32, rank=40, counts=np.ones(len(rows), np.int64)).eval()
    weights = {k: v.numpy() for k, v in narrow.state_dict().items()}
    batch = pad(ids)
    with torch.inference_mode():
        wanted = narrow(torch.from_numpy(batch))[0].numpy()
    np.testing.assert_allclose(run(build_fp32(narrow.shape, weights), batch), wanted, atol=1e-4)
    got = run(build_int8(narrow.shape, weights, calibrate(narrow, ids, seed=0), host_isa()), batch)
    assert np.abs(got - wanted).mean() < 0.05 * np.ptp(wanted)


@pytest.mark.parametrize("gap", [-27.0, -5.0, 0.0, 5.0, 27.0])
def test_the_mask_hides_padding_without_denormal_chances(gap: float) -> None:
    """Whatever the score of padding (by `gap` above or below a real one), its chance vanishes in fp32 beside one, and
    is no denormal number: products with those made tickets slower.
    """
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2])
    chances = helper.make_tensor_value_info("chances", TensorProto.FLOAT, [1, 2])
    graph = helper.make_graph([helper.make_node("Softmax", ["scores"], ["chances"])], "softmax", [scores], [chances])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (found,) = open_graph(model.SerializeToString(), 1).run(
        None, {"scores": np.array([[0.0, gap + MASKED]], np.float32)}
    )
    assert np.finfo(np.float32).tiny <= found[0, 1] < np.finfo(np.float32).eps
    assert found[0, 0] == 1.0
