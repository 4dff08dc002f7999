"""The runtime: ONNX graphs opened as functions. The only file that knows ONNX Runtime.

Owns which execution providers are used and the options of every session, each chosen by
measurement. It leaves memory and lifetimes to `server.sessions`, the meaning of inputs and
outputs to the task modules.
"""

from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

CPU = "CPUExecutionProvider"
PREFERRED_PROVIDERS = ("CUDAExecutionProvider", CPU)


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


def open_graph(model: bytes, providers: Sequence[str]) -> Callable[[NDArray[np.int32]], NDArray[np.float32]]:
    """Open a graph that takes ``input_ids`` (int32) and gives ``logits``, as a function of one to the other.

    Raises GraphError.
    """
    # ONNX Runtime's fused CPU kernel takes four times as long as the Add and LayerNormalization it replaces.
    slower_fused = ["SkipLayerNormFusion"] if is_on_cpu(providers) else []
    try:
        session = ort.InferenceSession(model, _options(), providers=list(providers), disabled_optimizers=slower_fused)
    except Exception as error:  # ONNX Runtime has a class for each status, all of them plain Exceptions
        raise GraphError(f"ONNX Runtime cannot open the graph: {str(error)[:500]}") from error
    inputs = [(tensor.name, tensor.type) for tensor in session.get_inputs()]
    if inputs != [("input_ids", "tensor(int32)")]:
        raise GraphError(f"the graph must take input_ids (int32) alone; it takes {inputs}")
    outputs = [(tensor.name, tensor.type) for tensor in session.get_outputs()]
    if ("logits", "tensor(float)") not in outputs:
        raise GraphError(f"the graph must give logits (float); it gives {outputs}")
    run, wanted = session.run, ["logits"]

    def run_graph(input_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = run(wanted, {"input_ids": input_ids})[0]
        return logits

    return run_graph


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
