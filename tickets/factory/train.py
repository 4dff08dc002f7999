"""Training on texts: fine-tuning a parent, distilling a child. What `tickets.factory.loop` is to learn.

Distillation: Hinton et al. 2015 (soft targets at a temperature), with the parent's hidden states as in CoFi (Xia et al.
2022, section 3.2): the sentence vector, and the mean-pooled state after each layer that the child still has (its
``sources`` say which), through a learnt linear map where the child is narrower.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from tickets.factory.compute import Compute
from tickets.factory.data import Examples
from tickets.factory.encoder import Classifier
from tickets.factory.loop import Course, Masks, Progress, Watch, run
from tickets.factory.tokens import batches, pad

__all__ = ["Corpus", "Progress", "Recipe", "Signals", "course_of", "predict", "train"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. ``out_per_in`` and ``made_per_in`` bound the near-domain and the made-up texts of an epoch
    to a multiple of the in-scope ones.
    """

    epochs: int
    learning_rate: float
    batch: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.1
    layer_decay: float = 1.0
    label_smoothing: float = 0.0
    out_per_in: float = 1.5
    made_per_in: float = 0.0
    distil_weight: float = 0.0
    distil_temperature: float = 2.0
    vector_weight: float = 0.0
    state_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Signals:
    """What the parent says of every training text: logits [n, classes], vectors [n, hidden], and where they were asked
    for the pooled states after each of the backbone's layers [n, layers, hidden].
    """

    logits: NDArray[np.float32]
    vectors: NDArray[np.float32]
    states: NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    """Training examples with their ids; ``signals`` where a parent teaches."""

    examples: Examples
    ids: list[NDArray[np.int64]]
    signals: Signals | None = None


def train(
    model: Classifier, corpus: Corpus, recipe: Recipe, *, seed: int, compute: Compute, watch: Watch,
    masks: Masks | None = None,
) -> list[dict[str, float]]:  # fmt: skip
    """Train ``model`` in place, continuing from ``watch.checkpoint`` when present. Returns the log, epoch by epoch."""
    teacher_width = corpus.signals.vectors.shape[1] if corpus.signals is not None else model.shape.hidden
    torch.manual_seed(seed)
    learner = _Learner(model, teacher_width)
    log = run(learner, course_of(corpus, recipe, seed), compute, watch, _renamed(masks))
    model.eval()
    return log


def course_of(corpus: Corpus, recipe: Recipe, seed: int) -> Course:
    """The course of a `_Learner` over a corpus."""
    return Course(
        epochs=recipe.epochs,
        seed=seed,
        batches=lambda epoch: _epoch_batches(corpus, recipe, seed, epoch),
        loss=lambda model, index: _loss(model, corpus, index, recipe),
        optimizer=lambda model: torch.optim.AdamW(
            _groups(model, recipe), lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True
        ),
        scale=lambda step, total: _scale(step, total, recipe.warmup),
    )


class _Learner(nn.Module):
    """A classifier and what it needs only while it learns: the map from its width to its teacher's."""

    def __init__(self, model: Classifier, teacher_width: int) -> None:
        super().__init__()
        self.model = model
        narrow = model.shape.hidden != teacher_width
        self.widen = nn.Linear(model.shape.hidden, teacher_width) if narrow else nn.Identity()


def _renamed(masks: Masks | None) -> Masks | None:
    return None if masks is None else {f"model.{name}": mask for name, mask in masks.items()}


