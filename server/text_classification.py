"""The text-classification task: texts in; label, probabilities and in-scope score out.

Owns tokenizing in batch with the ticket's own tokenizer, padding, temperature, softmax and
the in-scope rule of the manifest's calibration. What the graph takes is `tickets.text_graph`'s to say;
it gives logits [batch, labels (+ 1 out of scope)]. It leaves sessions and their memory to
`server.sessions`, batches to `server.scheduler`.
"""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing.cost import Cost
from server.errors import BadRequest
from server.graph import Graph
from server.sharing import Parts
from server.task import (
    CHOICE,
    CONFIDENCE,
    IN_SCOPE,
    MAX_ROWS,
    BytesColumn,
    Column,
    Columns,
    FixedColumn,
    Work,
    length_prefixed,
)
from server.tensor import Tensor, TensorError, decode_bytes
from server.wordpiece import open_tokenizer
from tickets.bundle import Bundle
from tickets.text_graph import IDS, text_form

MAX_TEXT_BYTES = 1 << 20
CHARACTERS_PER_TOKEN = 64
"""A text is cut to max_tokens x this many characters before it is tokenized: a megabyte takes 0.25 s to
tokenize, only for its first few dozen tokens to be kept."""
_BYTES_PER_TOKEN = 5  # of English in a word-piece vocabulary; only an estimate for the scheduler
_SPECIAL_TOKENS = 2
_SAMPLE_WORDS = ["please", "the", "."]  # the first is of the length that words have; an unknown one is one token too

RunGraph = Callable[[NDArray[np.int32]], NDArray[np.float32]]
"""Padded ids -> logits."""
RunMasked = Callable[[NDArray[np.int32], Sequence[int]], NDArray[np.float32]]
"""Padded ids, and how many of each text's are not padding -> logits."""


