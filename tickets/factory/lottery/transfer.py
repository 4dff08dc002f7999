"""Transfer: is a mask that one domain found any good on another? For all pairs, as Chen et al. 2020 asked it.

"The Lottery Ticket Hypothesis for Pre-trained BERT Networks", section 4: a mask is found on domain A by iterative
magnitude pruning, always rewound to the pretrained weights; the masked pretrained weights are then trained on domain B
with a fresh head, and measured on B's test texts. Beside it stand the dense model and a random mask with the per-layer
counts of B's own, with that same head. It is never the head, nor the order of texts, that a mask was found with: a mask
fits its own seed too, and on its own domain that would pass for fitting the domain. In-scope texts only. Every
training is a stage of `tickets.factory.runs`; a level keeps its masks and its answers, not its weights, so that a
hundred pairs fit on a disk.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tickets.factory.backbone import Backbone
from tickets.factory.compute import Compute
from tickets.factory.data import DomainData, build
from tickets.factory.loop import Progress, Watch
from tickets.factory.lottery.masks import density, full, load_masks, save_masks
from tickets.factory.lottery.patterned import prunable
from tickets.factory.lottery.prune import prune
from tickets.factory.models import from_backbone
from tickets.factory.rows import DataError, Row
from tickets.factory.runs import Runs, Stage, described
from tickets.factory.tokens import Vocabulary, prune_vocabulary
from tickets.factory.train import Corpus, Recipe, predict, train

DEFAULT_RECIPE = Recipe(epochs=3, learning_rate=2e-4)


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """What a transfer matrix depends on besides backbone and data. The density is reached in ``levels`` equal steps."""

    density: float
    levels: int
    seeds: tuple[int, ...]
    recipe: Recipe = DEFAULT_RECIPE
    vocabulary: int = 6000
    max_tokens: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.density < 1:
            raise ValueError(f"density {self.density:g}: it must lie between 0 and 1")

    @property
    def fraction(self) -> float:
        """The share of what is left that each level prunes."""
        return float(1 - self.density ** (1 / self.levels))

    def trainings(self, domains: int) -> int:
        """How many trainings a matrix of so many domains is: levels, pairs, random masks and dense, for every seed."""
        return len(self.seeds) * domains * (self.levels + domains + 2)


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain's in-scope texts and the word pieces it uses."""

    data: DomainData
    vocabulary: Vocabulary


