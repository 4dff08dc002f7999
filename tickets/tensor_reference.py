"""The reference runner for tickets of tensors: the graph opened and run in the plainest way that is right.

Owns what such a ticket answers, one ask at a time, for `tombola verify --run` and `tombola pack`; the server's
batches have it to agree with. Needs onnxruntime, imported when a ticket is opened. It runs the graph in this
process: for bundles from strangers, use it in a process of its own.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickets.bundle import Bundle, BundleError
from tickets.manifest import Manifest
from tickets.onnx_reader import describe
from tickets.reference import Reference, guard, open_graph, reproduce_samples
from tickets.tensor_graph import check_tensors
from tickets.tensor_samples import NUMPY_TYPES, Arrays, check_array, compare, read_cases


class TensorReference:
    """One ticket of tensors, opened on ``threads`` cores of the CPU.

    Raises BundleError (``bad_graph``, ``bad_manifest``), ModuleNotFoundError without onnxruntime.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        if bundle.manifest.task != "tensors":
            raise BundleError("bad_manifest", f"task {bundle.manifest.task!r} is not about tensors")
        model = bytes(bundle.members["model.onnx"])
        self.bundle = bundle
        self._session = open_graph(model, threads)
        guard("bad_graph", _check, bundle.manifest, model)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """The answer to one ask. Raises BundleError ``bad_graph`` where it fails or is not as declared."""
        specs = self.bundle.manifest.outputs
        names = [spec.name for spec in specs]
        answers = guard("bad_graph", self._session.run, names, dict(inputs))
        arrays = {name: np.asarray(answer) for name, answer in zip(names, answers, strict=True)}
        for spec in specs:
            guard("bad_graph", check_array, spec, arrays[spec.name])
            if arrays[spec.name].dtype != NUMPY_TYPES[spec.datatype]:
                raise BundleError("bad_graph", f"output {spec.name!r} is not {spec.datatype}")
        return arrays


def reproduce_cases(reference: TensorReference) -> int:
    """Answer the bundle's recorded cases again; how many agree, which is all. Raises BundleError (``bad_samples``)."""
    cases = read_cases(reference.bundle)
    for number, case in enumerate(cases):
        try:
            compare(case, reference.run(case.inputs))
        except BundleError:
            raise
        except ValueError as error:
            raise BundleError("bad_samples", f"case {number}: {error}") from error
    return len(cases)


def reproduce(bundle: Bundle) -> int:
    """Open a ticket of any task and answer its samples again; how many there are. Raises as those two do."""
    if bundle.manifest.task == "tensors":
        return reproduce_cases(TensorReference(bundle))
    return reproduce_samples(Reference(bundle))


def _check(manifest: Manifest, model: bytes) -> None:
    described = describe(model)
    check_tensors(manifest, described.inputs, described.outputs)
