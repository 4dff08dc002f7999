"""The encoder: BERT's forward pass in which every layer may have its own heads and neurons.

Owns the torch module and its `Shape`. Gates (one factor per example and structure) open the
same pass to pruning scores: a gate of one changes nothing, its gradient is the score's raw
material (`tickets.factory.fisher`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

PAD_ID = 0
EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class Shape:
    """The structure of an encoder. One entry of ``heads`` and ``neurons`` per layer; ``sources`` says which
    layer of the backbone each one was. No heads: the attention sub-layer is gone, with its residual and norm; no
    neurons: so is the feed-forward one.
    """

    vocabulary: int
    hidden: int
    head_size: int
    heads: tuple[int, ...]
    neurons: tuple[int, ...]
    sources: tuple[int, ...]
    positions: int
    activation: str = "gelu"
    rank: int = 0
    """Width of the word table; a projection widens it to ``hidden``. 0: the table has the full width."""

    @property
    def layers(self) -> int:
        """How many layers are left."""
        return len(self.heads)


@dataclass(frozen=True, slots=True)
class Gates:
    """Per example factors: heads[l] [batch, heads], neurons[l] [batch, neurons], sublayers[l] [batch, 2]
    (attention, FFN), and hidden [batch, hidden], which is the same after the embeddings and after every layer.
    """

    heads: Sequence[Tensor]
    neurons: Sequence[Tensor]
    sublayers: Sequence[Tensor]
    hidden: Tensor


class Embeddings(nn.Module):
    """Word and position embeddings, normalized; the word table may be a product of two (Lan et al. 2020, ALBERT)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.word = nn.Embedding(shape.vocabulary, shape.rank or shape.hidden)
        self.widen = nn.Linear(shape.rank, shape.hidden, bias=False) if shape.rank else nn.Identity()
        self.position = nn.Parameter(torch.zeros(shape.positions, shape.hidden))
        self.norm = nn.LayerNorm(shape.hidden, eps=EPSILON)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids [batch, tokens] -> [batch, tokens, hidden]."""
        normed: Tensor = self.norm(self.summed(ids))
        return normed

    def summed(self, ids: Tensor) -> Tensor:
        """What the norm is given: ids [batch, tokens] -> [batch, tokens, hidden]."""
        words: Tensor = self.widen(self.word(ids))
        return words + self.position[: ids.shape[1]]


class Layer(nn.Module):
    """Attention and FFN, each added to its input and normalized (post-norm, as BERT)."""

    def __init__(self, shape: Shape, heads: int, neurons: int) -> None:
        super().__init__()
        self.heads, self.head_size, self.neurons = heads, shape.head_size, neurons
        width = heads * shape.head_size
        if heads:
            self.qkv = nn.Linear(shape.hidden, 3 * width)
            self.out = nn.Linear(width, shape.hidden)
            self.norm1 = nn.LayerNorm(shape.hidden, eps=EPSILON)
        if neurons:
            self.up = nn.Linear(shape.hidden, neurons)
            self.down = nn.Linear(neurons, shape.hidden)
            self.norm2 = nn.LayerNorm(shape.hidden, eps=EPSILON)
        self.activation = functional.relu if shape.activation == "relu" else functional.gelu

    def forward(self, x: Tensor, keep: Tensor, gates: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """X [batch, tokens, hidden], keep [batch, 1, 1, tokens] bool -> [batch, tokens, hidden]."""
        if self.heads:
            x = self._attend(x, keep, gates)
        return self._feed(x, gates) if self.neurons else x

    def context(self, x: Tensor, keep: Tensor, gate: Tensor | None = None) -> Tensor:
        """What the heads say, before ``out``: [batch, tokens, heads * head_size]; gate [batch, heads]."""
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, self.head_size).permute(2, 0, 3, 1, 4)
        # In fp32 whatever the products' precision: torch's bf16 kernel for CPUs takes 15 times as long backwards.
        with torch.autocast(x.device.type, enabled=False):
            context = functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=keep)
        if gate is not None:
            context = context * gate[:, :, None, None]
        return context.transpose(1, 2).reshape(batch, tokens, -1)

    def _attend(self, x: Tensor, keep: Tensor, gates: tuple[Tensor, Tensor, Tensor] | None) -> Tensor:
        attended = self.out(self.context(x, keep, gates[0] if gates is not None else None))
        if gates is not None:
            attended = attended * gates[2][:, 0, None, None]
        normed: Tensor = self.norm1(x + attended)
        return normed

    def _feed(self, x: Tensor, gates: tuple[Tensor, Tensor, Tensor] | None) -> Tensor:
        inner = self.activation(self.up(x))
        if gates is not None:
            inner = inner * gates[1][:, None, :]
        fed = self.down(inner)
        if gates is not None:
            fed = fed * gates[2][:, 1, None, None]
        normed: Tensor = self.norm2(x + fed)
        return normed


class Classifier(nn.Module):
    """Encoder, mean over real tokens, linear head."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.shape = shape
        self.classes = classes
        self.embeddings = Embeddings(shape)
        self.layers = nn.ModuleList(Layer(shape, h, n) for h, n in zip(shape.heads, shape.neurons, strict=True))
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(shape.hidden, classes)

    def with_states(self, ids: Tensor, gates: Gates | None = None) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Ids [batch, tokens] -> logits [batch, classes], sentence vectors [batch, hidden], and the mean over real
        tokens after each layer, [batch, hidden] each (the last one is the sentence vector).
        """
        keep = ids != PAD_ID
        weights = keep.to(torch.float32)[:, :, None]
        weights = weights / weights.sum(1, keepdim=True)
        x = self.embeddings(ids)
        if gates is not None:
            x = x * gates.hidden[:, None, :]
        states = []
        for i, layer in enumerate(self.layers):
            gate = (gates.heads[i], gates.neurons[i], gates.sublayers[i]) if gates else None
            x = layer(x, keep[:, None, None, :], gate)
            if gates is not None:
                x = x * gates.hidden[:, None, :]
            states.append((x * weights).sum(1))
        pooled = states[-1] if states else (x * weights).sum(1)
        return self.head(self.dropout(pooled)), pooled, states

    def forward(self, ids: Tensor, gates: Gates | None = None) -> tuple[Tensor, Tensor]:
        """Ids [batch, tokens] -> logits [batch, classes], sentence vectors [batch, hidden]."""
        logits, pooled, _ = self.with_states(ids, gates)
        return logits, pooled


def parameters(shape: Shape, classes: int) -> int:
    """Weights of a classifier with this shape, position rows included."""
    per_layer = sum(
        (4 * h * shape.head_size * shape.hidden + 3 * h * shape.head_size + 3 * shape.hidden if h else 0)
        + (2 * n * shape.hidden + n + 3 * shape.hidden if n else 0)
        for h, n in zip(shape.heads, shape.neurons, strict=True)
    )
    words = shape.rank * (shape.vocabulary + shape.hidden) if shape.rank else shape.vocabulary * shape.hidden
    embeddings = words + (shape.positions + 2) * shape.hidden
    return embeddings + per_layer + (shape.hidden + 1) * classes
