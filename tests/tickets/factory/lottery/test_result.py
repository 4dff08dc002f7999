"""What a lottery's result says: winning, pruned, matching, from hits alone."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch
from rich.console import Console

from tests.tickets.factory.lottery.tiny import digits_network
from tickets.factory.lottery.levels import LotteryPlan
from tickets.factory.lottery.networks import Outcome
from tickets.factory.lottery.result import document, matching_density, summary, terminal_table
from tickets.factory.lottery.trained import Trained, load_weights, save_weights, write_trained

pytestmark = [pytest.mark.torch]

SEEDS = (0, 1, 2)
TEXTS = 400


def made(folder: Path, accuracy: float, seed: int, density: float = 1.0, spared: tuple[str, ...] = ()) -> Trained:
    """A training that is right about the first share of its examples, less a few of the seed's own."""
    folder.mkdir(parents=True)
    hits = np.arange(TEXTS) < round(accuracy * TEXTS)
    hits[seed] = False
    outcome = Outcome(hits, np.where(hits, 0.1, 2.0).astype(np.float32))
    mask = torch.arange(10) < round(10 * density)
    epoch = {"step": 5, "loss": 0.1, "validation_loss": 0.2, "validation_accuracy": accuracy}
    stop = {"step": 5, "test_accuracy": accuracy, "test_loss": 0.2}
    write_trained(
        folder, {"w": torch.arange(10.0) * mask, "b": torch.ones(2)}, {"w": mask},
        {"epochs": [epoch], "early_stop": stop, "spared": list(spared)}, {"validation": outcome, "test": outcome},
    )  # fmt: skip
    return Trained(folder)


def played(root: Path, level_1: Mapping[str, float]) -> list[list[dict[str, Trained]]]:
    """Three seeds of a dense network at 95 % and one level at half the density."""
    return [
        [
            {"ticket": made(root / f"{seed}-dense", 0.95, seed)},
            {name: made(root / f"{seed}-{name}", accuracy, seed, 0.5) for name, accuracy in level_1.items()},
        ]
        for seed in SEEDS
    ]  # fmt: skip


PLAN = LotteryPlan(1, 0.5, SEEDS)

CASES = [
    ({"ticket": 0.95, "random": 0.8, "reinit": 0.85, "shuffled": 0.9}, "winning", True, "ahead of all 3 controls"),
    ({"ticket": 0.95, "random": 0.8, "reinit": 0.95, "shuffled": 0.9}, "pruned", True, "not clearly ahead of reinit"),
    ({"ticket": 0.90, "random": 0.7, "reinit": 0.7, "shuffled": 0.7}, "pruned", False, "to match the dense network"),
]


@pytest.mark.parametrize(("accuracies", "label", "is_matching", "reason"), CASES, ids=[c[3] for c in CASES])
def test_a_level_is_winning_where_it_beats_every_control_and_matches_dense(
    accuracies: dict[str, float], label: str, is_matching: bool, reason: str, tmp_path: Path
) -> None:
    result = document(digits_network(), PLAN, played(tmp_path, accuracies))
    verdict = result["verdict"][1]
    assert (verdict["label"], verdict["matches_dense"], verdict["density"]) == (label, is_matching, 0.5)
    assert reason in verdict["reasons"][0]
    assert verdict["against"].keys() == {"random", "reinit", "shuffled"}
    assert result["matching_density"] == (0.5 if is_matching else None)
    assert result["verdict"][0]["against"] == {}


def test_the_document_has_every_seed_of_every_branch(tmp_path: Path) -> None:
    """Accuracy and loss at the end and at the early stop; densities of all and of each layer."""
    result = document(digits_network(), PLAN, played(tmp_path, CASES[0][0]))
    dense, level = result["levels"]
    assert (dense["density"], level["density"], level["per_layer"]) == (1.0, 0.5, {"w": 0.5})
    assert dense["branches"].keys() == {"ticket"}
    assert level["branches"]["random"]["accuracy"] == [0.7975] * 3
    assert level["branches"]["ticket"]["early_stop_step"] == [5, 5, 5]
    assert level["branches"]["ticket"]["loss"] == pytest.approx([0.1 * 0.9475 + 2 * 0.0525] * 3)
    assert (result["network"], result["data"], result["rewind"], result["seeds"]) == ("small", "digits", "0", [0, 1, 2])


def test_layers_that_pruning_spared_are_noted(tmp_path: Path) -> None:
    """By seed, level and name."""
    seed = [{"ticket": made(tmp_path / "a", 0.9, 0)}, {"ticket": made(tmp_path / "b", 0.9, 0, 0.5, ("w",))}]
    result = document(digits_network(), LotteryPlan(1, 0.5, (7,), controls=()), [seed])
    assert result["notes"] == ["seed 7, level 1: pruning would have emptied w; its largest weight stays"]
    assert "only 1 seed" in result["verdict"][1]["reasons"][0]


MATCHED = [([True, True, False], 0.64), ([False, True, True], None), ([True, False, True], 0.8), ([True] * 3, 0.512)]


@pytest.mark.parametrize(("matched", "density"), MATCHED)
def test_the_matching_density_is_the_last_before_the_first_that_does_not(
    matched: list[bool], density: float | None
) -> None:
    """A level that matches by luck after one that does not is not counted."""
    verdicts = [
        {"density": round(0.8**number, 3), "matches_dense": does} for number, does in enumerate([True, *matched])
    ]
    assert matching_density(verdicts) == density


def test_a_person_reads_the_table_and_the_sentence(tmp_path: Path) -> None:
    """A row per level, means and spreads; what is winning, and down to where it matches."""
    result = document(digits_network(), PLAN, played(tmp_path, CASES[0][0]))
    screen = io.StringIO()
    Console(file=screen, width=120).print(terminal_table(result))
    text = screen.getvalue()
    assert "small on digits: test accuracy, %, over 3 seeds" in text
    assert "50.0" in text
    assert "94.8 ±0.0" in text
    assert "winning" in text
    assert "matches the dense network down to 50.0 %" in summary(result)
    assert "Winning, that is matching and ahead of every control, at: 50.0 %" in summary(result)


def test_nothing_won_is_said_with_the_reason(tmp_path: Path) -> None:
    result = document(digits_network(), PLAN, played(tmp_path, CASES[2][0]))
    assert "no level's ticket is shown to match" in summary(result)
    assert "No level is winning; the last: failed: to match the dense network within 1 point." in summary(result)


def test_weights_are_kept_without_their_zeros(tmp_path: Path) -> None:
    """They come back to the bit, zeros in their places; the file shrinks with the mask."""
    weights = {"w": torch.randn(100, 100), "b": torch.randn(3)}
    masks = {"w": torch.rand(100, 100) < 0.1}
    weights["w"] *= masks["w"]
    save_weights(tmp_path / "weights", weights, masks)
    back = load_weights(tmp_path / "weights", masks)
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    assert (tmp_path / "weights").stat().st_size < 6_000
