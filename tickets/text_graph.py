"""Text graphs: which graphs classify texts, and what they are fed.

Owns the forms that a text-classification graph may have: our own (``input_ids`` int32 alone) and those that
people export (``input_ids``, ``attention_mask``, ``token_type_ids``, int32 or int64; ``logits`` or one output
of any name). The worker, the reference runner, the gate and `tombola pack` all decide by this. Pure; sessions
and tokenizers are left to them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tickets.onnx_reader import Value

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
LOGITS = "logits"
_INTEGERS: dict[str, type[np.int32] | type[np.int64]] = {"INT32": np.int32, "INT64": np.int64}


class TextForm(msgspec.Struct, frozen=True, kw_only=True):
    """How a graph wants its tokens. ``inputs``: the datatype of each."""

    inputs: dict[str, str]
    output: str

    @property
    def is_plain(self) -> bool:
        """Whether it takes int32 ids and nothing else, as our own graphs do: they find the padding themselves."""
        return self.inputs == {IDS: "INT32"}

    def feeds(self, ids: NDArray[np.int32], lengths: Sequence[int]) -> Mapping[str, NDArray[Any]]:
        """What the graph is given for ids [texts, tokens], of which each text has so many; the rest is padding."""
        out: dict[str, NDArray[Any]] = {}
        for name, datatype in self.inputs.items():
            dtype = _INTEGERS[datatype]
            if name == IDS:
                out[name] = ids.astype(dtype, copy=False)
            elif name == MASK:
                out[name] = (np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]).astype(dtype)
            else:
                out[name] = np.zeros(ids.shape, dtype)  # one sentence, all of it the first
        return out


def text_form(inputs: Sequence[Value], outputs: Sequence[Value], logits: int | None = None) -> TextForm:
    """The form of a graph with these inputs and outputs. ``logits``: how many it must give, where that is known.

    Raises ValueError with a sentence that says what does not fit.
    """
    names = [value.name for value in inputs]
    if IDS not in names or set(names) - {IDS, MASK, TYPES} or len(set(names)) != len(names):
        raise ValueError(f"the graph must take {IDS}, and may take {MASK} and {TYPES}; it takes {names}")
    for value in inputs:
        if value.datatype not in _INTEGERS or (value.dims is not None and len(value.dims) != 2):
            raise ValueError(f"input {value.name} must be int32 or int64 of [texts, tokens]; it is {_shown(value)}")
        if value.dims is not None and value.shape != [-1, -1]:
            raise ValueError(f"input {value.name} must have two variable dimensions; it has {value.dims}")
    found = next((value for value in outputs if value.name == LOGITS), outputs[0] if len(outputs) == 1 else None)
    if found is None:
        given = [value.name for value in outputs]
        raise ValueError(f"the graph must give {LOGITS}, or one output only; it gives {given}")
    if found.datatype != "FP32" or (found.dims is not None and len(found.dims) != 2):
        raise ValueError(f"output {found.name} must be fp32 of [texts, labels]; it is {_shown(found)}")
    if logits is not None and found.dims is not None and found.shape[1] not in (-1, logits):
        raise ValueError(f"the graph has {found.shape[1]} logits; labels and calibration need {logits}")
    return TextForm(inputs={value.name: value.datatype for value in inputs}, output=found.name)


def _shown(value: Value) -> str:
    return f"{value.datatype or 'no tensor'} of {value.dims}"
