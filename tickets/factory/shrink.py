"""Shrinking: a pruned structure made physically small, so that it is really faster.

Pure on weights: a structure chosen from scores, and the child's state cut out of the
parent's. A child with the parent's own structure computes what the parent computes.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tickets.factory.encoder import Classifier, Shape
from tickets.factory.fisher import Scores


@dataclass(frozen=True, slots=True)
class Target:
    """The structure a tier asks for: this many layers, heads and FFN neurons in each."""

    layers: int
    heads: int
    neurons: int

    def __str__(self) -> str:
        return f"{self.layers}x{self.heads}x{self.neurons}"


@dataclass(frozen=True, slots=True)
class Kept:
    """What survives of the parent: layer indices, and in each the heads and neurons, ascending. None of them: the
    sub-layer is gone.
    """

    layers: tuple[int, ...]
    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[tuple[int, ...], ...]


def choose(shape: Shape, scores: Scores, target: Target) -> Kept:
    """Keep the layers, then the heads and neurons, with the highest scores.

    Raises ValueError where the target is larger than the parent.
    """
    if target.layers > shape.layers or (
        target.layers and (target.heads > min(shape.heads) or target.neurons > min(shape.neurons))
    ):
        parent = f"{shape.layers} layers, {min(shape.heads, default=0)} heads, {min(shape.neurons, default=0)} neurons"
        raise ValueError(f"target {target} is larger than its parent ({parent}); order tiers from large to small")
    layers = _top(scores.sublayers.sum(1), target.layers)
    return Kept(
        layers,
        tuple(_top(scores.heads[i], target.heads) for i in layers),
        tuple(_top(scores.neurons[i], target.neurons) for i in layers),
    )


def choose_counts(kept: Kept, scores: Scores) -> Kept:
    """The same layers and as many units of each, but those that other scores put first: for controls."""
    return Kept(
        kept.layers,
        tuple(_top(scores.heads[i], len(heads)) for i, heads in zip(kept.layers, kept.heads, strict=True)),
        tuple(_top(scores.neurons[i], len(neurons)) for i, neurons in zip(kept.layers, kept.neurons, strict=True)),
    )


def _top(scores: NDArray[np.float64], count: int) -> tuple[int, ...]:
    best = np.argsort(-scores, kind="stable")[:count]
    return tuple(sorted(int(i) for i in best))


def cut(parent: Classifier, kept: Kept, activation: str) -> Classifier:
    """A child that holds exactly what ``kept`` names, with the parent's weights."""
    shape = replace(
        parent.shape,
        heads=tuple(len(h) for h in kept.heads),
        neurons=tuple(len(n) for n in kept.neurons),
        sources=tuple(parent.shape.sources[i] for i in kept.layers),
        activation=activation,
    )
    child = Classifier(shape, parent.classes)
    state, old = child.state_dict(), parent.state_dict()
    state.update({name: value for name, value in old.items() if name.startswith("embeddings.")})
    state["head.weight"], state["head.bias"] = old["head.weight"], old["head.bias"]
    for new, (i, heads, neurons) in enumerate(zip(kept.layers, kept.heads, kept.neurons, strict=True)):
        state.update(_layer(old, parent.shape, i, heads, neurons, prefix=f"layers.{new}."))
    child.load_state_dict(state)
    return child


def _layer(
    old: dict[str, torch.Tensor],
    shape: Shape,
    i: int,
    heads: tuple[int, ...],
    neurons: tuple[int, ...],
    *,
    prefix: str,
) -> dict[str, torch.Tensor]:
    there, size = f"layers.{i}.", shape.head_size
    new: dict[str, torch.Tensor] = {}
    if heads:
        columns = torch.tensor([h * size + j for h in heads for j in range(size)])
        joined = torch.cat([part * shape.heads[i] * size + columns for part in range(3)])
        new |= {
            "qkv.weight": old[there + "qkv.weight"][joined],
            "qkv.bias": old[there + "qkv.bias"][joined],
            "out.weight": old[there + "out.weight"][:, columns],
        }
        new |= {name: old[there + name] for name in ("out.bias", "norm1.weight", "norm1.bias")}
    if neurons:
        rows = torch.tensor(neurons)
        new |= {
            "up.weight": old[there + "up.weight"][rows],
            "up.bias": old[there + "up.bias"][rows],
            "down.weight": old[there + "down.weight"][:, rows],
        }
        new |= {name: old[there + name] for name in ("down.bias", "norm2.weight", "norm2.bias")}
    return {prefix + name: value for name, value in new.items()}


def factors(words: torch.Tensor, counts: NDArray[np.int64], rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tables [vocabulary, rank] and [hidden, rank] whose product is near ``words``, by an SVD of rows weighted
    with the fourth root of their counts; every column of the first has the same largest entry, so that one
    scale quantizes them all.
    """
    weights = torch.from_numpy(np.power(1.0 + counts, 0.25))
    _, _, right = torch.linalg.svd(weights[:, None] * words.double(), full_matrices=False)
    basis = right[:rank]
    left = words.double() @ basis.T
    largest = left.abs().amax(dim=0).clamp_min(1e-8)
    return (left / largest).float(), (basis * largest[:, None]).T.float().contiguous()


def with_vocabulary(
    parent: Classifier,
    rows: NDArray[np.int64],
    positions: int,
    *,
    rank: int = 0,
    counts: NDArray[np.int64] | None = None,
) -> Classifier:
    """The same encoder over a smaller vocabulary: new id i has the parent's embedding row ``rows[i]``.

    With a ``rank`` the word table becomes a product of [vocabulary, rank] and [rank, hidden], closest to
    the rows where ``counts`` are high.
    """
    child = Classifier(replace(parent.shape, vocabulary=len(rows), positions=positions, rank=rank), parent.classes)
    state = dict(parent.state_dict())
    words = state["embeddings.word.weight"][torch.from_numpy(rows)]
    if rank:
        assert counts is not None
        state["embeddings.word.weight"], state["embeddings.widen.weight"] = factors(words, counts, rank)
    else:
        state["embeddings.word.weight"] = words
    state["embeddings.position"] = state["embeddings.position"][:positions]
    child.load_state_dict(state)
    return child
