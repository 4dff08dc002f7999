"""Masks: which weights survive, by parameter name; how dense they are; and their file, one bit a weight.

A file is an npz of two arrays: ``layout`` (JSON: format, names and shapes in order, digest) and ``bits`` (every mask
packed eight weights to a byte, first weight in the highest bit, each mask beginning a new byte).
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tickets.files import write_whole

FORMAT = 1


class MaskError(ValueError):
    """A file of masks that is not there, not whole, or of another format; or masks that do not fit together."""


def full(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks under which every weight survives."""
    return {name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in weights.items()}


def density(masks: Mapping[str, Tensor]) -> float:
    """The share of weights that survive, of all weights that could be pruned. 1 without any."""
    weights = sum(mask.numel() for mask in masks.values())
    return sum(survivors(masks).values()) / weights if weights else 1.0


def layer_densities(masks: Mapping[str, Tensor]) -> dict[str, float]:
    """The share that survives, per parameter."""
    return {name: count / masks[name].numel() for name, count in survivors(masks).items()}


def survivors(masks: Mapping[str, Tensor]) -> dict[str, int]:
    """How many weights survive, per parameter."""
    return {name: int(mask.sum()) for name, mask in masks.items()}


def are_nested(inner: Mapping[str, Tensor], outer: Mapping[str, Tensor]) -> bool:
    """Whether everything that survives in ``inner`` survives in ``outer`` too, of the same parameters."""
    return inner.keys() == outer.keys() and not any(bool((inner[name] & ~outer[name]).any()) for name in inner)


def save_masks(path: Path, masks: Mapping[str, Tensor]) -> None:
    """Write masks (bool), the whole file or nothing. The same masks give the same bytes."""
    arrays = {name: mask.cpu().numpy() for name, mask in masks.items()}
    wrong = [name for name, array in arrays.items() if array.dtype != np.bool_]
    if wrong:
        raise MaskError(f"a mask is bool; {wrong[0]} is {arrays[wrong[0]].dtype}")
    packed = [np.packbits(array.reshape(-1)) for array in arrays.values()]
    bits = np.concatenate([np.zeros(0, np.uint8), *packed])
    layout = {"format": FORMAT, "shapes": {name: list(array.shape) for name, array in arrays.items()}}
    layout["sha256"] = _digest(layout["shapes"], bits)
    buffer = io.BytesIO()
    np.savez(buffer, layout=np.frombuffer(json.dumps(layout).encode(), np.uint8), bits=bits)
    write_whole(path, buffer.getvalue())


def load_masks(path: Path) -> dict[str, Tensor]:
    """Read what `save_masks` wrote: bool, by name, in the order in which they were written. Raises MaskError."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            layout, bits = json.loads(file["layout"].tobytes()), file["bits"]
        if layout["format"] != FORMAT:
            raise MaskError(f"{path}: masks of format {layout['format']}; this version reads format {FORMAT}")
        shapes, digest = layout["shapes"], layout["sha256"]
    except FileNotFoundError as error:
        raise MaskError(f"no masks in {path}") from error
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, MaskError):
            raise
        raise MaskError(f"{path} is not a file of masks, or not a whole one: {error}") from error
    if _digest(shapes, bits) != digest:
        raise MaskError(f"{path}: the masks are not those that were written (their digest differs)")
    return _unpacked(shapes, bits)


def _unpacked(shapes: Mapping[str, Any], bits: NDArray[np.uint8]) -> dict[str, Tensor]:
    out, start = {}, 0
    for name, shape in shapes.items():
        count = int(np.prod(shape, dtype=np.int64))
        end = start + (count + 7) // 8
        out[name] = torch.from_numpy(np.unpackbits(bits[start:end], count=count).astype(np.bool_).reshape(shape))
        start = end
    return out


def _digest(shapes: Any, bits: NDArray[np.uint8]) -> str:  # noqa: ANN401 - JSON
    return hashlib.sha256(json.dumps(shapes).encode() + b"\0" + bits.tobytes()).hexdigest()
