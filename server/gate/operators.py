"""Operators: which may be in a stranger's graph.

Owns the lists and the reasons. All operators of the domains named here may be run, but for those that reach
out of the graph, load code, or run for as long as they like. Whether this runtime has an operator is its own
to say.
"""

DOMAINS = ("ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Operator domains that may be run; the first is also written as the empty name."""

LOOPS = ("Loop", "Scan")
"""They may never end, and what they allocate is nobody's to foresee; `Wanted.allows_loops` lets them pass."""

_REACHES_OUT = "reaches out of the graph or loads code"
_SEARCHES = "runs a graph of its own for as long as it likes"
_TRAINS = "is for training"

REFUSED: dict[str, str] = {
    **dict.fromkeys(
        (
            "EPContext", "PythonOp", "PythonOpGrad", "ATen", "ATenOp", "ExternalCall", "Snpe", "QNN", "OpenVINO",
            "TritonOp", "NcclAllReduce", "NcclAllGather", "NcclReduceScatter", "AllReduce", "AllGather", "AllToAll",
            "Send", "Recv", "YieldOp", "HttpCall", "AzureAudioToText", "AzureTextToText", "AzureTritonInvoker",
        ),
        _REACHES_OUT,
    ),
    **dict.fromkeys(("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"), _SEARCHES),
    **dict.fromkeys(("Gradient", "GraphCall", "AdamOptimizer", "SGDOptimizerV2", "AdamWOptimizer"), _TRAINS),
    "Tokenizer": "splits text by regular expressions of the graph's own, which may take for ever",
}  # fmt: skip
"""Operator, of any domain -> what is wrong with it."""
