"""Bundles for the gate's tests: the tiny ticket with parts of it exchanged, and how to have one examined."""

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import onnx
from onnx import TensorProto, helper, numpy_helper

from server.gate.report import Report, Step, Wanted
from server.gate.runner import Gate
from tests.tiny import tiny_manifest, tiny_onnx, tiny_tokenizer
from tickets.bundle import pack
from tickets.manifest import Calibration, Manifest

SAMPLES: dict[str, Any] = {"texts": ["rain sun", "song", "tax"], "labels": ["weather", "music", None]}
TEXTS = {"rain": "weather", "sun rain": "weather", "song": "music", "band song": "music", "lamp": "lights", "tax": None}
"""Texts that the tiny ticket answers rightly."""


def bundle(
    *,
    model: bytes | None = None,
    tokenizer: bytes | None = None,
    samples: Any = SAMPLES,
    evidence_set: Any = None,
    more: dict[str, bytes] | None = None,
    tokenizer_fields: dict[str, Any] | None = None,
    **manifest: Any,
) -> bytes:
    """The tiny bundle with these members (JSON, or bytes), and with these fields of its manifest."""
    members = {"model.onnx": model or tiny_onnx(), **(more or {})}
    if manifest.get("task") != "tensors":
        members["tokenizer.json"] = tokenizer or tiny_tokenizer()
    for name, document in (("samples.json", samples), ("evidence.json", evidence_set)):
        if document is not None:
            members[name] = document if isinstance(document, bytes) else json.dumps(document).encode()
    if tokenizer_fields is not None:
        manifest["tokenizer"] = tokenizer_fields
    if manifest.get("task") == "tensors":
        manifest |= {"tokenizer": None, "labels": [], "calibration": Calibration()}
    return pack(changed(tiny_manifest(), **manifest), members)


def changed(manifest: Manifest, **fields: Any) -> Manifest:
    """A manifest with other fields; those of its parts are given as dicts."""
    parts = {
        name: msgspec.structs.replace(getattr(manifest, name), **value) if isinstance(value, dict) else value
        for name, value in fields.items()
    }
    return msgspec.structs.replace(manifest, **parts)


def graph(
    nodes: list[onnx.NodeProto],
    *,
    initializers: tuple[Any, ...] = (),
    inputs: Any = None,
    outputs: Any = None,
    opsets: dict[str, int] | None = None,
) -> bytes:
    """A model of these nodes, from ``input_ids`` to ``logits`` of 4 where nothing else is said; nothing is checked."""
    made = helper.make_graph(
        nodes,
        "g",
        inputs or [helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", "tokens"])],
        outputs or [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(*value) for value in initializers],
    )
    versions = {"": 17, **(opsets or {})}
    model = helper.make_model(made, opset_imports=[helper.make_opsetid(name, n) for name, n in versions.items()])
    model.ir_version = 9
    return bytes(model.SerializeToString())


def tiny_model() -> onnx.ModelProto:
    """The tiny graph, to be changed."""
    return onnx.load_model_from_string(tiny_onnx())


async def examine(path: Path, gate: Gate | None = None, **wanted: Any) -> tuple[list[Step], Report]:
    """Have a file examined to its end: the steps as they came, and the report."""
    said: list[Step | Report] = []
    given: dict[str, Any] = {"tenant": "acme", "time_limit_s": 20.0, "memory_limit_bytes": 512 << 20} | wanted
    asked = Wanted(**given)
    async with aclosing((gate or Gate()).examine(path, asked)) as examination:
        async for one in examination:
            said.append(one)
    *steps, report = said
    assert isinstance(report, Report)
    assert all(isinstance(step, Step) for step in steps)
    return [step for step in steps if isinstance(step, Step)], report


async def examine_bytes(data: bytes, folder: Path, **wanted: Any) -> tuple[list[Step], Report]:
    """As `examine`, of these bytes."""
    path = folder / "upload.part"
    path.write_bytes(data)
    return await examine(path, **wanted)
