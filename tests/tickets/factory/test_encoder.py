"""The encoder computes what BERT computes; gates, cuts and vocabularies change only what they say."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tickets.factory.backbone import Backbone, BackboneError, load_backbone
from tickets.factory.encoder import Classifier, Gates, parameters
from tickets.factory.fisher import score
from tickets.factory.models import from_backbone, load_model, save_model
from tickets.factory.shrink import Kept, Target, choose, cut, factors, with_vocabulary
from tickets.factory.tokens import full_vocabulary, pad, prune_vocabulary

pytestmark = pytest.mark.torch

TEXTS = ["open the red door", "play a quiet song", "why is the old sky so far", "alarm"]


def model_of(backbone: Backbone) -> tuple[Classifier, list[np.ndarray]]:
    vocabulary = full_vocabulary(backbone.tokenizer_json, 32)
    model = from_backbone(backbone, vocabulary, classes=4, seed=0)
    return model.eval(), vocabulary.encode(TEXTS)


def test_encoder_agrees_with_the_reference_implementation(backbone: Backbone, backbone_dir: Path) -> None:
    """Token for token, the hidden states are those of the transformers library's BertModel."""
    transformers = pytest.importorskip("transformers", reason="the reference implementation is not installed")
    reference = transformers.BertModel.from_pretrained(str(backbone_dir), add_pooling_layer=False).eval()
    model, ids = model_of(backbone)
    rows = full_vocabulary(backbone.tokenizer_json, 32).rows
    batch = pad(ids)
    mask = torch.from_numpy(batch != 0)

    with torch.inference_mode():
        wanted = reference(input_ids=torch.from_numpy(rows[batch]), attention_mask=mask.long()).last_hidden_state
        pooled = (wanted * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)

        torch.testing.assert_close(model(torch.from_numpy(batch))[1], pooled, atol=2e-5, rtol=0)


def test_gates_of_one_change_nothing_and_a_closed_head_gate_removes_that_head(backbone: Backbone) -> None:
    """A gate of zero equals physically cutting the head away."""
    model, ids = model_of(backbone)
    batch = torch.from_numpy(pad(ids))
    ones = Gates(
        [torch.ones(len(TEXTS), h) for h in model.shape.heads],
        [torch.ones(len(TEXTS), n) for n in model.shape.neurons],
        [torch.ones(len(TEXTS), 2) for _ in model.shape.heads],
        torch.ones(len(TEXTS), model.shape.hidden),
    )
    with torch.inference_mode():
        torch.testing.assert_close(model(batch, ones)[0], model(batch)[0])
        ones.heads[1][:, 0] = 0
        closed = model(batch, ones)[0]
    every = tuple(range(model.shape.neurons[0]))
    kept = Kept((0, 1, 2), ((0, 1), (1,), (0, 1)), (every,) * 3)
    with torch.inference_mode():
        torch.testing.assert_close(cut(model, kept, "gelu").eval()(batch)[0], closed, atol=1e-5, rtol=0)


def test_a_cut_that_keeps_everything_computes_the_same(backbone: Backbone) -> None:
    """Shrinking to the parent's own structure is the identity."""
    model, ids = model_of(backbone)
    scores = score(model, ids, np.zeros((len(TEXTS), 4), np.float32))
    kept = choose(model.shape, scores, Target(3, 2, model.shape.neurons[0]))
    batch = torch.from_numpy(pad(ids))
    with torch.inference_mode():
        torch.testing.assert_close(cut(model, kept, "gelu").eval()(batch)[0], model(batch)[0])


