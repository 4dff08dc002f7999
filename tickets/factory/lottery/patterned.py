"""Patterned: a dense parent pruned to a pattern, fine-tuned with its zeros held, and written as ONNX in fp32 and int8.

The recipe is the one NVIDIA gives for 2:4 (Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks", section 4):
train dense, prune once by magnitude, train again with the zeros held. With several rounds the pattern comes in steps,
each within the one before. The dense branch is trained on alike, so that a loss is the pattern's and not the extra
epochs'. Masked are the encoder's matrices; embeddings, norms, biases and the head stay dense, as in Chen et al. 2020,
"The Lottery Ticket Hypothesis for Pre-trained BERT Networks", section 3.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tickets.factory.data import Examples
from tickets.factory.encoder import Classifier
from tickets.factory.graph import build_fp32, build_int8
from tickets.factory.loop import Watch
from tickets.factory.lottery.masks import load_masks, save_masks
from tickets.factory.lottery.onnx_zeros import record_pattern, zero_share
from tickets.factory.lottery.patterns import Pattern, check_pattern, mask_of, softened
from tickets.factory.models import load_model, save_model
from tickets.factory.opened import Drawn, Opener, structure_of, weights_of
from tickets.factory.quality import correct, fit, measure
from tickets.factory.quantize import calibrate, matrices
from tickets.factory.runs import Stage, described
from tickets.factory.shrink import with_vocabulary
from tickets.factory.stages import Workshop
from tickets.factory.tokens import Vocabulary
from tickets.factory.train import Corpus, Recipe, train
from tickets.factory.verdict import Replicates, compare_replicates

DENSE = "dense"
CALIBRATION_TEXTS = 1024
DEFAULT_RECIPE = Recipe(epochs=2, learning_rate=1e-4, layer_decay=0.85, label_smoothing=0.1, out_per_in=0.5)


@dataclass(frozen=True, slots=True)
class Branch:
    """One pattern's stages from one seed: the fine-tuned model, and its graphs with what they are worth."""

    pattern: Pattern | None
    seed: int
    tuned: Stage
    exported: Stage

    @property
    def name(self) -> str:
        """The pattern as text, or ``dense``."""
        return DENSE if self.pattern is None else str(self.pattern)

    def document(self) -> dict[str, Any]:
        """What `Patterner.branch` measured."""
        measured: dict[str, Any] = json.loads((self.exported.path / "exported.json").read_text(encoding="utf-8"))
        return measured


class Patterner:
    """Builds the branches of one domain. ``rounds``: in how many steps a pattern is reached."""

    def __init__(self, shop: Workshop, recipe: Recipe, rounds: int = 1) -> None:
        self._shop, self._recipe, self._rounds = shop, recipe, rounds

    def branch(self, dense: Stage, pattern: Pattern | None, seed: int) -> Branch:
        """Prune ``dense`` to the pattern (None: not at all), fine-tune, export, measure.

        Raises PatternError where a matrix does not divide as the pattern needs.
        """
        steps: list[Pattern | None] = [None] * self._rounds
        if pattern is not None:
            steps = [*softened(pattern, self._rounds)]
            steps = [steps[0]] * (self._rounds - len(steps)) + steps  # as many trainings as the dense branch
        stage = dense
        for step in steps:
            stage = self._tuned(stage, step, seed)
        return Branch(pattern, seed, stage, self._exported(stage, pattern))

    def _tuned(self, parent: Stage, pattern: Pattern | None, seed: int) -> Stage:
        shop = self._shop
        name = DENSE if pattern is None else str(pattern)

        def build(folder: Path) -> None:
            model, vocabulary = self._small(parent)
            masks = {} if pattern is None else pattern_masks(prunable(model), pattern)
            corpus = Corpus(shop.data.train, vocabulary.encode(shop.data.train.texts))
            log = train(
                model, corpus, self._recipe, seed=seed, compute=shop.compute, masks=masks,
                watch=Watch(folder, shop.progress(f"{name}, seed {seed}")),
            )  # fmt: skip
            (folder / "log.json").write_text(json.dumps(log, indent=1), encoding="utf-8")
            save_model(folder, model, vocabulary)
            save_masks(folder / "masks.npz", masks)

        inputs = {
            "parent": parent.key, "pattern": name, "seed": seed, "recipe": described(self._recipe),
            "vocabulary": shop.plan.vocabulary, **shop.compute.described(),
        }  # fmt: skip
        return shop.runs.stage("pattern", inputs, build)

    def _exported(self, tuned: Stage, pattern: Pattern | None) -> Stage:
        shop = self._shop

        def build(folder: Path) -> None:
            model, vocabulary = load_model(tuned.path)
            train_set = shop.data.train
            texts = [train_set.texts[i] for i in train_set.half_inside(CALIBRATION_TEXTS, shop.plan.seed)]
            ranges = calibrate(model, vocabulary.encode(texts), shop.plan.seed)
            weights = weights_of(model)
            int8 = build_int8(model.shape, weights, ranges, shop.plan.isa)
            graphs = {"fp32": build_fp32(model.shape, weights), "int8": int8}
            document: dict[str, Any] = {}
            masked = list(load_masks(tuned.path / "masks.npz"))
            for form, plain in graphs.items():
                graph = plain if pattern is None else record_pattern(plain, weights, masked, pattern)
                (folder / f"{form}.onnx").write_bytes(graph)
                zeros = 0.0 if pattern is None else zero_share(graph)
                document[form] = {"bytes": len(graph), "zeros": round(zeros, 5)} | self._quality(
                    graph, model, vocabulary, form, folder / f"hits-{form}.npy"
                )
            (folder / "exported.json").write_text(json.dumps(document, indent=1), encoding="utf-8")

        inputs = {"tuned": tuned.key, "pattern": str(pattern), "seed": shop.plan.seed, "isa": shop.plan.isa}
        return shop.runs.stage("zeros", inputs, build)

    def _quality(
        self, graph: bytes, model: Classifier, vocabulary: Vocabulary, form: str, hits: Path
    ) -> dict[str, Any]:
        """Through ONNX Runtime, on the domain's own texts; other domains' are left aside, for time."""
        opener = Opener(self._shop.data, self._shop.backbone)
        reference = opener.open(Drawn(graph, vocabulary, structure_of(model, "none" if form == "fp32" else "int8")))
        validation, test = own(self._shop.data.validation), own(self._shop.data.test)
        fitted = fit(opener.logits(reference, validation), validation.targets, np.asarray(validation.kinds))
        logits = opener.logits(reference, test)
        np.save(hits, correct(logits, test.targets, np.asarray(test.kinds)))
        return dict(measure(logits, test.targets, np.asarray(test.kinds), fitted))

    def _small(self, parent: Stage) -> tuple[Classifier, Vocabulary]:
        """The parent over the domain's vocabulary."""
        model, vocabulary = load_model(parent.path)
        if len(vocabulary.rows) <= self._shop.plan.vocabulary:
            return model, vocabulary
        small = self._shop.vocabulary()
        place = {int(row): i for i, row in enumerate(vocabulary.rows)}
        rows = np.asarray([place[int(row)] for row in small.rows], np.int64)
        return with_vocabulary(model, rows, self._shop.plan.max_tokens), small


