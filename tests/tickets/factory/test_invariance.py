"""An int8 answer is the text's own: the same in any batch, order and padding, for the tickets that are served.

On made-up sentences for everybody; on CLINC150's test texts where the data is at hand (TOMBOLA_DATA names the file).
"""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickets import bundle as bundles
from tickets.reference import Reference

pytestmark = [pytest.mark.torch]

ROOT = Path(__file__).parents[3]
STARTER = ROOT / "tickets" / "starter"
NAMES = sorted(path.stem for path in STARTER.glob("*.ticket"))
DATA = Path(os.environ.get("TOMBOLA_DATA", ROOT.parent / "shared" / "data" / "clinc150_full.json"))
TOLERANCE = 1e-5  # of a probability
POSITIONS = 64
LARGEST_BATCH = 64
SIZES = (*range(1, 18), 23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64)  # kernels differ by the number of rows

QUESTIONS = """
my card was declined at the till please send money to savings what is the fee for a transfer abroad book two seats on
the early train from lisbon is there a delay freeze account hotel near harbour tomorrow night passport visa why balance
PIN 4711 $20.50 café zürich naïve ¿qué? 旅行 🎟 xyzzy-plugh antidisestablishmentarianism
"""
WORDS = QUESTIONS.split()
sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map(" ".join)


@cache
def ticket(name: str) -> Reference:
    """Opened once: every example uses the same six."""
    return Reference(bundles.read(STARTER / f"{name}.ticket"))


def probabilities(reference: Reference, texts: list[str], columns: int = 0) -> np.ndarray:
    """Softmax over all logits, with ``columns`` more of padding than the longest text needs."""
    ids = reference.tokens(texts)
    ids = np.pad(ids, ((0, 0), (0, max(0, min(columns, POSITIONS - ids.shape[1])))))
    logits = reference.run(ids).astype(np.float64)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def assert_same(got: np.ndarray, alone: np.ndarray) -> None:
    np.testing.assert_allclose(got, alone, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(got.argmax(axis=1), alone.argmax(axis=1))


@pytest.mark.parametrize("name", NAMES)
@given(texts=st.lists(sentences, min_size=1, max_size=12), columns=st.integers(0, 48), data=st.data())
@settings(max_examples=8, deadline=None)
def test_made_up_sentences(name: str, texts: list[str], columns: int, data: st.DataObject) -> None:
    """Alone, together, in any order, repeated up to a batch of 64, and padded: one answer."""
    reference = ticket(name)
    alone = np.concatenate([probabilities(reference, [text]) for text in texts])
    order = data.draw(st.permutations(range(len(texts))))
    copies = data.draw(st.integers(1, LARGEST_BATCH // len(texts)))
    batch = list(order) * copies
    assert_same(probabilities(reference, [texts[i] for i in batch], columns), alone[batch])
    for i, text in enumerate(texts[:3]):
        assert_same(probabilities(reference, [text], columns), alone[i : i + 1])


@pytest.mark.parametrize("name", NAMES)
def test_batch_sizes_up_to_64(name: str) -> None:
    """One text more or less in the batch changes nothing for the others."""
    reference = ticket(name)
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, int(n))) for n in random.integers(1, 20, LARGEST_BATCH)]
    alone = np.concatenate([probabilities(reference, [text]) for text in texts])
    for size in SIZES:
        assert_same(probabilities(reference, texts[:size]), alone[:size])


@pytest.mark.skipif(not DATA.is_file(), reason="CLINC150 is not here: TOMBOLA_DATA names clinc150_full.json")
@pytest.mark.parametrize("name", NAMES)
def test_real_texts(name: str) -> None:
    """Some test texts, in scope and out, in random batches of random sizes and paddings."""
    reference = ticket(name)
    document = json.loads(DATA.read_text(encoding="utf-8"))
    random = np.random.default_rng(1)
    texts = [text for text, _ in [*document["test"], *document["oos_test"]]]
    chosen = [texts[i] for i in random.permutation(len(texts))[:600]]
    alone = np.concatenate([probabilities(reference, [text]) for text in chosen])
    start = 0
    while start < len(chosen):
        size = int(random.integers(1, LARGEST_BATCH + 1))
        got = probabilities(reference, chosen[start : start + size], int(random.integers(0, 40)))
        assert_same(got, alone[start : start + size])
        start += size