def test_choose_keeps_the_best_scored_and_refuses_a_larger_target(backbone: Backbone) -> None:
    """A head that writes nothing scores zero and is the first to go."""
    model, ids = model_of(backbone)
    with torch.no_grad():
        dict(model.named_parameters())["layers.0.out.weight"][:, : model.shape.head_size] = 0  # head 0 is dead
    scores = score(model, ids, np.random.default_rng(0).normal(size=(len(TEXTS), 4)).astype(np.float32))
    assert scores.heads[0][0] == 0.0 < scores.heads[0][1]
    assert choose(model.shape, scores, Target(3, 1, 8)).heads[0] == (1,)
    with pytest.raises(ValueError, match="larger than its parent"):
        choose(model.shape, scores, Target(3, 3, 8))


def test_a_smaller_vocabulary_changes_nothing_for_texts_it_covers(backbone: Backbone) -> None:
    """Rows move, answers do not."""
    model, ids = model_of(backbone)
    full = full_vocabulary(backbone.tokenizer_json, 32)
    small = prune_vocabulary(backbone.tokenizer_json, TEXTS, 260, 32)
    place = {int(row): i for i, row in enumerate(full.rows)}
    child = with_vocabulary(model, np.asarray([place[int(r)] for r in small.rows]), 32).eval()
    with torch.inference_mode():
        wanted = model(torch.from_numpy(pad(ids)))[0]
        torch.testing.assert_close(child(torch.from_numpy(pad(small.encode(TEXTS))))[0], wanted)


def test_parameters_counts_every_weight(backbone: Backbone) -> None:
    """The number in the manifest is the number of weights in the model."""
    model, _ = model_of(backbone)
    assert parameters(model.shape, 4) == sum(p.numel() for p in model.parameters())


def test_model_survives_the_disk(backbone: Backbone, tmp_path: Path) -> None:
    """What is saved is what is loaded, vocabulary included."""
    model, ids = model_of(backbone)
    save_model(tmp_path, model, full_vocabulary(backbone.tokenizer_json, 32))
    loaded, vocabulary = load_model(tmp_path)
    batch = torch.from_numpy(pad(vocabulary.encode(TEXTS)))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(batch)[0], model(torch.from_numpy(pad(ids)))[0])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'), "supported: bert"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    ],
)
def test_a_wrong_backbone_is_refused_by_name(
    backbone_dir: Path, tmp_path: Path, change: Callable[[Path], object], complaint: str
) -> None:
    """Another architecture or a missing file gets a sentence that says what is wanted."""
    folder = tmp_path / "other"
    folder.mkdir()
    for file in backbone_dir.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(folder)
    with pytest.raises(BackboneError, match=complaint):
        load_backbone(str(folder))


def test_weights_under_the_default_name_must_have_its_digest(
    backbone_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other bytes are never trusted under the default backbone's name."""
    from tickets.factory import backbone as module

    monkeypatch.setattr(module, "_locate", lambda _: (module.DEFAULT_BACKBONE, backbone_dir))
    with pytest.raises(BackboneError, match="sha256"):
        load_backbone()


def test_factors_of_full_rank_give_the_words_back_and_lower_ranks_favour_frequent_ones() -> None:
    """An exact product at full rank; below it, rows with high counts keep more of themselves."""
    words = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32))
    counts = np.where(np.arange(50) < 10, 5000, 0)
    left, right = factors(words, counts, 12)
    torch.testing.assert_close(left @ right.T, words, atol=1e-4, rtol=0)
    torch.testing.assert_close(left.abs().amax(dim=0), torch.ones(12))

    left, right = factors(words, counts, 6)
    lost = (left @ right.T - words).square().sum(1)
    assert lost[:10].mean() < lost[10:].mean()


def test_a_vocabulary_is_filled_with_common_words_only_when_asked(backbone: Backbone) -> None:
    """Words that no text uses come in the backbone's order, after those that are used."""
    bare = prune_vocabulary(backbone.tokenizer_json, TEXTS, 230, 32, fill=False)
    filled = prune_vocabulary(backbone.tokenizer_json, TEXTS, 230, 32)
    assert len(bare.rows) < len(filled.rows) == 230
    assert set(bare.rows) < set(filled.rows)
