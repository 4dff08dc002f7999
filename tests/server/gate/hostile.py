"""The hostile corpus: bundles that somebody might send, by the refusal that each must end in.

Made in code, from the tiny ticket. A case is a function from a folder to the path of an upload there; CASES says
which refusal it gets, and what else the examination is asked with.
"""

import base64
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from routing.account import Policy
from tests.fuzz.fuzz_bundle import craft, lay_out, split
from tests.server.gate.bundles import SAMPLES, TEXTS, bundle, graph, tiny_model
from tests.tiny import tiny_bundle, tiny_onnx, tiny_tokenizer
from tickets.bundle import MAGIC
from tickets.signing import new_private, public_text, sign

Make = Callable[[Path], Path]
CASES: dict[str, tuple[str, Make, dict[str, Any]]] = {}
"""Name -> the refusal, what makes the upload, and fields of `Wanted`."""


def _case(name: str, refusal: str, data: bytes | Callable[[], bytes], **wanted: Any) -> None:
    def make(folder: Path) -> Path:
        path = folder / "upload.part"
        path.write_bytes(data if isinstance(data, bytes) else data())
        return path

    CASES[name] = (refusal, make, wanted)


def _header(change: Callable[[dict[str, Any]], None]) -> bytes:
    """The tiny bundle with another header, laid out as the format says."""
    header, body = split(tiny_bundle())
    document = json.loads(header)
    change(document)
    return lay_out(document, body)


