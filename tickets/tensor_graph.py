"""Tensor graphs: whether a graph is what its manifest says, and whether its rows may be run in company.

Owns the two rules about graphs of task ``tensors`` that worker, gate and `tombola pack` share: names, types and
shapes against the manifest; and which graphs treat the leading dimension as independent rows, as far as their
shapes can tell. Pure; what a graph computes shows only when it runs.
"""

from collections.abc import Sequence

from tickets.manifest import Manifest, Tensor
from tickets.onnx_reader import Value


def check_tensors(manifest: Manifest, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
    """Raise ValueError where a graph with these inputs and outputs is not the manifest's."""
    taken, given = {value.name: value for value in inputs}, {value.name: value for value in outputs}
    wanted = [spec.name for spec in manifest.inputs]
    if sorted(taken) != sorted(wanted):
        raise ValueError(f"the graph takes {sorted(taken)}; the manifest says {sorted(wanted)}")
    for spec in manifest.inputs:
        _check(spec, taken[spec.name], "input")
    for spec in manifest.outputs:
        if spec.name not in given:
            raise ValueError(f"the graph gives {sorted(given)}; the manifest names {spec.name!r}")
        _check(spec, given[spec.name], "output")


def why_alone(manifest: Manifest, inputs: Sequence[Value], outputs: Sequence[Value]) -> str:
    """Why the rows of several asks may not be run as one batch, by what the shapes say; "" where they may.

    Rows are independent only where every tensor's leading dimension varies, and varies together, and where the
    sizes of a row's answers follow from the sizes of its inputs.
    """
    for spec in (*manifest.inputs, *manifest.outputs):
        if not spec.shape or spec.shape[0] != -1:
            return f"the first dimension of {spec.name!r} does not vary"
    wanted = {spec.name for spec in manifest.outputs}
    served = [*inputs, *(value for value in outputs if value.name in wanted)]
    leading = {value.dims[0] for value in served if value.dims} - {""}
    if len(leading) > 1:
        return f"the first dimensions go by different names: {', '.join(sorted(map(str, leading)))}"
    known = {dim for value in inputs for dim in (value.dims or [])[1:]}
    shapes = {value.name: value.dims for value in outputs}
    for spec in manifest.outputs:
        dims = shapes.get(spec.name)
        for place, size in enumerate(spec.shape[1:], start=1):
            named = dims[place] if dims is not None else ""
            if size == -1 and (named == "" or named not in known):
                return f"dimension {place} of {spec.name!r} is not one of the inputs'"
    return ""


def _check(spec: Tensor, value: Value, kind: str) -> None:
    if value.datatype != spec.datatype:
        raise ValueError(f"{kind} {spec.name!r} is {value.datatype or 'no tensor'}; the manifest says {spec.datatype}")
    if value.dims is None:
        return
    shape = value.shape
    if len(shape) != len(spec.shape) or any(got not in (-1, want) for got, want in zip(shape, spec.shape, strict=True)):
        raise ValueError(f"{kind} {spec.name!r} has shape {shape}; the manifest says {spec.shape}")