def open_text(
    bundle: Bundle, graph: Graph, *, call_tokens: int = 32, parts: Parts | None = None
) -> "TextClassification":
    """The task on an opened graph of any form that `tickets.text_graph` knows. Raises ValueError for another."""
    form = text_form(graph.inputs, graph.outputs)  # how many logits there are shows when it is warmed up
    names = [form.output]
    if form.is_plain:

        def run(ids: NDArray[np.int32]) -> NDArray[np.float32]:
            logits: NDArray[np.float32] = graph.run(names, {IDS: ids})[0]
            return logits

        return TextClassification(bundle, run, call_tokens=call_tokens, parts=parts)

    def run_masked(ids: NDArray[np.int32], lengths: Sequence[int]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = graph.run(names, form.feeds(ids, lengths))[0]
        return logits

    return TextClassification(bundle, None, run_masked=run_masked, call_tokens=call_tokens, parts=parts)


class TextClassification:
    """One ticket of this task, whose manifest has been checked (`tickets.manifest.check_manifest`)."""

    def __init__(
        self,
        bundle: Bundle,
        run_graph: RunGraph | None,
        *,
        run_masked: RunMasked | None = None,
        call_tokens: int = 32,
        parts: Parts | None = None,
    ) -> None:
        """``run_graph`` or ``run_masked``: the graph, as it wants its tokens. ``call_tokens``: what one call of it
        costs beyond its tokens, in tokens (see `cut_by_length`). ``parts``: where to take a tokenizer from that
        others may have too."""
        manifest = bundle.manifest
        if manifest.tokenizer is None:
            raise ValueError("the ticket has no tokenizer")
        self._run_graph, self._run_masked = run_graph, run_masked
        self._call_tokens = call_tokens
        self._calibration = manifest.calibration
        self._labels = [length_prefixed(label) for label in manifest.labels]
        self._logits = _logits_needed(bundle)
        self._outputs = [tensor.name for tensor in manifest.outputs]
        self.max_size = manifest.tokenizer.max_tokens
        self._max_characters = self.max_size * CHARACTERS_PER_TOKEN
        self._pad_id = manifest.tokenizer.pad_id
        parts = Parts() if parts is None else parts
        tokenizer = bundle.members[manifest.tokenizer.member]
        self._encode = parts.take(
            f"tokenizer:{self.max_size}", tokenizer, lambda: open_tokenizer(bytes(tokenizer), self.max_size, parts)
        )

    def parse(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> Work:
        """Check one ask: a single BYTES tensor ``text`` of 1 to 1024 UTF-8 texts. Raises BadRequest."""
        if len(inputs) != 1 or inputs[0].name != "text":
            raise BadRequest(f"this model has one input, 'text'; got {[tensor.name for tensor in inputs]}")
        texts, longest = self._texts(inputs[0])
        unknown = [name for name in outputs if name not in self._outputs]
        if unknown or len(set(outputs)) != len(outputs):
            raise BadRequest(f"outputs are {self._outputs}, each at most once; got {list(outputs)}")
        return Work(rows=texts, longest=longest, outputs=list(outputs) or self._outputs)

    def warm_up(self) -> None:
        """Classify a lone text and a small batch. Raises as `run` does."""
        self.run(["warm up"])
        self.run(["", "a longer text to warm up"] * 4)

    def run(self, rows: Sequence[str]) -> Columns:
        """Classify the texts. Raises ValueError when the graph does not give finite logits of the right shape."""
        began = time.perf_counter()
        ids = self._encode(rows)
        tokenize_s = time.perf_counter() - began
        groups = cut_by_length([len(tokens) for tokens in ids], self._call_tokens)
        if len(groups) == 1:
            columns = self._columns(self._logits_of(ids))
        else:
            logits = np.empty((len(ids), self._logits), np.float32)
            for group in groups:
                logits[group] = self._logits_of([ids[row] for row in group])
            columns = self._columns(logits)
        columns.tokenize_s = tokenize_s
        return columns

    def sample_rows(self, rows: int, size: int) -> list[str]:
        """Texts of ``size`` tokens, two of them special, of a word that this vocabulary takes for one token."""
        lengths = [len(ids) for ids in self._encode(_SAMPLE_WORDS)]
        word = _SAMPLE_WORDS[lengths.index(min(lengths))]
        return [" ".join([word] * max(1, min(size, self.max_size) - _SPECIAL_TOKENS))] * rows

    def cost_in_bytes(self, cost: Cost) -> Cost:
        """Sizes from tokens to bytes of text; texts beyond ``max_tokens`` cost no more than those."""
        return Cost(
            cost.fixed_ms,
            cost.row_ms + _SPECIAL_TOKENS * cost.unit_ms,
            cost.unit_ms / _BYTES_PER_TOKEN,
            cost.spread,
            float((self.max_size - _SPECIAL_TOKENS) * _BYTES_PER_TOKEN),
        )

    def _texts(self, tensor: Tensor) -> tuple[list[str], int]:
        if tensor.datatype != "BYTES":
            raise BadRequest(f"input 'text' is BYTES, not {tensor.datatype}")
        if len(tensor.shape) != 1 or not 1 <= tensor.shape[0] <= MAX_ROWS:
            raise BadRequest(f"input 'text' has shape [n] with 1 <= n <= {MAX_ROWS}; got {tensor.shape}")
        try:
            raw = decode_bytes(tensor.data, tensor.shape[0])
        except TensorError as error:
            raise BadRequest(str(error)) from error
        largest = max(map(len, raw))
        if largest > MAX_TEXT_BYTES:
            raise BadRequest(f"a text has {largest} bytes; the limit is {MAX_TEXT_BYTES}")
        try:
            texts = [element.decode() for element in raw]
        except UnicodeDecodeError as error:
            raise BadRequest(f"a text is not UTF-8: {error.reason} at byte {error.start}") from error
        if largest > self._max_characters:
            texts = [text[: self._max_characters] for text in texts]
        return texts, min(_SPECIAL_TOKENS + largest // _BYTES_PER_TOKEN, self.max_size)

    def _logits_of(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        padded = np.full((len(ids), max(1, *map(len, ids))), self._pad_id, np.int32)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = tokens
        if self._run_graph is not None:
            logits = self._run_graph(padded)
        else:
            assert self._run_masked is not None
            logits = self._run_masked(padded, [len(tokens) for tokens in ids])
        if logits.shape != (len(ids), self._logits):
            raise ValueError(f"graph gave logits of shape {logits.shape}, not {(len(ids), self._logits)}")
        return logits

    def _columns(self, logits: NDArray[np.float32]) -> Columns:
        rows = len(logits)
        with np.errstate(over="ignore"):
            scaled = np.divide(logits, self._calibration.temperature, dtype=np.float32)
        if not np.isfinite(scaled).all():
            raise ValueError("graph gave logits that are not finite")
        scaled -= scaled.max(axis=1, keepdims=True)
        np.exp(scaled, out=scaled)
        scaled /= scaled.sum(axis=1, keepdims=True)
        labels = np.ascontiguousarray(scaled[:, : len(self._labels)])
        best = labels.argmax(axis=1)
        probability = labels[np.arange(rows), best]
        score = self._in_scope_score(scaled, probability)
        confidence = scaled.max(axis=1) if scaled.shape[1] > labels.shape[1] else probability
        columns: dict[str, Column] = {
            "label": BytesColumn(elements=[self._labels[i] for i in best.tolist()]),
            "probability": _column("FP32", probability),
            IN_SCOPE: _column("BOOL", score >= np.float32(self._calibration.threshold)),
            "in_scope_score": _column("FP32", score),
            "probabilities": _column("FP32", labels),
            CONFIDENCE: _column("FP32", confidence),
            CHOICE: _column("INT32", best.astype(np.int32)),
        }
        return Columns(columns)

    def _in_scope_score(self, all_: NDArray[np.float32], probability: NDArray[np.float32]) -> NDArray[np.float32]:
        match self._calibration.out_of_scope:
            case "class":
                return np.float32(1.0) - all_[:, -1]
            case "max_probability":
                return probability
            case "none":
                return np.ones(len(all_), np.float32)


def _logits_needed(bundle: Bundle) -> int:
    return len(bundle.manifest.labels) + (bundle.manifest.calibration.out_of_scope == "class")


def cut_by_length(lengths: Sequence[int], call_tokens: int) -> list[list[int]]:
    """Rows grouped so that padding each group to its longest row costs least; one group when that is cheapest.

    A group costs one more call of the graph, worth ``call_tokens`` tokens. On CLINC150's texts (5 to 25
    tokens) this made batches of 16 run 1.25 times and of 32 run 1.5 times as fast on one core.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    cuts, longest = [0], lengths[order[0]]
    for position, row in enumerate(order):
        if (longest - lengths[row]) * (len(order) - position) > call_tokens:
            cuts.append(position)
            longest = lengths[row]
    if len(cuts) == 1:
        return [list(range(len(lengths)))]
    return [order[start:stop] for start, stop in pairwise([*cuts, len(order)])]


def _column(datatype: str, array: NDArray[Any]) -> FixedColumn:
    row_shape = list(array.shape[1:])
    row_bytes = array.itemsize * (row_shape[0] if row_shape else 1)
    return FixedColumn(datatype=datatype, row_shape=row_shape, row_bytes=row_bytes, data=array.tobytes())
