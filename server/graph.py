"""The opened graph: what a task may do with a session, whichever runtime holds it.

Owns no behaviour: the names and types of a graph's inputs and outputs, and the call that runs it. `server.runtime`
makes them, the task modules use them, tests may stand in for them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from tickets.onnx_reader import Value

Run = Callable[[Sequence[str], Mapping[str, NDArray[Any]]], list[Any]]
"""Names of outputs and arrays by the names of inputs -> the outputs. Raises what the runtime raises."""


class Graph:
    """A graph that can be run. It keeps what the session reads without owning it (``kept``)."""

    __slots__ = ("inputs", "kept", "outputs", "run")

    def __init__(self, run: Run, inputs: Sequence[Value], outputs: Sequence[Value], kept: object = None) -> None:
        self.run = run
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.kept = kept