def predict(
    model: Classifier, ids: list[NDArray[np.int64]], compute: Compute | None = None, *, with_states: bool = False
) -> Signals:
    """Logits, sentence vectors and, if asked, pooled states of every text, in order, without dropout."""
    compute = compute or Compute()
    logits = np.zeros((len(ids), model.classes), np.float32)
    vectors = np.zeros((len(ids), model.shape.hidden), np.float32)
    states = np.zeros((len(ids), model.shape.layers, model.shape.hidden), np.float16) if with_states else None
    model.to(compute.device).eval()
    with torch.inference_mode(), compute.autocast():
        for index in batches([len(i) for i in ids], 128):
            out, pooled, layers = model.with_states(torch.from_numpy(pad([ids[i] for i in index])).to(compute.device))
            logits[index], vectors[index] = out.float().cpu().numpy(), pooled.float().cpu().numpy()
            if states is not None and layers:
                states[index] = torch.stack(layers, dim=1).half().cpu().numpy()
    model.to("cpu")
    return Signals(logits, vectors, states)


def _loss(learner: nn.Module, corpus: Corpus, index: NDArray[np.int64], recipe: Recipe) -> torch.Tensor:
    assert isinstance(learner, _Learner)
    device = learner.model.head.weight.device
    logits, vectors, states = learner.model.with_states(
        torch.from_numpy(pad([corpus.ids[i] for i in index])).to(device)
    )
    logits = logits.float()
    targets = torch.from_numpy(corpus.examples.targets[index]).to(device)
    hard = functional.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
    if corpus.signals is None:
        return hard
    said = corpus.signals
    t = recipe.distil_temperature
    teacher = torch.from_numpy(said.logits[index]).to(device)
    soft = functional.kl_div((logits / t).log_softmax(-1), (teacher / t).softmax(-1), reduction="batchmean") * t * t
    loss = (1 - recipe.distil_weight) * hard + recipe.distil_weight * soft
    if recipe.vector_weight:
        wanted = torch.from_numpy(said.vectors[index]).to(device)
        loss = loss + recipe.vector_weight * functional.mse_loss(learner.widen(vectors).float(), wanted)
    if recipe.state_weight and said.states is not None and states:
        layers = torch.from_numpy(said.states[index][:, list(learner.model.shape.sources)]).to(device)
        stacked = learner.widen(torch.stack(states, dim=1)).float()
        loss = loss + recipe.state_weight * functional.mse_loss(stacked, layers.float())
    return loss


def _epoch_batches(corpus: Corpus, recipe: Recipe, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """All in-scope and own out-of-scope texts, and fresh samples of the near and the made-up ones."""
    random = np.random.default_rng((seed, epoch))
    kinds = np.asarray(corpus.examples.kinds)
    parts = [np.flatnonzero((kinds == "in") | (kinds == "out"))]
    for kind, ratio in (("near", recipe.out_per_in), ("made", recipe.made_per_in)):
        some = np.flatnonzero(kinds == kind)
        wanted = min(len(some), int(ratio * np.count_nonzero(kinds == "in")))
        parts.append(random.choice(some, wanted, replace=False))
    chosen = np.concatenate(parts)
    lengths = [len(corpus.ids[i]) for i in chosen]
    return [chosen[b] for b in batches(lengths, recipe.batch, random)]


def _groups(learner: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """One group per parameter: deeper layers learn slower by ``layer_decay`` (Sun et al. 2019, section 5.3.4);
    norms and biases do not decay.
    """
    assert isinstance(learner, _Learner)
    layers = learner.model.shape.layers
    groups: list[dict[str, object]] = []
    for name, parameter in _named(learner):
        depth = 0
        if name.startswith("layers."):
            depth = layers - int(name.split(".")[1])
        elif name.startswith("embeddings."):
            depth = layers + 1
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.append({
            "params": [parameter],
            "lr": recipe.learning_rate * recipe.layer_decay**depth,
            "weight_decay": decay,
        })  # fmt: skip
    return groups


def _named(learner: "_Learner") -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in learner.named_parameters():
        yield name.removeprefix("model."), parameter


def _scale(step: int, total: int, warmup: float) -> float:
    """Linear warm-up, then half a cosine to zero."""
    rise = max(1.0, warmup * total)
    if step < rise:
        return (step + 1) / rise
    return float(0.5 * (1 + np.cos(np.pi * (step - rise) / max(1.0, total - rise))))
