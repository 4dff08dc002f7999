"""Models on disk and out of the backbone: a classifier's weights, shape and vocabulary in one folder."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from tickets.factory.backbone import Backbone
from tickets.factory.encoder import Classifier, Shape
from tickets.factory.tokens import Vocabulary


def from_backbone(backbone: Backbone, vocabulary: Vocabulary, classes: int, seed: int) -> Classifier:
    """A classifier that starts at the backbone's weights, over ``vocabulary``, with a seeded head."""
    shape = Shape(
        vocabulary=len(vocabulary.rows),
        hidden=backbone.hidden,
        head_size=backbone.hidden // backbone.heads,
        heads=(backbone.heads,) * backbone.layers,
        neurons=tuple(backbone.weights[f"layers.{i}.up.bias"].shape[0] for i in range(backbone.layers)),
        sources=tuple(range(backbone.layers)),
        positions=vocabulary.max_tokens,
    )
    torch.manual_seed(seed)
    model = Classifier(shape, classes)
    torch.nn.init.normal_(model.head.weight, std=0.02)
    torch.nn.init.zeros_(model.head.bias)
    state = model.state_dict() | {k: v for k, v in backbone.weights.items() if not k.startswith("embeddings.")}
    state["embeddings.word.weight"] = backbone.weights["embeddings.word.weight"][torch.from_numpy(vocabulary.rows)]
    state["embeddings.position"] = backbone.weights["embeddings.position"][: vocabulary.max_tokens]
    for kind in ("weight", "bias"):
        state[f"embeddings.norm.{kind}"] = backbone.weights[f"embeddings.norm.{kind}"]
    model.load_state_dict(state)
    return model


def save_model(folder: Path, model: Classifier, vocabulary: Vocabulary) -> None:
    """Write weights, shape and vocabulary into ``folder``."""
    # By way of memory, so that a full disk is an OSError that names the file.
    (folder / "model.safetensors").write_bytes(save({k: v.contiguous() for k, v in model.state_dict().items()}))
    meta: dict[str, Any] = {"shape": asdict(model.shape), "classes": model.classes, "max_tokens": vocabulary.max_tokens}
    (folder / "model.json").write_text(json.dumps(meta), encoding="utf-8")
    (folder / "tokenizer.json").write_text(vocabulary.tokenizer_json, encoding="utf-8")
    np.save(folder / "rows.npy", vocabulary.rows)


def load_model(folder: Path) -> tuple[Classifier, Vocabulary]:
    """Read what `save_model` wrote."""
    meta = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in meta["shape"].items()}
    shape = Shape(**fields)
    model = Classifier(shape, meta["classes"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.eval()
    tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
    return model, Vocabulary(tokenizer, np.load(folder / "rows.npy"), meta["max_tokens"])
