"""The tiers' stages: measure what structures cost, search one that fits, cut it out of its parent, distil.

Each tier's parent is the tier before: its scores are taken anew, its weights are where training begins. Controls are
cut from the same parent with the same number of units in every layer, and distilled alike.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from tickets.factory.encoder import Classifier, Shape
from tickets.factory.fisher import Scores, directions, random_scores, reversed_scores, score
from tickets.factory.graph import build_fp32
from tickets.factory.latency import LatencyTable, Workload, host, measure_graph, measure_table, workload_of
from tickets.factory.models import from_backbone, load_model, save_model
from tickets.factory.narrow import choose_hidden, narrow
from tickets.factory.opened import weights_of
from tickets.factory.plan import Ask, Control
from tickets.factory.runs import Stage, described
from tickets.factory.search import TooFast, correct_and_search
from tickets.factory.shrink import Kept, choose, choose_counts, cut, with_vocabulary
from tickets.factory.stages import Workshop, taught
from tickets.factory.tokens import Vocabulary, full_vocabulary, piece_counts
from tickets.factory.train import Corpus, Recipe, Signals

SCORED_TEXTS = 2048
MARGIN = 0.98
"""Of a budget that is used: what is measured later, in other company, must still fit."""

SCORES = "of the curvature of the distillation loss"
"""How structures are scored: those of other scores are not reused."""

CLOCK = "thread time, quartile, in turns with a yardstick"
"""How costs are measured: tables of another clock are not comparable."""

Kind = Literal["ticket"] | Control


@dataclass(frozen=True, slots=True)
class Found:
    """A structure that was searched: what it keeps (``hidden``: coordinates, None for all), what it was asked for and
    what it takes, in milliseconds of one core for a batch of 16 texts; None where a structure was given.
    """

    kept: Kept
    hidden: tuple[int, ...] | None
    budget_ms: float | None
    predicted_ms: float | None
    measured_ms: float | None


class Tiers:
    """Builds the stages below a parent."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def latency(self) -> Stage:
        """What each block of a ticket costs on this host for this domain's lengths, and the dense parent."""
        shop, plan = self._shop, self._shop.plan
        vocabulary = shop.vocabulary()
        lengths = [len(ids) for ids in vocabulary.encode(shop.data.train.of_kind("in").texts)]
        workload = workload_of(lengths)
        shape = self._whole_shape(len(vocabulary.rows))

        def build(folder: Path) -> None:
            table = self._table(shape, workload)
            dense = from_backbone(
                shop.backbone, full_vocabulary(shop.backbone.tokenizer_json, plan.max_tokens), shop.data.classes, 0
            )
            graph = build_fp32(dense.shape, weights_of(dense))
            document = {"dense_ms": measure_graph(graph, workload, table=table), "table": table.to_json()}
            (folder / "latency.json").write_text(json.dumps(document, indent=1), encoding="utf-8")

        inputs = {
            "clock": CLOCK, "host": host(), "runtime": onnxruntime.__version__, "workload": asdict(workload),
            "shape": asdict(shape), "classes": shop.data.classes,
        }  # fmt: skip
        return shop.runs.stage("latency", inputs, build)

    def check_reach(self, asks: Sequence[Ask], latency: Stage | None) -> None:
        """Before anything is trained: raises `search.TooFast` for an ask that not even an encoder without layers meets.
        (A narrower one has its own table, and is checked when its turn comes.)
        """
        for ask in asks:
            if latency is not None and ask.target is None and not ask.width:
                table, budget = _budget(latency, ask)
                if table.base_ms > budget:
                    raise TooFast(table.base_ms, budget, MARGIN * _dense_ms(latency) / table.base_ms)

    def structure(self, parent: Stage, signals: Stage, ask: Ask, latency: Stage | None) -> Stage:
        """The structure under the ask's milliseconds whose loss is least by the parent's scores.

        Raises `search.TooFast` where no structure is fast enough.
        """
        shop, plan = self._shop, self._shop.plan

        def build(folder: Path) -> None:
            model, vocabulary = self.small(parent)
            scores = self._scores(model, vocabulary, signals)
            _write(folder, self._search(model, scores, ask, latency))
            np.savez(folder / "scores.npz", sublayers=scores.sublayers, **_by_layer(scores))

        inputs = {
            "parent": parent.key, "signals": signals.key, "ask": str(ask), "score": [plan.score, SCORES],
            "seed": plan.seed, "vocabulary": plan.vocabulary, "rank": plan.rank, "activation": plan.activation,
        }  # fmt: skip
        if latency is not None and ask.target is None:
            inputs["latency"] = latency.key
        return shop.runs.stage("structure", inputs, build)

    def child(self, parent: Stage, signals: Stage, structure: Stage, kind: Kind, ask: Ask, seed: int) -> Stage:
        """Cut a structure (or a control of its size) out of the parent and distil the dense parents into it."""
        shop, plan = self._shop, self._shop.plan
        recipe = plan.student_of(ask)

        def build(folder: Path) -> None:
            model, vocabulary = self.small(parent)
            found = load_found(structure)
            kept = found.kept
            if kind in ("random", "worst"):
                scores = random_scores(model.shape, seed) if kind == "random" else reversed_scores(
                    self._scores(model, vocabulary, signals)
                )  # fmt: skip
                kept = choose_counts(kept, scores)
            if found.hidden is not None:
                model = narrow(model, found.hidden)
            child = cut(model, kept, plan.activation)
            if kind == "reinit":
                reinitialize(child, seed)
            title = f"{ask.tier}, {kind}: {_size(child.shape)}"
            self._distil(child, vocabulary, signals, recipe, folder, title, seed)

        inputs = {
            "parent": parent.key, "signals": signals.key, "structure": structure.key, "kind": kind, "seed": seed,
            "recipe": described(recipe), **shop.compute.described(),
        }  # fmt: skip
        return shop.runs.stage(kind, inputs, build)

    def zero_layers(self, parent: Stage, signals: Stage, seed: int) -> Stage:
        """The zero-layer control: the ticket's word table, its mean, a head; distilled alike."""
        shop, plan = self._shop, self._shop.plan

        def build(folder: Path) -> None:
            model, vocabulary = self.small(parent)
            child = cut(model, Kept((), (), ()), plan.activation)
            self._distil(child, vocabulary, signals, plan.control, folder, "zero layers", seed)

        inputs = {
            "parent": parent.key, "signals": signals.key, "seed": seed, "recipe": described(plan.control),
            "vocabulary": plan.vocabulary, "rank": plan.rank, **shop.compute.described(),
        }  # fmt: skip
        return shop.runs.stage("zero", inputs, build)

    def small(self, parent: Stage) -> tuple[Classifier, Vocabulary]:
        """The parent over the domain's vocabulary, with a narrow word table where the plan has a rank."""
        model, vocabulary = load_model(parent.path)
        plan = self._shop.plan
        if model.shape.rank or len(vocabulary.rows) <= plan.vocabulary:
            return model, vocabulary
        small = self._shop.vocabulary()
        place = {int(row): i for i, row in enumerate(vocabulary.rows)}
        rows = np.asarray([place[int(row)] for row in small.rows], np.int64)
        counts = piece_counts(small, self._shop.weighted_texts())
        return with_vocabulary(model, rows, plan.max_tokens, rank=plan.rank, counts=counts), small

    def _distil(
        self, child: Classifier, vocabulary: Vocabulary, signals: Stage, recipe: Recipe, folder: Path, title: str,
        seed: int,
    ) -> None:  # fmt: skip
        examples, said = taught(self._shop.data.train, signals)
        self._shop.learn(child, Corpus(examples, vocabulary.encode(examples.texts), said), recipe, folder, title, seed)
        save_model(folder, child, vocabulary)

    def _search(self, model: Classifier, scores: Scores, ask: Ask, latency: Stage | None) -> Found:
        if ask.target is not None:
            return Found(choose(model.shape, scores, ask.target), None, None, None, None)
        assert latency is not None
        (table, budget), shape, hidden = _budget(latency, ask), model.shape, None
        workload = table.workload
        if ask.width and ask.width < shape.hidden:
            hidden, shape = choose_hidden(scores, ask.width), replace(shape, hidden=ask.width)
        if shape.hidden != table.hidden:
            table = self._table(replace(self._whole_shape(shape.vocabulary), hidden=shape.hidden), workload)
        found = correct_and_search(shape, scores, table, workload, budget)
        return Found(found.kept, hidden, budget, found.predicted_ms, found.measured_ms)

    def _scores(self, model: Classifier, vocabulary: Vocabulary, signals: Stage) -> Scores:
        train, plan = self._shop.data.train, self._shop.plan
        index = train.half_inside(SCORED_TEXTS, plan.seed)
        said: Signals = taught(train, signals)[1]
        ids: list[NDArray[np.int64]] = vocabulary.encode([train.texts[i] for i in index])
        return score(model, ids, directions(said.logits[index], plan.seed), plan.score)

    def _whole_shape(self, vocabulary: int) -> Shape:
        backbone, plan = self._shop.backbone, self._shop.plan
        neurons = tuple(backbone.weights[f"layers.{i}.up.bias"].shape[0] for i in range(backbone.layers))
        return Shape(
            vocabulary=vocabulary, hidden=backbone.hidden, head_size=backbone.hidden // backbone.heads,
            heads=(backbone.heads,) * backbone.layers, neurons=neurons, sources=tuple(range(backbone.layers)),
            positions=plan.max_tokens, activation=plan.activation, rank=plan.rank,
        )  # fmt: skip

    def _table(self, shape: Shape, workload: Workload) -> LatencyTable:
        progress = self._shop.progress(f"measuring what structures cost, width {shape.hidden}")
        return measure_table(
            shape,
            self._shop.data.classes,
            workload,
            seconds=self._shop.plan.measure_seconds,
            tick=lambda done, total: progress(done, total, 0.0),
        )