def prunable(model: Classifier) -> dict[str, Tensor]:
    """The parameters that masks are of, by name: the matrices of all layers."""
    return {f"{name}.weight": matrix.weight.detach() for name, matrix in matrices(model)}


def pattern_masks(weights: Mapping[str, Tensor], pattern: Pattern) -> dict[str, Tensor]:
    """A mask per weight [out, in], chosen by magnitude, as `tickets.factory.loop.run` takes them.

    Raises PatternError naming the weight that does not divide as the pattern needs.
    """
    return {
        name: torch.from_numpy(mask_of(weight.float().cpu().numpy(), pattern, name)) for name, weight in weights.items()
    }


def check_fits(weights: Mapping[str, Tensor], pattern: Pattern) -> None:
    """Whether a backbone's matrices divide as the pattern needs, before anything is trained.

    Raises PatternError naming the first matrix that does not.
    """
    for name, weight in weights.items():
        if name.startswith("layers.") and weight.ndim == 2:
            check_pattern(np.zeros(tuple(weight.shape), np.float32), pattern, name)


def own(examples: Examples) -> Examples:
    """The domain's own examples: in scope, and the data set's own out-of-scope ones."""
    keep = [i for i, kind in enumerate(examples.kinds) if kind in ("in", "out")]
    return Examples(
        tuple(examples.texts[i] for i in keep), examples.targets[keep], tuple(examples.kinds[i] for i in keep)
    )


def summary(branches: Sequence[Branch]) -> dict[str, Any]:
    """Per pattern: quality of both forms by seed and on average, and the difference to the dense branch in points,
    paired over seeds and in-scope texts. A dense branch of every seed must be there.
    """
    dense = {branch.seed: branch for branch in branches if branch.pattern is None}
    out: dict[str, Any] = {}
    for name in dict.fromkeys(branch.name for branch in branches):
        mine = [branch for branch in branches if branch.name == name]
        pattern = mine[0].pattern
        entry: dict[str, Any] = {"density": 1.0 if pattern is None else round(pattern.density, 5)}
        for form in ("fp32", "int8"):
            by_seed = [{"seed": branch.seed} | branch.document()[form] for branch in mine]
            entry[form] = {key: _mean(by_seed, key) for key in _SUMMED if key in by_seed[0]} | {
                "against_dense": asdict(
                    compare_replicates(_hits(mine, form), _hits([dense[b.seed] for b in mine], form))
                ),
                "by_seed": by_seed,
            }
        out[name] = entry
    return out


_SUMMED = ("in_scope_accuracy", "out_of_scope_recall", "out_of_scope_auroc", "bytes", "zeros")


def _hits(branches: Iterable[Branch], form: str) -> Replicates:
    return Replicates(np.stack([np.load(branch.exported.path / f"hits-{form}.npy") for branch in branches]))


def _mean(by_seed: Sequence[Mapping[str, Any]], key: str) -> float:
    return round(float(np.mean([entry[key] for entry in by_seed])), 5)
