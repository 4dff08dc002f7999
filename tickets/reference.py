"""The reference runner: a ticket opened and run in the plainest way that is right.

Owns what a text-classification ticket's answers *are* (tokenize, pad, run, temperature,
softmax, in-scope rule), so that `tombola verify --run` and the factory's evaluation measure
the bundle itself, and the server's fast path has something to agree with. Needs onnxruntime
and tokenizers, imported only here and only when a ticket is opened. It runs the graph in this
process: for bundles from strangers, use it in a process of its own.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ParamSpec, TypeVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from tickets.bundle import Bundle, BundleError
from tickets.onnx_reader import describe
from tickets.text_graph import TextForm, text_form

BATCH_TEXTS = 32
SAMPLE_TOLERANCE = 1e-3
"""How far a probability may stand from the recorded one: kernels differ by host, answers must not."""

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


class Samples(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The member ``samples.json``: texts and what the ticket answered when it was packed."""

    texts: Annotated[list[Annotated[str, Meta(max_length=65536)]], Meta(min_length=1, max_length=1024)]
    labels: list[str | None]
    """The label, or null where the text was out of scope."""
    probabilities: list[list[float]] | None = None


class Classified(msgspec.Struct, frozen=True, kw_only=True):
    """The answers for n texts. ``labels`` are the best in-scope ones, also where ``in_scope`` is false."""

    labels: list[str]
    probability: NDArray[np.float32]  # [n]
    in_scope: NDArray[np.bool_]  # [n]
    in_scope_score: NDArray[np.float32]  # [n]
    confidence: NDArray[np.float32]  # [n], the largest probability, that of being out of scope included
    probabilities: NDArray[np.float32]  # [n, labels]


class Reference:
    """One text-classification ticket, opened on ``threads`` cores of the CPU.

    Raises BundleError (``bad_graph``, ``bad_tokenizer``, ``bad_manifest``) when its members are not
    what its manifest says, ModuleNotFoundError without onnxruntime.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        manifest = bundle.manifest
        if manifest.task != "text-classification" or manifest.tokenizer is None:
            raise BundleError("bad_manifest", f"task {manifest.task!r} cannot be run here")
        self.bundle = bundle
        self._calibration = manifest.calibration
        self._labels = manifest.labels
        self._logits = len(manifest.labels) + (manifest.calibration.out_of_scope == "class")
        self._pad_id = manifest.tokenizer.pad_id
        self._tokenizer = open_tokenizer(bundle)
        model = bytes(bundle.members["model.onnx"])
        self._session = open_graph(model, threads)
        self._form = guard("bad_graph", _form, model, self._logits)

    def tokens(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """``input_ids`` [texts, longest], padded on the right."""
        return self._padded(texts)[0]

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What the graph says: [texts, labels (+ 1 out of scope)]. Raises BundleError ``bad_graph``."""
        parts = [np.empty((0, self._logits), np.float32)]
        for start in range(0, len(texts), BATCH_TEXTS):
            ids, lengths = self._padded(texts[start : start + BATCH_TEXTS])
            part = guard("bad_graph", self.run, ids, lengths)
            if part.shape != (len(ids), self._logits) or not np.isfinite(part).all():
                raise BundleError("bad_graph", f"logits have shape {part.shape}, or are not finite")
            parts.append(part)
        return np.concatenate(parts)

    def run(self, ids: NDArray[np.int32], lengths: Sequence[int] | None = None) -> NDArray[np.float32]:
        """The bare graph: ids [texts, tokens] -> logits. ``lengths``: how many of each text's are not padding
        (default: all). Raises what ONNX Runtime raises."""
        lengths = [ids.shape[1]] * len(ids) if lengths is None else lengths
        (logits,) = self._session.run([self._form.output], dict(self._form.feeds(ids, lengths)))
        return np.asarray(logits)

    def classify(self, texts: Sequence[str]) -> Classified:
        """The calibrated answers, as the manifest's ``calibration`` defines them."""
        scaled = self.logits(texts) / np.float32(self._calibration.temperature)
        exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        softmax = exponents / exponents.sum(axis=1, keepdims=True)
        probabilities = softmax[:, : len(self._labels)]
        best = probabilities.argmax(axis=1)
        probability = probabilities[np.arange(len(best)), best]
        score = {
            "class": lambda: 1 - softmax[:, -1],
            "max_probability": lambda: probability,
            "none": lambda: np.ones_like(probability),
        }[self._calibration.out_of_scope]()
        return Classified(
            labels=[self._labels[i] for i in best],
            probability=probability,
            in_scope=score >= np.float32(self._calibration.threshold),
            in_scope_score=score,
            confidence=softmax.max(axis=1),
            probabilities=probabilities,
        )

    def _padded(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], list[int]]:
        rows = guard("bad_tokenizer", self._tokenizer.encode_batch, list(texts))
        lengths = [len(row.ids) for row in rows]
        ids = np.full((len(rows), max(lengths, default=1)), self._pad_id, np.int32)
        for row, padded in zip(rows, ids, strict=True):
            padded[: len(row.ids)] = row.ids
        return ids, lengths


