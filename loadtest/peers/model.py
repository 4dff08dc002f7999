"""The ticket as every peer runs it: texts in; label, probability and in-scope flag out.

Runs inside the peers' own environments: needs only numpy, onnxruntime and tokenizers. The session's options are
those of Tombola's worker (`server/runtime.py`), and so is the grouping of rows by length, so that what
is compared is the serving, not the model code. Safe to call from several threads.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as in Tombola's worker

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

CALL_TOKENS = 32
"""What one call of the graph costs beyond its tokens, in tokens."""


Answer = dict[str, Any]
"""What one text is answered with: ``label`` (str), ``probability`` (float) and ``in_scope`` (bool). A plain dict,
because the peers' frameworks disagree about what else they can serialise."""


class Ticket:
    """An unpacked ticket (`loadtest.peers.ticket`), opened on one thread of the CPU."""

    def __init__(self, folder: str | Path, *, is_grouped: bool = True) -> None:
        """``is_grouped`` False pads every batch to its longest row, as the plainest loop would."""
        folder = Path(folder)
        facts = json.loads((folder / "ticket.json").read_text())
        self._labels: list[str] = facts["labels"]
        self._temperature = np.float32(facts["temperature"])
        self._out_of_scope: str = facts["out_of_scope"]
        self._threshold = np.float32(facts["threshold"])
        self._pad_id: int = facts["pad_id"]
        self._call_tokens = CALL_TOKENS if is_grouped else 1 << 30
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(facts["max_tokens"])
        tokenizer.no_padding()
        self._encode: Any = tokenizer.encode_batch_fast
        self._session = _open(folder / "model.onnx")

    def classify(self, texts: Sequence[str]) -> list[Answer]:
        """The answers to ``texts``, in order."""
        ids = [encoding.ids for encoding in self._encode(list(texts))]
        groups = _cut_by_length([len(tokens) for tokens in ids], self._call_tokens)
        if len(groups) == 1:
            return self._answers(self._logits(ids))
        answers: list[Answer] = [{}] * len(ids)
        for group in groups:
            for row, answer in zip(group, self._answers(self._logits([ids[row] for row in group])), strict=True):
                answers[row] = answer
        return answers

    def _logits(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        padded = np.full((len(ids), max(map(len, ids))), self._pad_id, np.int32)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = tokens
        logits: NDArray[np.float32] = self._session.run(["logits"], {"input_ids": padded})[0]
        return logits

    def _answers(self, logits: NDArray[np.float32]) -> list[Answer]:
        scaled = logits / self._temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        np.exp(scaled, out=scaled)
        scaled /= scaled.sum(axis=1, keepdims=True)
        inside = scaled[:, : len(self._labels)]
        best = inside.argmax(axis=1)
        probability = inside[np.arange(len(inside)), best]
        if self._out_of_scope == "class":
            in_scope = np.float32(1.0) - scaled[:, -1] >= self._threshold
        else:
            in_scope = probability >= (self._threshold if self._out_of_scope == "max_probability" else 0)
        return [
            {"label": self._labels[index], "probability": p, "in_scope": is_in}
            for index, p, is_in in zip(best.tolist(), probability.tolist(), in_scope.tolist(), strict=True)
        ]


def _open(path: Path) -> Any:  # noqa: ANN401 - onnxruntime has no types
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return ort.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
    )


def _cut_by_length(lengths: Sequence[int], call_tokens: int) -> list[list[int]]:
    """Rows grouped so that padding each group to its longest costs least (as `server/text_classification.py`)."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    cuts, longest = [0], lengths[order[0]]
    for position, row in enumerate(order):
        if (longest - lengths[row]) * (len(order) - position) > call_tokens:
            cuts.append(position)
            longest = lengths[row]
    if len(cuts) == 1:
        return [list(range(len(lengths)))]
    stops = [*cuts[1:], len(order)]
    return [order[start:stop] for start, stop in zip(cuts, stops, strict=True)]