# The file and its layout.
SOUND = tiny_bundle()
_case("empty", "bad_bundle", b"")
_case("not-a-bundle", "bad_bundle", b"PK\x03\x04" + bytes(4000))
_case("truncated-in-the-header", "bad_bundle", SOUND[:100])
_case("truncated-in-a-member", "bad_bundle", SOUND[:-7])
_case("bytes-after-the-end", "bad_bundle", SOUND + b"x")
_case("a-bit-flipped", "bad_bundle", SOUND[:-90] + bytes([SOUND[-90] ^ 1]) + SOUND[-89:])
_case("header-claims-gigabytes", "bad_bundle", MAGIC + struct.pack("<II", 0xFFFFFFFF, 0) + bytes(64))
_case("header-nested-deep", "bad_bundle", craft(b'{"manifest":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""))
_case("header-is-no-json", "bad_bundle", craft(b"\xff\xfe" * 50, b""))
_case("header-names-a-key-twice", "bad_bundle", craft(split(SOUND)[0].replace(b'{"', b'{"members":[],"', 1), b""))
_case("digest-lies", "bad_bundle", lambda: _header(lambda d: d["members"][0].update(sha256="0" * 64)))
_case("member-twice", "bad_bundle", lambda: _header(lambda d: d["members"].append(d["members"][-1])))
_case("member-overlaps", "bad_bundle", lambda: _header(lambda d: d["members"][1].update(offset=64)))
_case("member-of-negative-size", "bad_bundle", lambda: _header(lambda d: d["members"][1].update(bytes=-5)))
_case("member-of-2-to-the-62", "bad_bundle", lambda: _header(lambda d: d["members"][2].update(bytes=1 << 62)))
_case("path-in-a-member-name", "bad_bundle", lambda: _header(lambda d: d["members"][0].update(name="../../x.onnx")))
_case("absolute-member-name", "bad_bundle", lambda: _header(lambda d: d["members"][0].update(name="/etc/passwd")))
_case("unknown-field", "bad_bundle", lambda: _header(lambda d: d["manifest"].update(run="rm -rf /")))
_case("no-graph", "bad_bundle", lambda: _header(lambda d: d["members"][0].update(name="model.onny")))
_case("too-large-for-the-tenant", "bad_bundle", SOUND, max_bytes=1000)


def _symlink(folder: Path) -> Path:
    (folder / "elsewhere").write_bytes(SOUND)
    (folder / "upload.part").symlink_to(folder / "elsewhere")
    return folder / "upload.part"


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "upload.part")
    return folder / "upload.part"


def _folder(folder: Path) -> Path:
    (folder / "upload.part").mkdir()
    return folder / "upload.part"


CASES["a-symlink"] = ("bad_bundle", _symlink, {})
CASES["a-fifo"] = ("bad_bundle", _fifo, {})
CASES["a-folder"] = ("bad_bundle", _folder, {})
CASES["a-device"] = ("bad_bundle", lambda _: Path("/dev/zero"), {})

# Signatures.
KEY, OTHER_KEY = new_private(), new_private()
SIGNED = Policy(requires_signature=True, signers={"release": public_text(KEY)})
WRONG = base64.b64encode(sign(OTHER_KEY, "0" * 64)).decode()
_case("unsigned", "bad_signature", SOUND, policy=SIGNED)
_case("signed-by-another-key", "bad_signature", SOUND, policy=SIGNED, signature=f"release:{WRONG}")
_case("signed-by-a-stranger", "bad_signature", SOUND, policy=SIGNED, signature=f"mallory:{WRONG}")
_case("signature-is-no-base64", "bad_signature", SOUND, signature="release:???")
_case("signature-of-three-bytes", "bad_signature", SOUND, signature="release:AAAA")
_case("bad-signature-nobody-asked-for", "bad_signature", SOUND, signature=f"release:{WRONG}",
      policy=Policy(signers={"release": public_text(KEY)}))  # fmt: skip

# Manifests that say something else than their members.
_case("more-labels-than-logits", "manifest_mismatch", lambda: bundle(
    labels=["weather", "music", "lights", "doors"],
    outputs=_outputs(4), calibration={"out_of_scope": "class"}))  # fmt: skip
_case("fewer-labels-than-logits", "manifest_mismatch", lambda: bundle(
    labels=["weather", "music"], outputs=_outputs(2)))  # fmt: skip
_case("vocabulary-smaller-than-the-tokenizer", "manifest_mismatch", lambda: bundle(tokenizer_fields={"vocabulary": 5}))
_case("vocabulary-larger-than-the-table", "manifest_mismatch", lambda: bundle(tokenizer_fields={"vocabulary": 5000}))
_case("a-task-nobody-serves", "manifest_mismatch", lambda: bundle(task="mining"))
_case(
    "a-tensor-that-is-not-there",
    "manifest_mismatch",
    lambda: _tensors(_tensor("input_ids", "INT32", [-1, -1]), _tensor("scores", "FP32", [-1, 4])),
)
_case(
    "a-tensor-of-another-type",
    "manifest_mismatch",
    lambda: _tensors(_tensor("input_ids", "INT64", [-1, -1]), _tensor("logits", "FP32", [-1, 4])),
)
_case(
    "a-tensor-of-another-rank",
    "manifest_mismatch",
    lambda: _tensors(_tensor("input_ids", "INT32", [-1]), _tensor("logits", "FP32", [-1, 4])),
)
_case("an-input-nobody-names", "manifest_mismatch", lambda: bundle(model=graph(
    [helper.make_node("Identity", ["x"], ["logits"])],
    inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])])))  # fmt: skip
_case("ids-of-floats", "manifest_mismatch", lambda: bundle(model=graph(
    [helper.make_node("Identity", ["input_ids"], ["logits"])],
    inputs=[helper.make_tensor_value_info("input_ids", TensorProto.FLOAT, ["batch", 4])])))  # fmt: skip


def _tensors(given: Any, taken: Any) -> bytes:
    return bundle(task="tensors", inputs=[given], outputs=[taken])


def _outputs(labels: int) -> list[Any]:
    from tickets.manifest import text_classification_outputs

    return text_classification_outputs(labels)


def _tensor(name: str, datatype: Any, shape: list[int]) -> Any:
    from tickets.manifest import Tensor

    return Tensor(name=name, datatype=datatype, shape=shape)


# Graphs that may not be opened.
def _external(location: str) -> bytes:
    model = tiny_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "192"}.items():
        tensor.external_data.add(key=key, value=value)
    return bundle(model=bytes(model.SerializeToString()))


def _external_attribute() -> bytes:
    model = tiny_model()
    constant = helper.make_node("Constant", [], ["secret"], value=helper.make_tensor("v", 1, [1], [1.0]))
    constant.attribute[0].t.ClearField("float_data")
    constant.attribute[0].t.data_location = TensorProto.EXTERNAL
    constant.attribute[0].t.external_data.add(key="location", value="/proc/self/environ")
    model.graph.node.insert(0, constant)
    return bundle(model=bytes(model.SerializeToString()))


