"""The factory's stages: what each computes, from what, into which files.

Dense parent -> its signals -> per tier: scores on the tier before, shrink, distil. Every
stage is a pure function of its inputs (`tickets.factory.runs`), and knows nothing of the
command line. Packing and proof follow in `tickets.factory.proof`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tickets.factory.augment import augment
from tickets.factory.backbone import Backbone
from tickets.factory.compute import Compute
from tickets.factory.data import DomainData, Examples
from tickets.factory.encoder import Classifier
from tickets.factory.fisher import score
from tickets.factory.loop import Progress, Watch
from tickets.factory.models import from_backbone, load_model, save_model
from tickets.factory.runs import Runs, Stage, described
from tickets.factory.shrink import Kept, Target, choose, cut, with_vocabulary
from tickets.factory.tokens import Vocabulary, full_vocabulary, piece_counts, prune_vocabulary, whole_words
from tickets.factory.train import Corpus, Recipe, Signals, predict, train

SCORED_TEXTS = 2048


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a family depends on besides data and backbone."""

    dense: Recipe
    student: Recipe
    control: Recipe
    vocabulary: int
    rank: int
    """Width of the tickets' word tables; 0: as wide as the encoder."""
    max_tokens: int
    activation: str
    copies: int
    """Made-up variants of each in-scope text, for distillation."""
    teachers: int
    """Replicas of the dense parent, from seeds in a row, whose average answer is distilled."""
    seed: int


_STUDENT = Recipe(
    epochs=25,
    learning_rate=5e-4,
    layer_decay=0.8,
    warmup=0.05,
    batch=64,
    distil_weight=0.9,
    vector_weight=10.0,
    out_per_in=2.0,
    made_per_in=4.0,
)

DEFAULT_PLAN = Plan(
    dense=Recipe(epochs=10, learning_rate=2.5e-4, layer_decay=0.85, label_smoothing=0.1, batch=32),
    student=_STUDENT,
    control=replace(_STUDENT, learning_rate=2e-3, layer_decay=1.0),
    vocabulary=6000,
    rank=160,
    max_tokens=64,
    activation="gelu",
    copies=8,
    teachers=3,
    seed=0,
)


