"""A tiny BERT on disk and a tiny labelled data set: the factory's whole path in seconds."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch
from safetensors.torch import save_file

from tickets.factory.backbone import Backbone, load_backbone

HIDDEN, LAYERS, HEADS, NEURONS = 64, 3, 2, 96

TEMPLATES = {
    "open_door": ["open the {} door", "please unlock the {} door", "let me in by the {} door", "swing a {} gate wide"],
    "play_song": ["play a {} song", "put on some {} music", "i want to hear a {} tune", "start the {} record"],
    "set_alarm": ["set a {} alarm", "wake me with a {} bell", "ring a {} clock for me", "a {} reminder please"],
}
FILLERS = ["red", "quiet", "old", "front", "gentle", "loud", "small", "first"]
OUTSIDE = ["why is the {} sky so far", "how many {} fish swim", "tell me of {} kings", "what does a {} stone weigh"]


def labelled_rows() -> list[tuple[str, str, str, str]]:
    """(text, label, split, domain) of a three-label domain, with out-of-scope texts."""
    rows = []
    for label, templates in [*TEMPLATES.items(), ("oos", OUTSIDE)]:
        for t, template in enumerate(templates):
            for f, filler in enumerate(FILLERS):
                split = ("test", "validation", "train", "train")[(t + f) % 4]
                rows.append((template.format(filler), label, split, "" if label == "oos" else "house"))
    return rows


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows as CSV."""
    path = tmp_path_factory.mktemp("data") / "house.csv"
    lines = ["text,label,split,domain", *(",".join(row) for row in labelled_rows())]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def backbone_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT checkpoint in Hugging Face's layout, with a WordPiece tokenizer."""
    folder = tmp_path_factory.mktemp("backbone")
    words = sorted({w for text, *_ in labelled_rows() for w in text.split()})
    letters = [chr(c) for c in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *words]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": vocabulary[s], "content": s, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for s in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        ],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = {
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "intermediate_size": NEURONS, "max_position_embeddings": 48,
        "vocab_size": len(vocabulary), "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_checkpoint(len(vocabulary)), folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def backbone(backbone_dir: Path) -> Backbone:
    """The tiny backbone, loaded."""
    return load_backbone(str(backbone_dir))


def _checkpoint(vocabulary: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.08

    out = {
        "embeddings.word_embeddings.weight": draw(vocabulary, HIDDEN),
        "embeddings.position_embeddings.weight": draw(48, HIDDEN),
        "embeddings.token_type_embeddings.weight": draw(2, HIDDEN),
        "embeddings.LayerNorm.weight": 1 + draw(HIDDEN),
        "embeddings.LayerNorm.bias": draw(HIDDEN),
    }
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        for name, (rows, columns) in {
            "attention.self.query": (HIDDEN, HIDDEN), "attention.self.key": (HIDDEN, HIDDEN),
            "attention.self.value": (HIDDEN, HIDDEN), "attention.output.dense": (HIDDEN, HIDDEN),
            "intermediate.dense": (NEURONS, HIDDEN), "output.dense": (HIDDEN, NEURONS),
        }.items():  # fmt: skip
            out[f"{at}{name}.weight"], out[f"{at}{name}.bias"] = draw(rows, columns) * 3, draw(rows)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            out[f"{at}{name}.weight"], out[f"{at}{name}.bias"] = 1 + draw(HIDDEN), draw(HIDDEN)
    return out
