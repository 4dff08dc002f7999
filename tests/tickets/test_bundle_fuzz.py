"""Damaged bundles by the thousand, from fixed seeds: each is refused by name or is sound."""

import random
from collections import Counter

import pytest

from tests.fuzz.fuzz_bundle import check, mutate
from tests.tiny import tiny_bundle
from tickets.bundle import BundleError, parse


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_bundle_is_refused_by_name(seed: int) -> None:
    rng = random.Random(seed)
    sound = tiny_bundle()
    endings = Counter(check(mutate(sound, rng)) for _ in range(2500))
    # Each rule was reached, so the damage is not all caught by the first one.
    reached = {"sound", "not_a_bundle", "truncated", "bad_layout", "bad_manifest", "bad_digest"}
    assert reached <= set(endings), endings


def test_every_single_bit_counts() -> None:
    """Whichever bit flips, the file is refused or has another id: nothing reads as the same ticket."""
    sound = tiny_bundle()
    original = parse(sound).id
    rng = random.Random(0)
    for _ in range(1500):
        at = rng.randrange(len(sound) * 8)
        damaged = bytearray(sound)
        damaged[at // 8] ^= 1 << at % 8
        try:
            assert parse(bytes(damaged)).id != original
        except BundleError:
            continue


def test_every_truncation_is_refused() -> None:
    sound = tiny_bundle()
    for length in range(0, len(sound), 7):
        with pytest.raises(BundleError):
            parse(sound[:length])