def _with_node(*nodes: Any, opsets: dict[str, int] | None = None) -> bytes:
    """The tiny graph and some nodes before it."""
    model = tiny_model()
    for position, node in enumerate(nodes):
        model.graph.node.insert(position, node)
    for name, version in (opsets or {}).items():
        model.opset_import.add(domain=name, version=version)
    return bundle(model=bytes(model.SerializeToString()))


def _with_function() -> bytes:
    model = tiny_model()
    function = helper.make_function(
        "evil", "Relu", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)
    return bundle(model=bytes(model.SerializeToString()))


def _loop() -> Any:
    body = helper.make_graph(
        [helper.make_node("Identity", ["condition"], ["again"]), helper.make_node("Identity", ["a"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", TensorProto.INT32, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.INT32, None),
        ],
    )
    return helper.make_node("Loop", ["", "", "input_ids"], ["for_ever"], body=body)


def _nested(depth: int) -> Any:
    inner: Any = helper.make_node("Identity", ["condition"], [f"y{depth}"])
    for level in range(depth, 0, -1):
        branch = helper.make_graph(
            [inner], "branch", [], [helper.make_tensor_value_info(f"y{level}", TensorProto.BOOL, [])]
        )
        inner = helper.make_node("If", ["condition"], [f"y{level - 1}"], then_branch=branch, else_branch=branch)
    return inner


def _initializer_claims(dims: list[int]) -> bytes:
    model = tiny_model()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    return bundle(model=bytes(model.SerializeToString()))


def _sparse() -> bytes:
    model = tiny_model()
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("bomb", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("where", TensorProto.INT64, [1], [0]),
        [1 << 20, 1 << 20],
    )
    model.graph.sparse_initializer.append(sparse)
    return bundle(model=bytes(model.SerializeToString()))


def _cycle() -> bytes:
    return bundle(
        model=graph(
            [
                helper.make_node("Add", ["b", "b"], ["a"]),
                helper.make_node("Identity", ["a"], ["b"]),
                helper.make_node("Cast", ["a"], ["logits"], to=TensorProto.FLOAT),
            ]
        )
    )


def _second_graph() -> bytes:
    """Two graphs in one model: readers that merge them see other nodes than those that take one."""
    model = tiny_onnx()
    hidden = helper.make_graph([helper.make_node("EPContext", [], ["x"], domain="com.microsoft")], "hidden", [], [])
    body = hidden.SerializeToString()
    return bundle(model=model + bytes([7 << 3 | 2]) + _varint(len(body)) + body)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


_case("external-data-above", "graph_refused", lambda: _external("../../../etc/shadow"))
_case("external-data-absolute", "graph_refused", lambda: _external("/etc/hostname"))
_case("external-data-beside", "graph_refused", lambda: _external("weights.bin"))
_case("external-data-in-an-attribute", "graph_refused", _external_attribute)
_case("custom-domain", "graph_refused", lambda: _with_node(
    helper.make_node("Shell", ["input_ids"], ["x"], domain="evil.example"), opsets={"evil.example": 1}))  # fmt: skip
_case("operator-that-loads-code", "graph_refused", lambda: _with_node(
    helper.make_node("EPContext", ["input_ids"], ["x"], domain="com.microsoft"),
    opsets={"com.microsoft": 1}))  # fmt: skip
_case(
    "operator-nobody-knows", "graph_refused", lambda: _with_node(helper.make_node("Frobnicate", ["input_ids"], ["x"]))
)
_case("functions", "graph_refused", _with_function)
_case("loop-for-ever", "graph_refused", lambda: _with_node(_loop()))
_case("subgraphs-nested-deep", "graph_refused", lambda: _with_node(
    helper.make_node("Constant", [], ["condition"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])),
    _nested(12)))  # fmt: skip
_case("initializer-claims-terabytes", "graph_refused", lambda: _initializer_claims([1 << 20, 1 << 20]))
_case("initializer-claims-2-to-the-64", "graph_refused", lambda: _initializer_claims([1 << 32, 1 << 32]))
_case("initializer-of-negative-size", "graph_refused", lambda: _initializer_claims([-1, 48]))
_case("sparse-data-that-unfolds", "graph_refused", _sparse)
_case("cycle", "graph_refused", _cycle)
_case("two-graphs-in-one-model", "graph_refused", _second_graph)
_case("not-onnx", "graph_refused", lambda: bundle(model=b"MZ" + bytes(range(256)) * 8))
_case("no-nodes-at-all", "graph_refused", lambda: bundle(model=graph([])))
_case("opset-of-the-future", "graph_refused", lambda: bundle(model=graph(
    [helper.make_node("Cast", ["input_ids"], ["logits"], to=1)], opsets={"": 900})))  # fmt: skip
_case("nodes-by-the-million", "graph_refused", lambda: bundle(model=graph(
    [helper.make_node("Identity", ["input_ids"], [f"x{i}"]) for i in range(100_001)])))  # fmt: skip


def _bomb(*nodes: Any, constants: tuple[Any, ...] = ()) -> bytes:
    """A graph whose first node makes something huge, of which a little is added to every logit."""
    model = tiny_model()
    model.graph.node[-1].output[0] = "sane"
    tail = [
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "zero"], ["nothing"]),
        helper.make_node("Add", ["sane", "nothing"], ["logits"]),
    ]
    model.graph.node.extend([*nodes, *tail])
    for array, name in ((np.array(0, np.float32), "zero"), *constants):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return bundle(model=bytes(model.SerializeToString()))


