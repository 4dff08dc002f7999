"""Masks in a file: one bit a weight, the same back, and never silently something else."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from tickets.factory.lottery.masks import (
    MaskError,
    are_nested,
    density,
    full,
    layer_densities,
    load_masks,
    save_masks,
    survivors,
)

pytestmark = [pytest.mark.torch]

SOME = {
    "fc1.weight": torch.tensor([[1, 0, 1], [1, 1, 0], [0, 0, 1]], dtype=torch.bool),
    "fc2.weight": torch.tensor([1, 1], dtype=torch.bool),
}

MASKS = st.dictionaries(
    st.text("abc.019", min_size=1, max_size=8),
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)).map(torch.from_numpy),
    max_size=4,
)


@settings(max_examples=40)
@given(masks=MASKS)
def test_masks_come_back_as_they_were(masks: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Names, order, shapes and every bit; scalars and empty masks too."""
    path = tmp_path_factory.mktemp("masks") / "masks.npz"
    save_masks(path, masks)
    back = load_masks(path)
    assert list(back) == list(masks)
    for name, mask in masks.items():
        assert back[name].shape == mask.shape
        assert torch.equal(back[name], mask)


def test_a_file_is_what_it_is_said_to_be(tmp_path: Path) -> None:
    """Golden: first weight in the highest bit, each mask from a new byte on; 9 + 2 weights take 3 bytes."""
    save_masks(tmp_path / "masks.npz", SOME)
    with np.load(tmp_path / "masks.npz") as file:
        layout, bits = json.loads(file["layout"].tobytes()), file["bits"]
    assert bits.tolist() == [0b10111000, 0b10000000, 0b11000000]
    assert layout == {
        "format": 1, "shapes": {"fc1.weight": [3, 3], "fc2.weight": [2]},
        "sha256": "f47c63def2947267d1a95cb8d17394f630683bbf6fb1778807e9b72cfd5261c6",
    }  # fmt: skip


def test_the_same_masks_make_the_same_bytes(tmp_path: Path) -> None:
    """No time, no order of its own in the file: stages are compared by digest."""
    for name in ("one", "other"):
        save_masks(tmp_path / name, SOME)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_file_takes_a_bit_a_weight(tmp_path: Path) -> None:
    """A million weights in an eighth of a megabyte and a little."""
    save_masks(tmp_path / "masks.npz", {"w": torch.ones(1000, 1000, dtype=torch.bool)})
    assert (tmp_path / "masks.npz").stat().st_size < 126_000


def damaged(layout: dict[str, object], bits: list[int]) -> dict[str, np.ndarray]:
    return {
        "layout": np.frombuffer(json.dumps(layout).encode(), np.uint8),
        "bits": np.asarray(bits, np.uint8),
    }


BAD = [
    (damaged({"format": 1, "shapes": {"w": [8]}, "sha256": "0" * 64}, [255]), "digest differs"),
    (damaged({"format": 2, "shapes": {"w": [8]}, "sha256": ""}, [255]), "reads format 1"),
    (damaged({"shapes": {}}, []), "not a file of masks"),
    ({"bits": np.zeros(1, np.uint8)}, "not a file of masks"),
]


@pytest.mark.parametrize(("arrays", "complaint"), BAD, ids=[c for _, c in BAD])
def test_other_files_are_refused(arrays: dict[str, np.ndarray], complaint: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "masks.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(MaskError, match=complaint):
        load_masks(tmp_path / "masks.npz")


def test_half_a_file_and_no_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "masks.npz"
    with pytest.raises(MaskError, match="no masks in"):
        load_masks(path)
    save_masks(path, SOME)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(MaskError, match="not a whole one"):
        load_masks(path)


def test_only_bool_is_a_mask(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="a mask is bool"):
        save_masks(tmp_path / "masks.npz", {"w": torch.ones(3)})
    assert not list(tmp_path.iterdir())


def test_densities() -> None:
    """Of all weights together, and of each parameter."""
    assert density(SOME) == 7 / 11
    assert layer_densities(SOME) == {"fc1.weight": 5 / 9, "fc2.weight": 1.0}
    assert survivors(SOME) == {"fc1.weight": 5, "fc2.weight": 2}
    assert density({}) == density(full(SOME)) == 1.0


def test_nesting() -> None:
    """A mask lies within itself and the full one; the full one does not lie within it; other parameters never."""
    assert are_nested(SOME, SOME)
    assert are_nested(SOME, full(SOME))
    assert not are_nested(full(SOME), SOME)
    assert not are_nested(SOME, {"fc1.weight": SOME["fc1.weight"]})
