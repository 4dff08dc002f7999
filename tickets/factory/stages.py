"""The parent's stages: the dense models of one domain, what they answer, what they teach.

Every stage is a pure function of its inputs (`tickets.factory.runs`), and knows nothing of the
command line. What is cut out of the parent follows in `tickets.factory.tiers`.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tickets.factory.augment import augment
from tickets.factory.backbone import Backbone
from tickets.factory.compute import Compute
from tickets.factory.data import DomainData, Examples
from tickets.factory.encoder import Classifier
from tickets.factory.loop import Progress, Watch
from tickets.factory.models import from_backbone, load_model, save_model
from tickets.factory.plan import Plan
from tickets.factory.runs import Runs, Stage, described
from tickets.factory.tokens import Vocabulary, full_vocabulary, prune_vocabulary, whole_words
from tickets.factory.train import Corpus, Recipe, Signals, predict, train


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all stages of one domain share. ``progress(title)`` makes a progress callback for a long step."""

    runs: Runs
    data: DomainData
    backbone: Backbone
    plan: Plan
    compute: Compute
    progress: Callable[[str], Progress]

    def base(self, seed: int) -> dict[str, object]:
        """What every stage's result depends on."""
        return {
            "domain": self.data.domain, "labels": list(self.data.labels), "data": self.data.digests(),
            "backbone": self.backbone.sha256, "max_tokens": self.plan.max_tokens, "seed": seed,
            **self.compute.described(),
        }  # fmt: skip

    def learn(self, model: Classifier, corpus: Corpus, recipe: Recipe, folder: Path, title: str, seed: int) -> None:
        """Train ``model`` in place, with a checkpoint and a log in ``folder``."""
        log = train(
            model, corpus, recipe, seed=seed, compute=self.compute, watch=Watch(folder, self.progress(title))
        )  # fmt: skip
        (folder / "log.json").write_text(json.dumps(log, indent=1), encoding="utf-8")

    def vocabulary(self) -> Vocabulary:
        """The pieces that the domain's tickets keep."""
        plan, tokenizer = self.plan, self.backbone.tokenizer_json
        return prune_vocabulary(tokenizer, self.weighted_texts(), plan.vocabulary, plan.max_tokens)

    def weighted_texts(self) -> tuple[str, ...]:
        """In-scope texts count eight times: their words matter most."""
        return self.data.train.of_kind("in").texts * 8 + self.data.train.texts


class Parents:
    """The dense models of one domain and what they say."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def dense(self, seed: int) -> Stage:
        """Fine-tune the whole backbone. Only the word rows in use are trained; the others keep their values."""
        shop, data = self._shop, self._shop.data
        plan, backbone = shop.plan, shop.backbone

        def build(folder: Path) -> None:
            full = full_vocabulary(backbone.tokenizer_json, plan.max_tokens)
            used = prune_vocabulary(
                backbone.tokenizer_json, data.train.texts, len(full.rows), plan.max_tokens, fill=False
            )
            model = from_backbone(backbone, used, data.classes, seed)
            corpus = Corpus(data.train, used.encode(data.train.texts))
            shop.learn(model, corpus, plan.dense, folder, f"dense parent, seed {seed}", seed)
            save_model(folder, _with_all_rows(model, used, full, backbone), full)

        return shop.runs.stage("dense", shop.base(seed) | {"recipe": described(plan.dense)}, build)

    def signals(self, teachers: Sequence[Stage], parent: Stage) -> Stage:
        """What the teachers say on average of every training text and of made-up variants of the in-scope ones, and the
        hidden states of ``parent`` alone: those of different models have nothing in common.
        """
        shop = self._shop
        said = [self._answers(teacher) for teacher in teachers]
        mine = self._answers(parent)

        def build(folder: Path) -> None:
            logits = np.mean([np.load(stage.path / "logits.npy") for stage in said], axis=0, dtype=np.float32)
            np.save(folder / "logits.npy", logits)
            made = (mine.path / "made.json").read_bytes()
            (folder / "made.json").write_bytes(made)
            for name in ("vectors.npy", "states.npy"):
                if (mine.path / name).exists():
                    _link(mine.path / name, folder / name)

        return shop.runs.stage("signals", {"teachers": [s.key for s in said], "parent": mine.key}, build)

    def _answers(self, dense: Stage) -> Stage:
        shop, plan = self._shop, self._shop.plan
        with_states = plan.student.state_weight > 0

        def build(folder: Path) -> None:
            common = whole_words(shop.vocabulary())
            made = augment(shop.data.train.of_kind("in").texts, common, plan.copies, plan.seed)
            model, vocabulary = load_model(dense.path)
            ids = vocabulary.encode([*shop.data.train.texts, *made])
            said = predict(model, ids, shop.compute, with_states=with_states)
            (folder / "made.json").write_text(json.dumps(made), encoding="utf-8")
            np.save(folder / "logits.npy", said.logits)
            np.save(folder / "vectors.npy", said.vectors)
            if said.states is not None:
                np.save(folder / "states.npy", said.states)

        inputs = {
            "dense": dense.key, "copies": plan.copies, "vocabulary": plan.vocabulary, "seed": plan.seed,
            "states": with_states,
        }  # fmt: skip
        return shop.runs.stage("answers", inputs, build)


def taught(train_set: Examples, signals: Stage) -> tuple[Examples, Signals]:
    """The training examples followed by the made-up ones (whose target is the parents' answer), and all signals."""
    logits, vectors = np.load(signals.path / "logits.npy"), np.load(signals.path / "vectors.npy")
    states = np.load(signals.path / "states.npy") if (signals.path / "states.npy").exists() else None
    made = json.loads((signals.path / "made.json").read_text(encoding="utf-8"))
    answers = logits[len(train_set.texts) :].argmax(axis=1).astype(np.int64)
    together = Examples(
        (*train_set.texts, *made),
        np.concatenate([train_set.targets, answers]),
        (*train_set.kinds, *("made" for _ in made)),
    )
    return together, Signals(logits, vectors, states)


def _with_all_rows(model: Classifier, used: Vocabulary, full: Vocabulary, backbone: Backbone) -> Classifier:
    """Put the trained word rows back among the backbone's others."""
    out = Classifier(replace(model.shape, vocabulary=len(full.rows)), model.classes)
    state = dict(model.state_dict())
    words = backbone.weights["embeddings.word.weight"].clone()
    words[torch.from_numpy(used.rows)] = state["embeddings.word.weight"]
    state["embeddings.word.weight"] = words[torch.from_numpy(full.rows)]
    out.load_state_dict(state)
    return out


def _link(source: Path, target: Path) -> None:
    """The same file under a second name, whatever an interrupted run left there; a copy where links cannot be."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
