"""Tickets that harm their worker when a certain word comes, built from the tiny one. All the rest they do as it does.

The crash is a real one of ONNX Runtime 1.32 on x86-64: the quotient of the smallest int32 and -1
does not exist, `Div` asks the processor for it, and the process gets a SIGFPE.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.tiny import SPECIALS, WORDS, tiny_bundle, tiny_manifest, tiny_onnx
from tickets import bundle as bundles

TRIGGER = "tax"
"""The word that does it."""
_TRIGGER_ID = len(SPECIALS) + list(WORDS).index(TRIGGER)
_FOR_EVER = 1 << 60


def crashing_bundle(tier: str = "accurate") -> bytes:
    """A ticket that crashes its worker."""
    nodes = [
        helper.make_node("Cast", ["is_there"], ["there"], to=TensorProto.INT32),
        helper.make_node("ReduceMax", ["there"], ["anywhere"], keepdims=0),  # one number: many are divided otherwise
        helper.make_node("Mul", ["anywhere", "minus_two"], ["twice"]),
        helper.make_node("Add", ["twice", "one"], ["divisor"]),  # 1, and -1 where the word is
        helper.make_node("Div", ["smallest", "divisor"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["harm"], to=TensorProto.FLOAT),
    ]
    constants = {
        "minus_two": np.array(-2, np.int32), "one": np.array(1, np.int32), "smallest": np.array(-(2**31), np.int32),
    }  # fmt: skip
    return _bundle(tier, nodes, constants)


def stuck_bundle(tier: str = "accurate") -> bytes:
    """A ticket that computes for centuries."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["go_on_out"]), helper.make_node("Add", ["sum", "sum"], ["sum_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, []),
        ],
    )
    nodes = [
        helper.make_node("Cast", ["is_there"], ["there"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["there"], ["anywhere"], keepdims=0),
        helper.make_node("Mul", ["anywhere", "for_ever"], ["times"]),
        helper.make_node("Loop", ["times", "true", "zero"], ["harm"], body=body),
    ]
    constants = {
        "for_ever": np.array(_FOR_EVER, np.int64), "true": np.array(True), "zero": np.array(0.0, np.float32),
    }  # fmt: skip
    return _bundle(tier, nodes, constants)


def bad_starter(folder: Path, bad: bytes) -> Path:
    """A starter folder whose family `home` has a bad accurate ticket and a good fast one."""
    folder.mkdir(parents=True)
    (folder / "bad.ticket").write_bytes(bad)
    (folder / "good.ticket").write_bytes(tiny_bundle("fast", quality=0.95))
    entries = [{"file": "bad.ticket", "tier": "accurate"}, {"file": "good.ticket", "tier": "fast"}]
    (folder / "family.json").write_text(json.dumps({"families": {"home": entries}}))
    return folder


def _bundle(tier: str, nodes: Sequence[NodeProto], constants: dict[str, np.ndarray]) -> bytes:
    """The tiny ticket with ``harm`` worked out beside its logits, and next to nothing of it added to them."""
    model = onnx.load_from_string(tiny_onnx())
    graph = model.graph
    graph.node[-1].output[0] = "good_logits"
    graph.initializer.append(numpy_helper.from_array(np.array(_TRIGGER_ID, np.int32), "trigger"))
    graph.node.append(helper.make_node("Equal", ["input_ids", "trigger"], ["is_there"]))
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.append(helper.make_node("Mul", ["harm", "nearly_nothing"], ["little"]))
    graph.node.append(helper.make_node("Add", ["good_logits", "little"], ["logits"]))
    graph.initializer.append(numpy_helper.from_array(np.array(1e-30, np.float32), "nearly_nothing"))
    onnx.checker.check_model(model)
    manifest = tiny_manifest(tier, 0.97)
    good = bundles.parse(tiny_bundle(tier))
    members = {name: bytes(member) for name, member in good.members.items() if name != "manifest.json"}
    samples = json.dumps({"texts": ["rain sun", "song"], "labels": ["weather", "music"]}).encode()
    members |= {"model.onnx": model.SerializeToString(), "samples.json": samples}
    return bundles.pack(msgspec.structs.replace(manifest, name=f"bad-{tier}"), members)
