"""Texts: the transformer backbone on one domain's in-scope texts, as Chen et al. 2020 played the lottery with BERT.

"The Lottery Ticket Hypothesis for Pre-trained BERT Networks", sections 3 and 4.1: pruned are the encoder's matrices,
not embeddings, norms, biases and the head; step 0 is the pretrained weights; the re-initialised control loses them.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tickets.factory.backbone import Backbone
from tickets.factory.compute import Compute
from tickets.factory.data import DomainData, Examples
from tickets.factory.encoder import Classifier
from tickets.factory.loop import Course
from tickets.factory.lottery.networks import Outcome, Split, outcome
from tickets.factory.models import from_backbone
from tickets.factory.runs import described
from tickets.factory.tokens import Vocabulary, batches, pad, prune_vocabulary
from tickets.factory.train import predict

MATRICES = ("qkv", "out", "up", "down")


@dataclass(frozen=True, slots=True)
class TextsRecipe:
    """AdamW; a linear rise over ``warmup`` of the steps, then a linear fall to ``floor`` of the learning rate, so that
    the schedule's last rate still moves weights (fine-tuning without rewinding uses it throughout).
    """

    epochs: int = 4
    learning_rate: float = 2e-4
    batch: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.1
    floor: float = 0.1

    def scale(self, step: int, total: int) -> float:
        """The learning rate at a step, as a share of the highest."""
        rise = max(1.0, self.warmup * total)
        if step < rise:
            return (step + 1) / rise
        return 1 - (1 - self.floor) * (step - rise) / max(1.0, total - rise)


class TextsNetwork:
    """The backbone with a head for one domain's labels, over at most ``vocabulary`` of the pieces that its training
    texts use. Longer texts are cut to ``max_tokens``, or to the backbone's positions where it has fewer.
    """

    name = "transformer"

    def __init__(
        self, domain: DomainData, backbone: Backbone, recipe: TextsRecipe,
        *, vocabulary: int = 6000, max_tokens: int = 64,
    ) -> None:  # fmt: skip
        self._domain = _in_scope(domain)
        self._backbone, self._recipe = backbone, recipe
        self._pieces: Vocabulary = prune_vocabulary(
            backbone.tokenizer_json, self._domain.train.texts, vocabulary, min(max_tokens, backbone.max_positions),
            fill=False,
        )  # fmt: skip
        self._ids = {name: self._pieces.encode(part.texts) for name, part in self._parts().items()}

    @property
    def data(self) -> str:
        """The domain."""
        return self._domain.domain

    def described(self) -> dict[str, Any]:
        """Backbone, recipe and data."""
        return {
            "network": self.name, "backbone": self._backbone.sha256, "recipe": described(self._recipe),
            "domain": self._domain.domain, "data": self._domain.digests(), "labels": list(self._domain.labels),
            "vocabulary": len(self._pieces.rows), "max_tokens": self._pieces.max_tokens,
        }  # fmt: skip

    def build(self, seed: int) -> nn.Module:
        """The pretrained weights with a seeded head."""
        return from_backbone(self._backbone, self._pieces, self._domain.classes, seed)

    def reinit(self, seed: int) -> nn.Module:
        """As BERT starts before pretraining: every matrix and table from N(0, 0.02), biases 0, norms 1."""
        model = self.build(seed)
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1:
                    nn.init.normal_(parameter, std=0.02)
                else:
                    parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        return model

    def prunable(self) -> tuple[str, ...]:
        """The attention's and the feed-forward layers' matrices."""
        return tuple(f"layers.{i}.{name}.weight" for i in range(self._backbone.layers) for name in MATRICES)

    def course(self, seed: int) -> Course:
        """Fine-tuning on the training texts, in an order of the seed's own."""
        ids, targets, recipe = self._ids["train"], self._domain.train.targets, self._recipe
        lengths = [len(one) for one in ids]
        return Course(
            epochs=recipe.epochs,
            seed=seed,
            batches=lambda epoch: batches(lengths, recipe.batch, np.random.default_rng((seed, epoch))),
            loss=lambda model, index: _loss(model, [ids[i] for i in index], targets[index]),
            optimizer=lambda model: torch.optim.AdamW(
                _groups(model, recipe.weight_decay), lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True
            ),
            scale=recipe.scale,
        )

    def examine(self, model: nn.Module, split: Split, compute: Compute) -> Outcome:
        """All texts of the split, without dropout."""
        assert isinstance(model, Classifier)
        said = predict(model, self._ids[split], compute)
        return outcome(torch.from_numpy(said.logits), self._parts()[split].targets)

    def _parts(self) -> dict[str, Examples]:
        return {"train": self._domain.train, "validation": self._domain.validation, "test": self._domain.test}


def _in_scope(domain: DomainData) -> DomainData:
    train, validation, test = (part.of_kind("in") for part in (domain.train, domain.validation, domain.test))
    return replace(domain, train=train, validation=validation, test=test)


def _loss(model: nn.Module, ids: list[NDArray[np.int64]], targets: NDArray[np.int64]) -> Tensor:
    device = next(model.parameters()).device
    logits, _ = model(torch.from_numpy(pad(ids)).to(device))
    return functional.cross_entropy(logits.float(), torch.from_numpy(targets).to(device))


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices and tables decay; norms and biases do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
