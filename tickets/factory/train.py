"""Training: fine-tuning a parent, distilling a child. One loop, resumable to the bit.

Every epoch seeds itself from (seed, epoch), so a run continued from the last epoch's
checkpoint computes exactly what an uninterrupted one does (on CPU, same threads).
Distillation: Hinton et al. 2015 (soft targets at a temperature), with a sentence-vector term
as in MiniLM-like students of equal width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from tickets.factory.data import Examples
from tickets.factory.encoder import Classifier
from tickets.factory.tokens import batches, pad

Progress = Callable[[int, int, float], None]
"""Called after each step with (steps done, steps in all, loss)."""


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


@dataclass(frozen=True, slots=True)
class Signals:
    """What the parent says of every training text: logits [n, classes], vectors [n, hidden]."""

    logits: NDArray[np.float32]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Training examples with their ids; ``signals`` where a parent teaches."""

    examples: Examples
    ids: list[NDArray[np.int64]]
    signals: Signals | None = None


def train(
    model: Classifier, corpus: Corpus, recipe: Recipe, *, seed: int, checkpoint: Path, progress: Progress
) -> None:
    """Train ``model`` in place. ``checkpoint`` is written after every epoch and continued from when present."""
    optimizer = torch.optim.AdamW(_groups(model, recipe), lr=recipe.learning_rate, betas=(0.9, 0.98))
    plan = [_epoch_batches(corpus, recipe, seed, epoch) for epoch in range(recipe.epochs)]
    total = sum(len(p) for p in plan)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _scale(step, total, recipe.warmup))
    first = _resume(checkpoint, model, optimizer, schedule)
    done = sum(len(p) for p in plan[:first])
    for epoch in range(first, recipe.epochs):
        torch.manual_seed(seed * 1_000_003 + epoch)
        model.train()
        for index in plan[epoch]:
            loss = _loss(model, corpus, index, recipe)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            progress(done, total, loss.item())
        _save(checkpoint, epoch + 1, model, optimizer, schedule)
    model.eval()


def predict(model: Classifier, ids: list[NDArray[np.int64]]) -> Signals:
    """Logits and sentence vectors of every text, in order, without dropout."""
    logits = np.zeros((len(ids), model.classes), np.float32)
    vectors = np.zeros((len(ids), model.shape.hidden), np.float32)
    model.eval()
    with torch.inference_mode():
        for index in batches([len(i) for i in ids], 128):
            out, pooled = model(torch.from_numpy(pad([ids[i] for i in index])))
            logits[index], vectors[index] = out.numpy(), pooled.numpy()
    return Signals(logits, vectors)


def _loss(model: Classifier, corpus: Corpus, index: NDArray[np.int64], recipe: Recipe) -> torch.Tensor:
    logits, vectors = model(torch.from_numpy(pad([corpus.ids[i] for i in index])))
    targets = torch.from_numpy(corpus.examples.targets[index])
    hard = functional.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
    if corpus.signals is None:
        return hard
    t = recipe.distil_temperature
    teacher = torch.from_numpy(corpus.signals.logits[index])
    soft = functional.kl_div((logits / t).log_softmax(-1), (teacher / t).softmax(-1), reduction="batchmean") * t * t
    loss = (1 - recipe.distil_weight) * hard + recipe.distil_weight * soft
    if recipe.vector_weight:
        loss = loss + recipe.vector_weight * functional.mse_loss(
            vectors, torch.from_numpy(corpus.signals.vectors[index])
        )
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


def _groups(model: Classifier, recipe: Recipe) -> list[dict[str, object]]:
    """One group per parameter: deeper layers learn slower by ``layer_decay`` (Sun et al. 2019, section 5.3.4);
    norms and biases do not decay.
    """
    groups: list[dict[str, object]] = []
    for name, parameter in model.named_parameters():
        depth = 0
        if name.startswith("layers."):
            depth = model.shape.layers - int(name.split(".")[1])
        elif name.startswith("embeddings."):
            depth = model.shape.layers + 1
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
        groups.append({
            "params": [parameter],
            "lr": recipe.learning_rate * recipe.layer_decay**depth,
            "weight_decay": decay,
        })  # fmt: skip
    return groups


def _scale(step: int, total: int, warmup: float) -> float:
    """Linear warm-up, then half a cosine to zero."""
    rise = max(1.0, warmup * total)
    if step < rise:
        return (step + 1) / rise
    return float(0.5 * (1 + np.cos(np.pi * (step - rise) / max(1.0, total - rise))))


def _save(
    path: Path,
    epoch: int,
    model: Classifier,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    temporary = path.with_suffix(".tmp")
    state = {
        "epoch": epoch,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    torch.save(state, temporary)
    temporary.replace(path)


def _resume(
    path: Path,
    model: Classifier,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["epoch"])