class Stages:
    """Builds stages for one domain. ``progress(title)`` makes a progress callback for a long step."""

    def __init__(
        self, runs: Runs, data: DomainData, backbone: Backbone, plan: Plan, compute: Compute,
        progress: Callable[[str], Progress],
    ) -> None:  # fmt: skip
        if plan.rank >= backbone.hidden:
            plan = replace(plan, rank=0)
        self._runs, self._data, self._backbone, self._plan = runs, data, backbone, plan
        self._compute, self._progress = compute, progress
        self._base = {
            "domain": data.domain, "labels": list(data.labels), "data": data.digests(), "backbone": backbone.sha256,
            "max_tokens": plan.max_tokens, "seed": plan.seed, **compute.described(),
        }  # fmt: skip

    def dense(self, replica: int = 0) -> Stage:
        """Fine-tune the whole backbone: replica 0 is the dense parent, the others teach beside it.

        Only the word rows in use are trained; the others keep their values.
        """
        plan, data, seed = self._plan, self._data, self._plan.seed + replica

        def build(folder: Path) -> None:
            full = full_vocabulary(self._backbone.tokenizer_json, plan.max_tokens)
            used = prune_vocabulary(
                self._backbone.tokenizer_json, data.train.texts, len(full.rows), plan.max_tokens, fill=False
            )
            model = from_backbone(self._backbone, used, data.classes, seed)
            corpus = Corpus(data.train, used.encode(data.train.texts))
            self._train(model, corpus, plan.dense, folder, f"dense parent, replica {replica}", seed)
            save_model(folder, _with_all_rows(model, used, full, self._backbone), full)

        return self._runs.stage("dense", self._base | {"seed": seed, "recipe": described(plan.dense)}, build)

    def signals(self, teachers: list[Stage]) -> Stage:
        """What the teachers say on average of every training text, and of made-up variants of the in-scope ones.

        The sentence vectors are the first one's alone: those of different replicas have nothing in common.
        """

        def build(folder: Path) -> None:
            common = whole_words(self._vocabulary())
            made = augment(self._data.train.of_kind("in").texts, common, self._plan.copies, self._plan.seed)
            said = []
            for teacher in teachers:
                model, vocabulary = load_model(teacher.path)
                said.append(predict(model, vocabulary.encode([*self._data.train.texts, *made]), self._compute))
            logits = np.mean([s.logits for s in said], axis=0, dtype=np.float32)
            (folder / "made.json").write_text(json.dumps(made), encoding="utf-8")
            np.savez(folder / "signals.npz", logits=logits, vectors=said[0].vectors)

        inputs = {
            "teachers": [t.key for t in teachers],
            "copies": self._plan.copies,
            "vocabulary": self._plan.vocabulary,
        }
        return self._runs.stage("signals", inputs, build)

    def tier(self, parent: Stage, signals: Stage, target: Target) -> Stage:
        """Score the parent, cut it to ``target``, distil the dense parent into what is left."""
        plan, data = self._plan, self._data
        recipe = plan.control if target.layers == 0 else plan.student

        def build(folder: Path) -> None:
            model, vocabulary = self._small_vocabulary(parent)
            examples, said = taught(data.train, signals)
            ids = vocabulary.encode(examples.texts)
            child = cut(model, self._choose(model, ids, said, target), plan.activation)
            self._train(child, Corpus(examples, ids, said), recipe, folder, str(target), plan.seed)
            save_model(folder, child, vocabulary)

        inputs = {
            "parent": parent.key, "signals": signals.key, "target": asdict(target), "recipe": described(recipe),
            "vocabulary": plan.vocabulary, "rank": plan.rank, "activation": plan.activation, "seed": plan.seed,
        }  # fmt: skip
        return self._runs.stage(f"tier-{target}", inputs, build)

    def _train(self, model: Classifier, corpus: Corpus, recipe: Recipe, folder: Path, title: str, seed: int) -> None:
        log = train(
            model, corpus, recipe,
            seed=seed, compute=self._compute, watch=Watch(folder, self._progress(title)),
        )  # fmt: skip
        (folder / "log.json").write_text(json.dumps(log, indent=1), encoding="utf-8")

    def _small_vocabulary(self, parent: Stage) -> tuple[Classifier, Vocabulary]:
        """The parent over the domain's vocabulary, with a narrow word table where the plan has a rank."""
        model, vocabulary = load_model(parent.path)
        if model.shape.rank or len(vocabulary.rows) <= self._plan.vocabulary:
            return model, vocabulary
        small = self._vocabulary()
        place = {int(row): i for i, row in enumerate(vocabulary.rows)}
        rows = np.asarray([place[int(row)] for row in small.rows], np.int64)
        counts = piece_counts(small, self._weighted_texts())
        return with_vocabulary(model, rows, self._plan.max_tokens, rank=self._plan.rank, counts=counts), small

    def _vocabulary(self) -> Vocabulary:
        plan = self._plan
        return prune_vocabulary(self._backbone.tokenizer_json, self._weighted_texts(), plan.vocabulary, plan.max_tokens)

    def _weighted_texts(self) -> tuple[str, ...]:
        """In-scope texts count eight times: their words matter most."""
        return self._data.train.of_kind("in").texts * 8 + self._data.train.texts

    def _choose(self, model: Classifier, ids: list[NDArray[np.int64]], said: Signals, target: Target) -> Kept:
        if target.layers == 0:
            return Kept((), (), ())
        index = self._data.train.half_inside(SCORED_TEXTS, self._plan.seed)
        return choose(model.shape, score(model, [ids[i] for i in index], said.logits[index]), target)


def taught(train_set: Examples, signals: Stage) -> tuple[Examples, Signals]:
    """The training examples followed by the made-up ones (whose target is the parent's answer), and all signals."""
    with np.load(signals.path / "signals.npz") as arrays:
        said = Signals(arrays["logits"], arrays["vectors"])
    made = json.loads((signals.path / "made.json").read_text(encoding="utf-8"))
    answers = said.logits[len(train_set.texts) :].argmax(axis=1).astype(np.int64)
    together = Examples(
        (*train_set.texts, *made),
        np.concatenate([train_set.targets, answers]),
        (*train_set.kinds, *("made" for _ in made)),
    )
    return together, said


def _with_all_rows(model: Classifier, used: Vocabulary, full: Vocabulary, backbone: Backbone) -> Classifier:
    """Put the trained word rows back among the backbone's others."""
    out = Classifier(replace(model.shape, vocabulary=len(full.rows)), model.classes)
    state = dict(model.state_dict())
    words = backbone.weights["embeddings.word.weight"].clone()
    words[torch.from_numpy(used.rows)] = state["embeddings.word.weight"]
    state["embeddings.word.weight"] = words[torch.from_numpy(full.rows)]
    out.load_state_dict(state)
    return out
