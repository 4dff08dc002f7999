"""Patterns: asks to measure and to try a ticket of tensors with, made from the samples that it carries.

Owns what such a ticket's ordinary ask looks like (the first recorded case; something small where nothing was
recorded), and the same in other sizes. Values are only ever repeated, never invented, where there are samples: an
index that is too large would crash a graph that is sound.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.tensor_ask import TensorAsk, laid_out
from tickets.bundle import Bundle
from tickets.manifest import Tensor
from tickets.tensor_samples import MEMBER, NUMPY_TYPES, Arrays, read_cases

NATURAL_SIZE = 8
"""The size of an ordinary row, so that smaller and larger ones can be told in whole numbers."""
MAX_CASES = 8
_ABSENT_DIM = 8  # of an inner dimension that varies, where no sample says how large it usually is


class Patterns:
    """Asks like those that a ticket will get."""

    def __init__(self, bundle: Bundle, *, by_row: bool) -> None:
        """``by_row``: rows stand for themselves; else asks do. Raises BundleError where the samples do not fit."""
        self._bundle = bundle
        self._specs = bundle.manifest.inputs
        self._cases = list(itertools.islice(_cases(bundle), MAX_CASES))
        first = self._cases[0]
        self._natural = {name: array[:1] for name, array in first.items()} if by_row else first
        self._by_row = by_row
        ordinary = _ask(self._natural)
        self.row_bytes = max(1, ordinary.bytes)
        """Of an ordinary row, or of an ordinary ask."""
        self.rows = max(1, len(array)) if (array := first[self._specs[0].name]).ndim else 1
        """The first dimension of an ordinary ask."""
        self.is_variable = any(-1 in spec.shape[1 if by_row else 0 :] for spec in self._specs)
        """Whether rows (or asks) may have other sizes."""

    def whole(self) -> "Patterns":
        """The same, of asks instead of rows."""
        return Patterns(self._bundle, by_row=False)

    def asks(self) -> list[TensorAsk]:
        """The recorded cases, or the one that was made up."""
        return [_ask(case) for case in self._cases]

    def ask(self, size: int) -> TensorAsk:
        """One ordinary row (or ask), larger or smaller by ``size`` / NATURAL_SIZE as far as it may vary."""
        return _ask({spec.name: self._scaled(spec, size / NATURAL_SIZE) for spec in self._specs})

    def neighbours(self, ask: TensorAsk, count: int) -> list[tuple[TensorAsk, int]]:
        """Rows unlike the ask's first: its fractions are scaled, the rest is kept."""
        return [
            (_ask({name: _varied(array[:1], 1.0 - (k + 1) / (count + 1)) for name, array in ask.arrays.items()}), 0)
            for k in range(count)
        ]

    def _scaled(self, spec: Tensor, ratio: float) -> NDArray[Any]:
        array = self._natural[spec.name]
        first = 1 if self._by_row else 0
        variable = [place for place in range(first, array.ndim) if spec.shape[place] == -1]
        if not variable or ratio == 1.0:
            return array
        shape = list(array.shape)
        for place in variable:
            shape[place] = max(1, round(shape[place] * ratio ** (1 / len(variable))))
        return np.resize(array, tuple(shape))


def _cases(bundle: Bundle) -> Iterator[Arrays]:
    if MEMBER in bundle.members:
        return (case.inputs for case in read_cases(bundle))
    return iter([{spec.name: _made_up(spec) for spec in bundle.manifest.inputs}])


def _made_up(spec: Tensor) -> NDArray[Any]:
    inner = [size if size != -1 else _ABSENT_DIM for size in spec.shape[1:]]
    shape = [1 if spec.shape[0] == -1 else spec.shape[0], *inner] if spec.shape else []
    if spec.datatype == "BYTES":
        return np.full(shape, "a", object)
    dtype = NUMPY_TYPES[spec.datatype]
    if dtype.kind != "f":
        return np.zeros(shape, dtype)
    return np.linspace(0.1, 1.0, math.prod(shape)).astype(dtype).reshape(shape)


def _varied(array: NDArray[Any], factor: float) -> NDArray[Any]:
    return (array * factor).astype(array.dtype) if array.dtype.kind == "f" else array


def _ask(arrays: Arrays) -> TensorAsk:
    datatypes = {dtype: name for name, dtype in NUMPY_TYPES.items()}
    return TensorAsk(arrays, sum(len(laid_out(array, datatypes[array.dtype])) for array in arrays.values()))