def reproduce_samples(reference: Reference) -> int:
    """Answer the bundle's own samples again; the number of texts that agree, which is all of them.

    Raises BundleError (``bad_samples``) where there are none, or an answer differs from the recorded one.
    """
    samples = read_samples(reference.bundle)
    answers = reference.classify(samples.texts)
    for i, expected in enumerate(samples.labels):
        label = answers.labels[i] if answers.in_scope[i] else None
        if label != expected:
            raise BundleError("bad_samples", f"sample {i} is answered {label!r}; recorded is {expected!r}")
    if samples.probabilities is not None:
        recorded = np.asarray(samples.probabilities, np.float32)
        worst = float(np.abs(recorded - answers.probabilities).max())
        if not worst <= SAMPLE_TOLERANCE:
            raise BundleError("bad_samples", f"a probability differs by {worst:.2g} from the recorded one")
    return len(samples.texts)


def read_samples(bundle: Bundle) -> Samples:
    """The bundle's recorded samples. Raises BundleError (``bad_samples``)."""
    if "samples.json" not in bundle.members:
        raise BundleError("bad_samples", "the bundle has no samples.json")
    try:
        samples = msgspec.json.decode(bytes(bundle.members["samples.json"]), type=Samples)
    except (ValueError, RecursionError) as error:
        raise BundleError("bad_samples", f"samples.json does not decode: {error}") from error
    widths = [len(row) for row in samples.probabilities or ()]
    expected = [len(bundle.manifest.labels)] * len(samples.texts) if samples.probabilities is not None else []
    if len(samples.labels) != len(samples.texts) or widths != expected:
        raise BundleError("bad_samples", "texts, labels and probabilities do not have the same number of rows")
    return samples


def open_tokenizer(bundle: Bundle) -> Any:  # noqa: ANN401 - tokenizers is imported only here
    """The ticket's tokenizer, cutting at ``max_tokens`` and never padding. Raises BundleError (``bad_tokenizer``)."""
    from tokenizers import Tokenizer

    spec = bundle.manifest.tokenizer
    assert spec is not None
    tokenizer = guard("bad_tokenizer", Tokenizer.from_buffer, bytes(bundle.members[spec.member]))
    if tokenizer.get_vocab_size() > spec.vocabulary:
        raise BundleError(
            "bad_tokenizer", f"tokenizer has {tokenizer.get_vocab_size()} pieces, manifest {spec.vocabulary}"
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=spec.max_tokens)
    return tokenizer


def tokenizer_facts(data: bytes) -> tuple[int, int | None]:
    """How many ids a tokenizer.json may give, and which of them is padding, as far as it says. Raises what the
    library raises on a bad one."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(data)
    ids = tokenizer.get_vocab().values()
    padding = tokenizer.padding
    named = (tokenizer.token_to_id(piece) for piece in ("[PAD]", "<pad>"))
    pad_id = padding["pad_id"] if padding else next((number for number in named if number is not None), None)
    return max(tokenizer.get_vocab_size(), max(ids, default=0) + 1), pad_id


def open_graph(model: bytes, threads: int) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """An inference session on ``threads`` cores of the CPU. Raises BundleError (``bad_graph``)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # what is wrong is raised, not printed
    # External data needs a file name to be relative to; a graph from memory has none, so none is read.
    return guard(
        "bad_graph",
        onnxruntime.InferenceSession,
        model,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],  # slower than what it replaces on the CPU
    )


def _form(model: bytes, logits: int) -> TextForm:
    described = describe(model)
    return text_form(described.inputs, described.outputs, logits)


def guard(code: str, call: Callable[_Args, _Result], *args: _Args.args, **named: _Args.kwargs) -> _Result:
    """Run foreign code on foreign bytes; whatever it raises becomes a BundleError."""
    try:
        return call(*args, **named)
    except MemoryError:
        raise
    except BaseException as error:
        # tokenizers panics with a BaseException of its own; a keyboard interrupt stays one.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BundleError(code, str(error).strip().split("\n")[0][:500]) from error
