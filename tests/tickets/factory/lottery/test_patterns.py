"""Patterns keep exactly what they say, the best of it, and a break of one is named by its place."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tickets.factory.lottery.patterns import (
    Blocks,
    NofM,
    Pattern,
    PatternError,
    Unstructured,
    check_pattern,
    kept,
    mask_of,
    parse_pattern,
    softened,
)

PATTERNS: list[Pattern] = [
    NofM(2, 4), NofM(1, 4), NofM(4, 8), NofM(3, 4),
    Blocks(1, 4, 0.5), Blocks(4, 4, 0.25), Blocks(16, 16, 0.5), Blocks(32, 1, 0.75), Unstructured(0.5),
]  # fmt: skip
patterns = st.sampled_from(PATTERNS)


def matrix(seed: int, outputs: int, inputs: int, *, ties: bool = False) -> NDArray[np.float32]:
    """Normal values; with ``ties`` only a few different magnitudes, zero among them."""
    random = np.random.default_rng(seed)
    if ties:
        return random.integers(-2, 3, (outputs, inputs)).astype(np.float32)
    return random.standard_normal((outputs, inputs)).astype(np.float32)


weights = st.builds(
    lambda seed, rows, columns, ties: matrix(seed, 32 * rows, 16 * columns, ties=ties),
    st.integers(0, 2**16), st.integers(1, 3), st.integers(1, 4), st.booleans(),
)  # fmt: skip


@given(weights, patterns)
def test_a_mask_keeps_exactly_what_its_pattern_says(weight: NDArray[np.float32], pattern: Pattern) -> None:
    """It passes its own check, has the pattern's density, and the masked weight passes as a weight."""
    mask = mask_of(weight, pattern)
    check_pattern(mask, pattern)
    check_pattern(np.where(mask, weight, 0), pattern)
    if isinstance(pattern, NofM):
        assert (mask.reshape(-1, pattern.of).sum(axis=1) == pattern.keep).all()
    else:
        size = pattern.rows * pattern.columns if isinstance(pattern, Blocks) else 1
        assert mask.sum() == size * kept(pattern, mask.size // size)


@given(weights, patterns)
def test_masking_again_changes_nothing(weight: NDArray[np.float32], pattern: Pattern) -> None:
    """What a mask has left is what the pattern would choose of it; zeros may change places only with zeros."""
    once = np.where(mask_of(weight, pattern), weight, 0)
    np.testing.assert_array_equal(np.where(mask_of(once, pattern), once, 0), once)


@given(st.integers(0, 2**16), st.booleans())
def test_no_other_choice_of_n_in_m_keeps_more_magnitude(seed: int, ties: bool) -> None:
    """Against every choice there is, group by group."""
    weight = matrix(seed, 2, 8, ties=ties)
    got = np.abs(np.where(mask_of(weight, NofM(2, 4)), weight, 0)).reshape(-1, 4).sum(axis=1)
    choices = np.stack([np.abs(weight).reshape(-1, 4)[:, list(c)].sum(axis=1) for c in combinations(range(4), 2)])
    np.testing.assert_allclose(got, choices.max(axis=0), rtol=1e-6)


@given(st.integers(0, 2**16), st.booleans())
def test_no_other_choice_of_blocks_keeps_more_magnitude(seed: int, ties: bool) -> None:
    """Against every choice of three blocks of six."""
    weight = matrix(seed, 4, 6, ties=ties)
    pattern = Blocks(2, 2, 0.5)
    sums = np.abs(weight).reshape(2, 2, 3, 2).sum(axis=(1, 3)).ravel()
    best = max(sums[list(c)].sum() for c in combinations(range(6), 3))
    assert np.abs(weight[mask_of(weight, pattern)]).sum() == pytest.approx(best, rel=1e-6)


@given(weights, patterns, st.integers(1, 4))
def test_gradual_masks_lie_one_within_the_other(weight: NDArray[np.float32], pattern: Pattern, rounds: int) -> None:
    """Chosen on what the mask before left over, and the last is the pattern itself."""
    steps = softened(pattern, rounds)
    assert steps[-1] == pattern
    before = np.ones(weight.shape, np.bool_)
    distinct = weight + np.float32(3) * np.sign(weight) + np.float32(3) * (weight == 0)  # no zero of its own
    for step in steps:
        mask = mask_of(np.where(before, distinct, 0), step)
        assert not (mask & ~before).any()
        before = mask


@given(patterns)
def test_a_pattern_reads_back_as_written(pattern: Pattern) -> None:
    """Its text is its name in files and on the command line."""
    assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot read pattern ''; write 2:4"),
        ("2/4", "cannot read pattern '2/4'"),
        ("4:4", "N must be at least 1 and less than M"),
        ("0:4", "N must be at least 1"),
        ("block:0x4@0.5", "at least one row and one column"),
        ("block:4x4@1.5", "the density must lie between 0 and 1"),
        ("any@0", "the density must lie between 0 and 1"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused(text: str, says: str) -> None:
    """With the reason, or the forms there are."""
    with pytest.raises(PatternError, match=says.replace("(", r"\(")):
        parse_pattern(text)


@pytest.mark.parametrize(
    ("shape", "pattern", "says"),
    [
        ((8, 6), NofM(2, 4), "layers.0.up.weight: 6 inputs do not divide by 4, as 2:4 needs"),
        ((8, 24), Blocks(16, 4, 0.5), "layers.0.up.weight: 8 outputs do not divide by 16, as block:16x4@0.5 needs"),
        ((16, 24), Blocks(16, 16, 0.5), "layers.0.up.weight: 24 inputs do not divide by 16"),
        ((8,), NofM(2, 4), r"layers.0.up.weight: a pattern is of matrices; this has shape \[8\]"),
    ],
)
def test_a_matrix_that_does_not_divide_is_refused_by_name(
    shape: tuple[int, ...], pattern: Pattern, says: str
) -> None:  # fmt: skip
    """For choosing and for checking alike: nothing is padded in silence."""
    for act in (mask_of, check_pattern):
        with pytest.raises(PatternError, match=says):
            act(np.ones(shape, np.float32), pattern, "layers.0.up.weight")


def test_the_first_group_that_breaks_n_of_m_is_named() -> None:
    """By row and columns; a weight may have fewer values than allowed, a mask may not."""
    weight = np.where(mask_of(matrix(0, 4, 16), NofM(2, 4)), 1.0, 0.0)
    weight[2, 8:12] = [1, 1, 1, 0]
    weight[3, 0:4] = 1
    with pytest.raises(PatternError, match="m: row 2, columns 8 to 11: 3 weights stay; 2:4 wants 2"):
        check_pattern(weight, NofM(2, 4), "m")
    weight[2:] = 0
    check_pattern(weight, NofM(2, 4), "m")
    with pytest.raises(PatternError, match="m: row 2, columns 0 to 3: 0 weights stay; 2:4 wants 2"):
        check_pattern(weight.astype(np.bool_), NofM(2, 4), "m")


def test_the_first_block_that_breaks_a_block_pattern_is_named() -> None:
    """A block too many in a weight; a torn block, or one too few, in a mask."""
    pattern = Blocks(2, 4, 0.5)
    weight = np.zeros((4, 8))
    weight[:2] = 1
    check_pattern(weight, pattern)
    weight[3, 5] = 1
    with pytest.raises(PatternError, match=r"3 blocks stay; .* allows 2.*rows 2 to 3, columns 4 to 7"):
        check_pattern(weight, pattern)
    with pytest.raises(PatternError, match="the block at rows 2 to 3, columns 4 to 7 is kept only in part"):
        check_pattern(weight.astype(np.bool_), pattern)
    with pytest.raises(PatternError, match=r"0 blocks stay; .* wants 2"):
        check_pattern(np.zeros((4, 8), np.bool_), pattern)


def test_no_matrix_is_ever_emptied() -> None:
    """Where the density rounds to no block at all, one block stays."""
    assert mask_of(matrix(1, 4, 4), Blocks(4, 4, 0.1)).all()