def _budget(latency: Stage, ask: Ask) -> tuple[LatencyTable, float]:
    """The table, and the milliseconds that an ask leaves for a batch."""
    document = json.loads((latency.path / "latency.json").read_text(encoding="utf-8"))
    asked = _dense_ms(latency) / ask.speedup if ask.speedup else ask.budget_ms
    return LatencyTable.from_json(document["table"]), MARGIN * asked


def _dense_ms(latency: Stage) -> float:
    return float(json.loads((latency.path / "latency.json").read_text(encoding="utf-8"))["dense_ms"])


def load_found(structure: Stage) -> Found:
    """Read what a structure stage wrote."""
    document = json.loads((structure.path / "structure.json").read_text(encoding="utf-8"))
    kept = Kept(
        tuple(document["kept"]["layers"]),
        tuple(tuple(heads) for heads in document["kept"]["heads"]),
        tuple(tuple(neurons) for neurons in document["kept"]["neurons"]),
    )
    hidden = document.pop("hidden")
    return Found(
        kept, None if hidden is None else tuple(hidden),
        *(document[name] for name in ("budget_ms", "predicted_ms", "measured_ms")),
    )  # fmt: skip


def reinitialize(model: Classifier, seed: int) -> None:
    """Draw the layers' weights anew, as BERT's were once (normal, 0.02; norms at one). Word table and head stay."""
    torch.manual_seed(seed + 77_003)
    for module in model.layers.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()


def _write(folder: Path, found: Found) -> None:
    (folder / "structure.json").write_text(json.dumps(asdict(found)), encoding="utf-8")


def _by_layer(scores: Scores) -> dict[str, Any]:
    return {
        f"{name}{i}": values
        for name, parts in (("heads", scores.heads), ("neurons", scores.neurons))
        for i, values in enumerate(parts)
    }


def _size(shape: Shape) -> str:
    return f"{shape.layers} layers, {sum(shape.heads)} heads, {sum(shape.neurons)} neurons"
