"""The trial: an opened ticket asked what it was asked when it was packed, and timed.

Owns the samples (through the very task that workers serve with), the comparison of answers alone and in
company, the profile of one row alone, and the answers to an evidence set. It decides nothing about policies
(`server.gate.judgement`). Whatever it runs has been confined before.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from server.task import CONFIDENCE, Columns, Task, Work, tensors
from server.tensor import Tensor, decode_bytes, encode_bytes, to_array
from tickets.bundle import Bundle
from tickets.evidence import Answer
from tickets.reference import SAMPLE_TOLERANCE, Samples, read_samples
from tickets.tensor_samples import Recorded, compare, read_cases

COMPANY_TOLERANCE = 1e-5
"""By which a probability may differ with what else is in the batch."""
MAX_ALONE = 64
"""Samples that are also run alone."""
BATCH_ROWS = 64
LOOK_MS, MIN_LOOKS, MAX_LOOKS = 60.0, 5, 100
"""How long one row alone is looked at, and how often at least and at most."""

Rows = Sequence[Any]


class TrialError(ValueError):
    """An answer that is not what it should be, and which."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One row alone on this host, in the running thread's own milliseconds."""

    p50_ms: float
    worst_ms: float
    runs: int


class Trial:
    """A ticket's own samples. Raises BundleError where it carries none, or they have another form."""

    def __init__(self, bundle: Bundle, task: Task) -> None:
        self._bundle, self._task = bundle, task
        is_text = bundle.manifest.task == "text-classification"
        self._samples = read_samples(bundle) if is_text else None
        self._cases = [] if is_text else read_cases(bundle)

    def reproduce(self) -> str:
        """Answer the samples again; a sentence of what agrees. Raises TrialError, and what the task raises."""
        if self._samples is not None:
            return self._reproduce_texts(self._samples)
        for number, case in enumerate(self._cases):
            try:
                compare(case, self._run_case(case))
            except ValueError as error:
                raise TrialError(f"case {number}: {error}") from error
        return f"{len(self._cases)} cases give what they gave when they were recorded"

    def profile(self) -> Profile:
        """Time single rows of the samples, in turns."""
        asks = self._single_rows()
        self._task.run(asks[0])
        times: list[float] = []
        began = time.monotonic()
        while len(times) < MAX_LOOKS:
            start = time.thread_time()
            self._task.run(asks[len(times) % len(asks)])
            times.append((time.thread_time() - start) * 1000)
            if (time.monotonic() - began) * 1000 > LOOK_MS and len(times) >= MIN_LOOKS:
                break
        return Profile(p50_ms=round(statistics.median(times), 4), worst_ms=round(max(times), 4), runs=len(times))

    def answers(self, texts: Sequence[str]) -> list[Answer]:
        """The answers to any texts, in batches. Only for text classification; raises what the task raises."""
        found: list[Answer] = []
        for start in range(0, len(texts), BATCH_ROWS):
            found += _answers(self._columns(texts[start : start + BATCH_ROWS]))
        return found

    def _reproduce_texts(self, samples: Samples) -> str:
        company = [
            self._columns(samples.texts[at : at + BATCH_ROWS]) for at in range(0, len(samples.texts), BATCH_ROWS)
        ]
        labels = [label for columns in company for label in _labels(columns)]
        in_scope = np.concatenate([_array(columns, "in_scope") for columns in company])
        probabilities = np.concatenate([_array(columns, "probabilities") for columns in company])
        for i, expected in enumerate(samples.labels):
            label = labels[i] if in_scope[i] else None
            if label != expected:
                raise TrialError(f"sample {i} is answered {label!r}; recorded is {expected!r}")
        worst = 0.0
        if samples.probabilities is not None:
            worst = float(np.abs(np.asarray(samples.probabilities, np.float32) - probabilities).max())
            if not worst <= SAMPLE_TOLERANCE:
                raise TrialError(f"a probability differs by {worst:.2g} from the recorded one")
        for i, text in enumerate(samples.texts[:MAX_ALONE]):
            alone = _array(self._columns([text]), "probabilities")[0]
            difference = float(np.abs(alone - probabilities[i]).max())
            if not difference <= COMPANY_TOLERANCE:
                raise TrialError(
                    f"sample {i} is answered differently alone and in a batch (by {difference:.2g}): the graph mixes "
                    "rows, or minds padding, or quantizes dynamically"
                )
        return f"{len(labels)} samples are answered as when they were recorded, alone as in company"

    def _columns(self, texts: Sequence[str]) -> Columns:
        work = self._task.parse([_text_tensor(texts)], [])
        return self._task.run(work.rows)

    def _run_case(self, case: Recorded) -> dict[str, NDArray[Any]]:
        work = self._parsed(case)
        columns = self._task.run(work.rows)
        return {tensor.name: _to_array(tensor) for tensor in tensors(columns, work.outputs, 0, len(work.rows))}

    def _parsed(self, case: Recorded) -> Work:
        inputs = [_tensor(name, array, self._datatype(name)) for name, array in case.inputs.items()]
        return self._task.parse(inputs, [])

    def _single_rows(self) -> list[Rows]:
        if self._samples is not None:
            texts = self._samples.texts[:MAX_ALONE]
            return [self._task.parse([_text_tensor([text])], []).rows for text in texts]
        return [self._parsed(case).rows[:1] for case in self._cases]

    def _datatype(self, name: str) -> str:
        return next(tensor.datatype for tensor in self._bundle.manifest.inputs if tensor.name == name)


def _answers(columns: Columns) -> Iterator[Answer]:
    rows = zip(
        _labels(columns),
        _array(columns, "in_scope").tolist(),
        _array(columns, CONFIDENCE).tolist(),
        _array(columns, "probability").tolist(),
        strict=True,
    )
    for label, in_scope, confidence, probability in rows:
        yield Answer(label, bool(in_scope), confidence, probability >= confidence)


def _labels(columns: Columns) -> list[str]:
    column = columns["label"]
    count = len(_array(columns, "in_scope"))
    return [element.decode() for element in decode_bytes(column.rows(0, count), count)]


def _array(columns: Columns, name: str) -> NDArray[Any]:
    rows = len(columns["in_scope"].rows(0, 1 << 30))  # a byte a row
    return to_array(tensors(columns, [name], 0, rows)[0])


def _text_tensor(texts: Sequence[str]) -> Tensor:
    return Tensor("text", "BYTES", [len(texts)], encode_bytes([text.encode() for text in texts]))


def _tensor(name: str, array: NDArray[Any], datatype: str) -> Tensor:
    if datatype == "BYTES":
        data = encode_bytes([str(element).encode() for element in array.ravel().tolist()])
    else:
        data = np.ascontiguousarray(array).tobytes()
    return Tensor(name, datatype, list(array.shape), data)


def _to_array(tensor: Tensor) -> NDArray[Any]:
    if tensor.datatype != "BYTES":
        return to_array(tensor)
    count = int(np.prod(tensor.shape, dtype=np.int64))
    texts = np.empty(count, object)
    texts[:] = [element.decode() for element in decode_bytes(tensor.data, count)]
    return texts.reshape(tuple(tensor.shape))