_case("constant-of-shape-bomb", "graph_refused", lambda: _bomb(
    helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
    constants=((np.array([1 << 16, 1 << 16], np.int64), "shape"),)))  # fmt: skip
_case("expand-bomb", "graph_refused", lambda: _bomb(
    helper.make_node("ReduceMax", ["sane"], ["one"], keepdims=0),
    helper.make_node("Expand", ["one", "shape"], ["huge"]),
    constants=((np.array([1 << 30], np.int64), "shape"),)))  # fmt: skip
_case("tile-bomb", "graph_refused", lambda: _bomb(
    helper.make_node("Tile", ["sane", "times"], ["huge"]),
    constants=((np.array([1 << 16, 1 << 12], np.int64), "times"),)))  # fmt: skip


def _constant_logits(value: float, width: int = 4) -> bytes:
    """One logit row per text, all of ``value``, of any width; the shape is not declared."""
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Slice", ["shape", "from", "to"], ["batch"]),
        helper.make_node("Concat", ["batch", "width"], ["wanted"], axis=0),
        helper.make_node("Expand", ["value", "wanted"], ["logits"]),
    ]
    constants = (
        (np.array([0], np.int64), "from"), (np.array([1], np.int64), "to"),
        (np.array([width], np.int64), "width"), (np.array(value, np.float32), "value"),
    )  # fmt: skip
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "n"])]
    return bundle(model=graph(nodes, initializers=constants, outputs=outputs))


_case("logits-that-are-no-numbers", "graph_refused", lambda: _constant_logits(float("nan")))
_case("infinite-logits", "graph_refused", lambda: _constant_logits(float("inf")))
_case("logits-of-another-width", "graph_refused", lambda: _constant_logits(1.0, 7))