@dataclass(frozen=True, slots=True)
class Matrix:
    """Hits per test text, bool: [seed][A][B][texts of B] for masks, [seed][B][texts of B] for the controls.

    ``overlap`` [A][B]: the share of A's surviving weights that survive in B too, mean over seeds.
    """

    domains: tuple[str, ...]
    plan: TransferPlan
    pairs: list[list[list[NDArray[np.bool_]]]]
    random: list[list[NDArray[np.bool_]]]
    dense: list[list[NDArray[np.bool_]]]
    overlap: NDArray[np.float64]
    density: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """Builds the stages of a transfer matrix. ``progress(title)`` makes a progress callback for one training."""

    runs: Runs
    backbone: Backbone
    domains: Mapping[str, Domain]
    plan: TransferPlan
    compute: Compute
    progress: Callable[[str], Progress] = field(default=lambda title: lambda done, total, loss: None)

    def matrix(self) -> Matrix:
        """Find every domain's mask, train every pair and every control."""
        names, seeds = tuple(self.domains), self.plan.seeds
        found = {(seed, name): self.imp(name, seed) for seed in seeds for name in names}
        masks = {key: load_masks(levels[-1].path / "masks.npz") for key, levels in found.items()}
        pairs = [
            [[_hits(self.pair(found[seed, a][-1], a, b, seed)) for b in names] for a in names] for seed in seeds
        ]  # fmt: skip
        random = [[_hits(self.random(found[seed, b][-1], b, seed)) for b in names] for seed in seeds]
        dense = [[_hits(self.dense(b, seed)) for b in names] for seed in seeds]
        shared = [[[overlap(masks[seed, a], masks[seed, b]) for b in names] for a in names] for seed in seeds]
        left = float(np.mean([density(mask) for mask in masks.values()]))
        return Matrix(names, self.plan, pairs, random, dense, np.mean(shared, axis=0), left)

    def imp(self, name: str, seed: int) -> list[Stage]:
        """The levels of a domain's iterative pruning: each trains under its mask and leaves the next one behind.
        The first trains the dense model; the last leaves the mask that is transferred.
        """
        levels: list[Stage] = []
        for level in range(self.plan.levels):
            before = levels[-1] if levels else None
            inputs = {"level": level, "masks": before.key if before else None, "fraction": self.plan.fraction}
            title = f"{name}: level {level}, seed {seed}"
            masks = partial(load_masks, before.path / "masks.npz") if before else lambda: None
            levels.append(self._trained("transfer-level", name, seed, inputs, title, masks, prune_after=True))
        return levels

    def pair(self, found: Stage, a: str, b: str, seed: int) -> Stage:
        """The mask that ``found`` left behind on domain ``a``, trained on domain ``b``."""
        return self._trained(
            "transfer-pair", b, fresh(seed), {"masks": found.key}, f"{a} to {b}, seed {seed}",
            lambda: load_masks(found.path / "masks.npz"),
        )  # fmt: skip

    def random(self, found: Stage, name: str, seed: int) -> Stage:
        """A random mask with the per-layer counts of the domain's own."""
        return self._trained(
            "transfer-random", name, fresh(seed), {"masks": found.key}, f"random to {name}, seed {seed}",
            lambda: shuffled(load_masks(found.path / "masks.npz"), seed),
        )  # fmt: skip

    def dense(self, name: str, seed: int) -> Stage:
        """No mask."""
        return self._trained(
            "transfer-dense", name, fresh(seed), {"masks": None}, f"dense to {name}, seed {seed}", lambda: None
        )  # fmt: skip

    def _trained(
        self, stage: str, name: str, seed: int, inputs: dict[str, Any], title: str,
        masks: Callable[[], dict[str, Tensor] | None], prune_after: bool = False,
    ) -> Stage:  # fmt: skip
        """Pretrained weights under a mask with a fresh head, trained on a domain: hits and, if asked, the next mask."""
        plan, domain = self.plan, self.domains[name]
        data, vocabulary = domain.data, domain.vocabulary

        def make(folder: Path) -> None:
            held = masks()
            model = from_backbone(self.backbone, vocabulary, data.classes, seed)
            corpus = Corpus(data.train, vocabulary.encode(data.train.texts))
            watch = Watch(folder, self.progress(title))
            log = train(model, corpus, plan.recipe, seed=seed, compute=self.compute, watch=watch, masks=held)
            said = predict(model, vocabulary.encode(data.test.texts), self.compute)
            hits = said.logits.argmax(axis=1) == data.test.targets
            (folder / "log.json").write_text(json.dumps(log, indent=1), encoding="utf-8")
            np.save(folder / "hits.npy", hits)
            if prune_after:
                weights = prunable(model)
                left = prune(weights, full(weights) if held is None else held, plan.fraction, "global")
                save_masks(folder / "masks.npz", left.masks)

        base = {
            "data": data.digests(), "backbone": self.backbone.sha256, "seed": seed, "recipe": described(plan.recipe),
            "vocabulary": plan.vocabulary, "max_tokens": plan.max_tokens, **self.compute.described(),
        }  # fmt: skip
        return self.runs.stage(stage, base | inputs, make)


def choose_domains(rows: Sequence[Row], wanted: str) -> tuple[str, ...]:
    """``a,b,c`` or ``all`` -> names. Raises DataError where there are not two, or one is not in the file."""
    there = sorted({row.domain for row in rows} - {""})
    names = tuple(there) if wanted == "all" else tuple(dict.fromkeys(n.strip() for n in wanted.split(",") if n.strip()))
    missing = [name for name in names if name not in there]
    if missing:
        raise DataError(f"no rows of domain {', '.join(missing)}; the file has: {', '.join(there) or 'no domains'}")
    if len(names) < 2:
        raise DataError(f"transfer needs at least two domains; the file has: {', '.join(there) or 'no domains'}")
    return names


def in_scope(rows: Sequence[Row], name: str, backbone: Backbone, plan: TransferPlan) -> Domain:
    """One domain's in-scope texts. Raises DataError as `tickets.factory.data.build`."""
    data = build(rows, name, plan.seeds[0])
    data = replace(
        data, train=data.train.of_kind("in"), validation=data.validation.of_kind("in"), test=data.test.of_kind("in")
    )  # fmt: skip
    return Domain(data, prune_vocabulary(backbone.tokenizer_json, data.train.texts, plan.vocabulary, plan.max_tokens))


def fresh(seed: int) -> int:
    """The seed of the head and the order of texts that a mask found with ``seed`` has not seen, in any domain."""
    return int(np.random.SeedSequence((seed, 0xF5E5)).generate_state(1)[0])


def shuffled(masks: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Masks with as many survivors in every layer, anywhere in it."""
    random = np.random.default_rng((seed, 0x7EA))
    return {
        name: torch.from_numpy(random.permutation(mask.numpy().ravel()).reshape(mask.shape))
        for name, mask in masks.items()
    }


def overlap(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """The share of a's surviving weights that survive in b too. Chance would give b's density."""
    both = sum(int((mask & b[name]).sum()) for name, mask in a.items())
    return both / max(1, sum(int(mask.sum()) for mask in a.values()))


def _hits(stage: Stage) -> NDArray[np.bool_]:
    hits: NDArray[np.bool_] = np.load(stage.path / "hits.npy")
    return hits
