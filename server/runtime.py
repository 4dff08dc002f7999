"""The runtime: ONNX graphs opened as functions. The only file that knows ONNX Runtime.

Owns which execution providers are used and the options of every session, each chosen by
measurement, and how tables that several graphs share are given to them. It leaves memory and
lifetimes to `server.sessions`, the meaning of inputs and outputs to the task modules.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from server.graph import Graph
from server.graph_tables import GraphTable, find_tables
from server.sharing import Parts
from tickets.onnx_reader import Value

CPU = "CPUExecutionProvider"
PREFERRED_PROVIDERS = ("CUDAExecutionProvider", CPU)

_TABLE_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32), 2: np.dtype(np.uint8), 3: np.dtype(np.int8), 10: np.dtype(np.float16),
}  # fmt: skip
"""By ONNX's numbers, the element types that word tables have."""
_IDENTITY = bytes.fromhex(
    "080812003a370a100a01781201792208"
    "4964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02080142040a001011"
)
"""A model of one Identity node, x to y."""
_DATATYPES = {
    "tensor(bool)": "BOOL", "tensor(string)": "BYTES", "tensor(float16)": "FP16", "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    **{f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
"""ONNX Runtime's names of types, as the inference protocol names them."""


class GraphError(ValueError):
    """A graph that cannot be opened, and why."""


def choose_providers(wanted: Sequence[str] = ()) -> list[str]:
    """The execution providers to use, in order: those wanted (default: CUDA, then CPU) that the runtime
    reports. Raises ValueError when the runtime has none of them."""
    available = ort.get_available_providers()
    chosen = [name for name in wanted or PREFERRED_PROVIDERS if name in available]
    if not chosen:
        raise ValueError(f"this ONNX Runtime has {available}, none of {list(wanted or PREFERRED_PROVIDERS)}")
    return chosen


def is_on_cpu(providers: Sequence[str]) -> bool:
    """Whether graphs opened with these providers run on the CPU in the first place."""
    return providers[0] == CPU


def open_graph(model: bytes, providers: Sequence[str], parts: Parts | None = None) -> Graph:
    """Open a graph, whatever it takes and gives. Its look-up tables are taken from ``parts``, if given.

    Raises GraphError.
    """
    options = _options()
    # ONNX Runtime's fused CPU kernel takes four times as long as the Add and LayerNormalization it replaces.
    slower_fused = ["SkipLayerNormFusion"] if is_on_cpu(providers) else []
    tables = _shared_tables(model, parts) if parts is not None and is_on_cpu(providers) else {}
    try:
        for name, value in tables.items():
            options.add_initializer(name, value)
        session = ort.InferenceSession(model, options, providers=list(providers), disabled_optimizers=slower_fused)
    except Exception as error:  # ONNX Runtime has a class for each status, all of them plain Exceptions
        raise GraphError(f"ONNX Runtime cannot open the graph: {str(error)[:500]}") from error
    session._model_bytes = None  # kept for a fall-back that we do not use: as large as all the weights
    # The session reads the tables without owning them: the graph keeps them.
    return Graph(session.run, _values(session.get_inputs()), _values(session.get_outputs()), tables)


def prime() -> None:
    """Let the runtime set up what it sets up once per process (6 MB), so that no ticket is blamed for it."""
    ort.InferenceSession(_IDENTITY, _options(), providers=[CPU])


def _values(ports: Sequence[Any]) -> list[Value]:
    return [Value(name=port.name, datatype=_DATATYPES.get(port.type, ""), dims=_dims(port)) for port in ports]


def _dims(port: Any) -> list[int | str] | None:  # noqa: ANN401 - onnxruntime has no types
    """Sizes, or names of those that vary. ONNX Runtime says [] of a scalar and of what it knows nothing of."""
    if not port.type.startswith("tensor(") or not port.shape:
        return None
    return [size if isinstance(size, int) and size >= 0 else str(size or "") for size in port.shape]


def _shared_tables(model: bytes, parts: Parts) -> dict[str, ort.OrtValue]:
    """The graph's look-up tables as values that any number of sessions read. ONNX Runtime 1.32 then drops
    its own copy, to the byte; of a matrix it would keep a packed copy all the same."""
    shared = {}
    for table in find_tables(model):
        dtype = _TABLE_TYPES.get(table.element_type)
        if dtype is not None and len(table.data) == math.prod(table.shape) * dtype.itemsize:
            kind = f"table:{dtype}:{table.shape}"
            shared[table.name] = parts.take(kind, table.data, _maker(table, dtype), size=len(table.data))
    return shared


def _maker(table: GraphTable, dtype: np.dtype[Any]) -> Callable[[], ort.OrtValue]:
    return lambda: ort.OrtValue.ortvalue_from_numpy(np.frombuffer(table.data, dtype).reshape(table.shape).copy())


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without arena and patterns per shape it is as fast, and unloading returns the memory: a graph of
    # 53 MB left 28 to 40 MB behind with the arena, none without it (after malloc_trim).
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return options