# Tokenizers.
def _tokenizer(change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(tiny_tokenizer())
    change(document)
    return bundle(tokenizer=json.dumps(document).encode())


def _replace(pattern: dict[str, str], content: str, times: int = 1) -> Callable[[dict[str, Any]], None]:
    node = {"type": "Replace", "pattern": pattern, "content": content}
    return lambda d: d.update(normalizer={"type": "Sequence", "normalizers": [node] * times})


_case("tokenizer-is-no-json", "graph_refused", lambda: bundle(tokenizer=b"\x00\x01\x02"))
_case("tokenizer-without-a-model", "graph_refused", lambda: bundle(tokenizer=b"{}"))
_case("tokenizer-nested-deep", "graph_refused", lambda: bundle(tokenizer=b"[" * 200_000))
_case("regex-that-backtracks", "graph_refused", lambda: _tokenizer(_replace({"Regex": "(a+)+$"}, "b")))
_case("replacement-that-explodes", "graph_refused", lambda: _tokenizer(_replace({"String": "a"}, "a" * 100_000)))
_case("replacements-that-double", "graph_refused", lambda: _tokenizer(_replace({"String": "a"}, "aa", 40)))
_case("ids-beyond-any-table", "graph_refused", lambda: _tokenizer(lambda d: d["model"]["vocab"].update(x=1 << 40)))
_case("ids-beyond-this-table", "manifest_mismatch", lambda: _tokenizer(lambda d: d["model"]["vocab"].update(x=12)))
_case("a-model-of-no-kind", "graph_refused", lambda: _tokenizer(lambda d: d["model"].update(type="Evil")))
_case("a-giant-vocabulary", "manifest_mismatch", lambda: _tokenizer(
    lambda d: d["model"].update(vocab={f"w{i}": i for i in range(300_000)})))  # fmt: skip

# Samples, evidence and claims that lie.
_case("no-samples", "samples_differ", lambda: bundle(samples=None))
_case("samples-are-no-json", "samples_differ", lambda: bundle(samples=b"{"))
_case("a-sample-lies", "samples_differ", lambda: bundle(samples=SAMPLES | {"labels": ["music", "music", None]}))
_case("a-sample-lies-about-scope", "samples_differ", lambda: bundle(
    samples=SAMPLES | {"labels": ["weather", "music", "music"]}))  # fmt: skip
_case("probabilities-lie", "samples_differ", lambda: bundle(samples=SAMPLES | {"probabilities": [[0.2, 0.3, 0.1]] * 3}))
_case("samples-of-other-lengths", "samples_differ", lambda: bundle(samples=SAMPLES | {"labels": ["weather"]}))
_case("evidence-is-no-json", "claims_differ", lambda: bundle(evidence_set=b"[1"))
_case("evidence-of-other-labels", "claims_differ", lambda: bundle(evidence_set={"texts": ["rain"], "labels": ["x"]}))
_case("evidence-of-other-lengths", "claims_differ", lambda: bundle(evidence_set={"texts": ["rain"], "labels": []}))
_case("claims-more-than-it-shows", "claims_differ", lambda: bundle(
    evidence_set={"texts": list(TEXTS) * 9, "labels": ["music"] * 54}))  # fmt: skip
_case("evidence-shows-too-little", "gate_failed", lambda: bundle(
    evidence={"quality": 0.1}, evidence_set={"texts": list(TEXTS) * 9, "labels": ["music"] * 54}),
    policy=Policy(min_quality=0.9))  # fmt: skip


def _mixes_rows() -> bytes:
    """Logits that depend on what else is in the batch, by too little to change a label."""
    model = tiny_model()
    model.graph.node[-1].output[0] = "own"
    model.graph.node.extend(
        [
            helper.make_node("ReduceSum", ["own", "axis_0"], ["all"], keepdims=1),
            helper.make_node("Mul", ["all", "little"], ["others"]),
            helper.make_node("Add", ["own", "others"], ["logits"]),
        ]
    )
    for array, name in ((np.array([0], np.int64), "axis_0"), (np.array([0.3, 0.1, 0.2, 0.4], np.float32), "little")):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return bundle(model=bytes(model.SerializeToString()))


def slow_bundle(side: int, times: int) -> bytes:
    """The tiny graph, and matrix products that change nothing and take long."""
    nodes = [
        helper.make_node("ReduceMax", ["sane"], ["seed"], keepdims=0),
        helper.make_node("Mul", ["seed", "square"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{i}", "square"], [f"m{i + 1}"]) for i in range(times)),
        helper.make_node("Identity", [f"m{times}"], ["huge"]),
    ]
    return _bomb(*nodes, constants=((np.full((side, side), 1e-6, np.float32), "square"),))


_case("answers-mix-rows", "samples_differ", _mixes_rows)
_case("slow-though-right", "profile_refused", lambda: slow_bundle(256, 60), policy=Policy(max_service_ms=0.5))
_case("slower-than-the-time-limit", "graph_refused", lambda: slow_bundle(1024, 400), time_limit_s=3.0)
