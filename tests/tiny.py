"""Tiny tickets with fixed weights, built with onnx.helper: no torch, no download, outputs known by hand.

The graph counts words: each vocabulary word carries a one-hot vote for a label, the logit of a
label is 16 x (votes for it) / (tokens that are not padding). Words: see WORDS.
"""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tickets.bundle import pack
from tickets.manifest import (
    Calibration,
    Evidence,
    Lineage,
    Manifest,
    Structure,
    Tensor,
    text_classification_outputs,
)
from tickets.manifest import Tokenizer as TokenizerSpec

LABELS = ["weather", "music", "lights"]
WORDS = {"rain": 0, "sun": 0, "song": 1, "band": 1, "lamp": 2, "bulb": 2, "tax": 3, "law": 3}
"""Vocabulary words and the logit each votes for; index 3 is out of scope."""
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOTE = 16.0


def tiny_tokenizer() -> bytes:
    """A lower-casing whole-word tokenizer over SPECIALS and WORDS."""
    vocabulary = {word: i for i, word in enumerate([*SPECIALS, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer.to_str().encode()


def tiny_onnx(scale: float = 1.0) -> bytes:
    """input_ids [batch, tokens] int32 -> logits [batch, 4]; ``scale`` sharpens or blunts every vote."""
    votes = np.zeros((len(SPECIALS) + len(WORDS), 4), np.float32)
    for i, label in enumerate(WORDS.values()):
        votes[len(SPECIALS) + i, label] = VOTE * scale
    nodes = [
        helper.make_node("Gather", ["votes", "input_ids"], ["per_token"]),
        helper.make_node("ReduceSum", ["per_token", "axis_1"], ["total"], keepdims=0),
        helper.make_node("Equal", ["input_ids", "pad"], ["is_pad"]),
        helper.make_node("Not", ["is_pad"], ["is_token"]),
        helper.make_node("Cast", ["is_token"], ["token"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["token", "axis_1"], ["tokens"], keepdims=1),
        helper.make_node("Div", ["total", "tokens"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", "tokens"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [
            numpy_helper.from_array(votes, "votes"),
            numpy_helper.from_array(np.array([1], np.int64), "axis_1"),
            numpy_helper.from_array(np.array(0, np.int32), "pad"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def tiny_manifest(tier: str = "fast", quality: float = 0.9, domain: str = "home") -> Manifest:
    """The manifest of a tiny ticket."""
    return Manifest(
        name=f"tiny-{tier}",
        task="text-classification",
        domain=domain,
        tier=tier,
        verdict="pruned",
        labels=LABELS,
        inputs=[Tensor(name="text", datatype="BYTES", shape=[-1])],
        outputs=text_classification_outputs(len(LABELS)),
        tokenizer=TokenizerSpec(max_tokens=64, pad_id=0, vocabulary=len(SPECIALS) + len(WORDS)),
        structure=Structure(hidden=4, heads=[], ffn_neurons=[], vocabulary=len(WORDS) + 4, parameters=48),
        calibration=Calibration(temperature=1.0, out_of_scope="class", threshold=0.5),
        lineage=Lineage(backbone="none (tests/tiny.py)"),
        evidence=Evidence(quality=quality, service_ms=0.1),
        licence="Apache-2.0",
    )


def tiny_bundle(tier: str = "fast", quality: float = 0.9, scale: float = 1.0, domain: str = "home") -> bytes:
    """A complete bundle of about 3 kB."""
    samples = {"texts": ["rain sun", "song", "tax"], "labels": ["weather", "music", None]}
    return pack(
        tiny_manifest(tier, quality, domain),
        {
            "model.onnx": tiny_onnx(scale),
            "tokenizer.json": tiny_tokenizer(),
            "samples.json": json.dumps(samples).encode(),
        },
    )
