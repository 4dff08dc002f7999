"""Matching: whether a manifest says of its graph and its tokenizer what they are, without opening either.

Owns the rules of each task that go beyond `tickets.manifest.check_manifest`, which knows only the manifest.
What the graph does is left to the samples. Pure.
"""

from server.gate.scan import Scanned
from server.gate.tokens import Tokens
from tickets.bundle import Bundle
from tickets.manifest import Manifest
from tickets.onnx_reader import Described
from tickets.tensor_graph import check_tensors
from tickets.text_graph import IDS, text_form

TASKS = ("text-classification", "tensors")


class MatchError(ValueError):
    """A manifest that says something else than its members, and where."""


def match(bundle: Bundle, graph: Described, scanned: Scanned, tokens: Tokens | None) -> str:
    """Compare; the sentence that says what agrees. ``tokens``: of the bundle's tokenizer. Raises MatchError."""
    manifest = bundle.manifest
    if manifest.task not in TASKS:
        raise MatchError(f"task {manifest.task!r} is not served here; {' and '.join(TASKS)} are")
    if manifest.task == "text-classification":
        return _match_text(manifest, graph, scanned, tokens)
    return _match_tensors(manifest, graph)


def _match_text(manifest: Manifest, graph: Described, scanned: Scanned, tokens: Tokens | None) -> str:
    labels = len(manifest.labels) + (manifest.calibration.out_of_scope == "class")
    try:
        form = text_form(graph.inputs, graph.outputs, labels)
    except ValueError as error:
        raise MatchError(str(error)) from error
    spec = manifest.tokenizer
    if spec is None or tokens is None:
        raise MatchError("a text-classification ticket needs a tokenizer")
    if tokens.largest_id >= spec.vocabulary:
        raise MatchError(
            f"the tokenizer has ids up to {tokens.largest_id}; the manifest says there are {spec.vocabulary}"
        )
    rows = scanned.tables.get(IDS)
    if rows is not None and rows < spec.vocabulary:
        raise MatchError(f"the graph's table has {rows} rows; the manifest's vocabulary has {spec.vocabulary} pieces")
    return f"{', '.join(form.inputs)} -> {form.output} of {labels}; {tokens.pieces} pieces"


def _match_tensors(manifest: Manifest, graph: Described) -> str:
    try:
        check_tensors(manifest, graph.inputs, graph.outputs)
    except ValueError as error:
        raise MatchError(str(error)) from error
    return f"{len(manifest.inputs)} inputs, {len(manifest.outputs)} outputs"
