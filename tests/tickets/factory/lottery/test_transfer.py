"""Transfer on a tiny backbone: masks found and moved, every training a stage, the matrix what its stages say."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch
from click.testing import CliRunner
from torch import Tensor

from tickets.factory.backbone import Backbone
from tickets.factory.compute import Compute
from tickets.factory.lottery.masks import are_nested, load_masks
from tickets.factory.lottery.transfer import (
    Matrix,
    Transfer,
    TransferPlan,
    choose_domains,
    in_scope,
    overlap,
    shuffled,
)
from tickets.factory.lottery.transfer_command import transfer
from tickets.factory.lottery.transfer_result import document, heat_map
from tickets.factory.rows import DataError, Row
from tickets.factory.runs import Runs
from tickets.factory.train import Recipe

pytestmark = [pytest.mark.torch, pytest.mark.timeout(180)]

PLAN = TransferPlan(0.36, 2, (0, 1), Recipe(epochs=2, learning_rate=1e-3), vocabulary=215, max_tokens=16)
WORDS = ["red", "quiet", "old", "front", "gentle", "loud", "small", "first"]
DOMAINS = {
    "house": {"door": "open the {} door", "gate": "swing a {} gate wide"},
    "music": {"song": "play a {} song", "record": "start the {} record"},
}


def rows() -> list[Row]:
    """Two domains of two labels, split."""
    return [
        Row(f"{template.format(word)}{' now' * extra}", label, ("train", "train", "validation", "test")[i % 4], domain)
        for domain, labels in DOMAINS.items()
        for label, template in labels.items()
        for extra in (0, 1)
        for i, word in enumerate(WORDS)
    ]


@pytest.fixture(scope="module")
def prepared(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Transfer:
    """The tiny transfer, nothing run yet."""
    torch.set_num_threads(1)
    domains = {name: in_scope(rows(), name, backbone, PLAN) for name in DOMAINS}
    return Transfer(Runs(tmp_path_factory.mktemp("runs"), lambda text: None), backbone, domains, PLAN, Compute())


@pytest.fixture(scope="module")
def matrix(prepared: Transfer) -> Matrix:
    """All pairs of two domains from two seeds."""
    return prepared.matrix()


def masks(seed: int, density: float = 0.5) -> dict[str, Tensor]:
    random = np.random.default_rng(seed)
    return {name: torch.from_numpy(random.random((8, 12)) < density) for name in ("a", "b")}


def test_each_level_keeps_its_share_within_the_level_before(prepared: Transfer, matrix: Matrix) -> None:
    """0.6, then 0.36 of all matrix weights, nested; the transferred mask has the plan's density."""
    for name in DOMAINS:
        first, last = (load_masks(stage.path / "masks.npz") for stage in prepared.imp(name, 0))
        total = sum(mask.numel() for mask in first.values())
        assert sum(int(mask.sum()) for mask in first.values()) == pytest.approx(0.6 * total, abs=1)
        assert sum(int(mask.sum()) for mask in last.values()) == pytest.approx(0.36 * total, abs=1)
        assert are_nested(last, first)
    assert matrix.density == pytest.approx(0.36, abs=1e-3)


def test_a_mask_is_tried_with_a_head_and_an_order_that_it_was_not_found_with(prepared: Transfer) -> None:
    """Else its own domain's mask would be ahead for fitting the seed: the second level would be tried over again."""
    first, second = prepared.imp("house", 0)
    tried = prepared.pair(first, "house", "house", 0)
    assert (tried.path / "log.json").read_text() != (second.path / "log.json").read_text()


def test_a_random_mask_has_the_layers_own_counts() -> None:
    """As many survivors in each layer, elsewhere; the seed decides where."""
    mine = masks(0)
    other = shuffled(mine, 1)
    assert {name: int(mask.sum()) for name, mask in other.items()} == {n: int(m.sum()) for n, m in mine.items()}
    assert any((other[name] != mask).any() for name, mask in mine.items())
    assert all((shuffled(mine, 1)[name] == mask).all() for name, mask in other.items())
    assert any((shuffled(mine, 2)[name] != mask).any() for name, mask in other.items())


def test_overlap_is_one_with_itself_and_zero_with_the_opposite() -> None:
    """And between the two for masks that share some."""
    mine = masks(0)
    assert overlap(mine, mine) == 1
    assert overlap(mine, {name: ~mask for name, mask in mine.items()}) == 0
    assert 0 < overlap(mine, masks(1)) < 1


def test_the_matrix_is_a_table_of_accuracies_with_its_controls(matrix: Matrix) -> None:
    """By seed and on average, one row per mask's domain, one column per trained domain; JSON through and through."""
    result = json.loads(json.dumps(document(matrix)))
    assert result["domains"] == ["house", "music"]
    assert np.shape(result["accuracy_by_seed"]) == (2, 2, 2)
    np.testing.assert_allclose(np.mean(result["accuracy_by_seed"], axis=0), result["accuracy"], atol=1e-5)
    assert np.shape(result["random"]) == np.shape(result["dense"]) == (2,)
    assert np.diag(result["overlap"]).tolist() == [1.0, 1.0]
    summary = result["summary"]
    assert summary["own"] == pytest.approx(np.diag(result["accuracy"]).mean(), abs=1e-4)
    assert summary["own_minus_others"]["points"] == pytest.approx(
        100 * (summary["own"] - np.mean([result["accuracy"][1][0], result["accuracy"][0][1]])), abs=2e-3
    )
    low, high = summary["own_minus_dense"]["points_ci"]
    assert low <= summary["own_minus_dense"]["points"] <= high
    assert heat_map(result).startswith(b"\x89PNG")


def test_done_again_nothing_is_trained_again(prepared: Transfer, matrix: Matrix) -> None:
    """Every training is a stage that is found; the numbers are the same."""
    said: list[str] = []
    again = Transfer(
        Runs(prepared.runs.root, said.append), prepared.backbone, prepared.domains, PLAN, Compute()
    ).matrix()  # fmt: skip
    assert len(said) == PLAN.trainings(2) == 24
    assert all(text.endswith("done before, reused") for text in said)
    assert document(again) == document(matrix)


def test_an_interrupted_matrix_goes_on_to_the_same_bits(prepared: Transfer, matrix: Matrix, tmp_path: Path) -> None:
    """Stopped in a level, in a pair and in a control, one after the other."""
    steps = iter(range(10**6))

    def stop_at(count: int) -> Transfer:
        def tick(done: int, total: int, loss: float) -> None:
            if next(steps) == count:
                raise KeyboardInterrupt

        runs = Runs(tmp_path / "runs", lambda text: None)
        return Transfer(runs, prepared.backbone, prepared.domains, PLAN, Compute(), lambda title: tick)

    for count in (1, 20, 37):
        with pytest.raises(KeyboardInterrupt):
            stop_at(count).matrix()
    assert document(stop_at(10**6).matrix()) == document(matrix)


def test_another_density_is_another_mask_and_the_same_dense_model(prepared: Transfer, matrix: Matrix) -> None:
    """What a stage is named by includes the mask it starts from and what it prunes to."""
    first, _ = prepared.imp("house", 0)
    other = Transfer(
        prepared.runs, prepared.backbone, prepared.domains, TransferPlan(0.2, 2, (0,), PLAN.recipe, 215, 16), Compute()
    ).imp("house", 0)[0]  # fmt: skip
    assert other.key != first.key
    np.testing.assert_array_equal(np.load(other.path / "hits.npy"), np.load(first.path / "hits.npy"))


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("house", "at least two domains; the file has: house, music"),
        ("house,garden", "no rows of domain garden; the file has: house, music"),
        ("", "at least two domains"),
    ],
)
def test_domains_that_make_no_matrix_are_refused(wanted: str, says: str) -> None:
    """With the names that there are."""
    with pytest.raises(DataError, match=says):
        choose_domains(rows(), wanted)
    assert choose_domains(rows(), "all") == ("house", "music")
    assert choose_domains(rows(), " music,house,music") == ("music", "house")


def test_the_command_prints_the_matrix_and_leaves_numbers_a_picture_and_a_record(
    backbone_dir: Path, tmp_path: Path
) -> None:
    """The whole path, from a file with a domain column."""
    data = tmp_path / "data.csv"
    lines = ["text,label,split,domain", *(f"{r.text},{r.label},{r.split},{r.domain}" for r in rows())]
    data.write_text("\n".join(lines) + "\n")
    arguments = [
        "--data", str(data), "--backbone", str(backbone_dir), "--runs", str(tmp_path / "runs"), "--epochs", "1",
        "--levels", "1", "--seeds", "1", "--density", "0.5", "--threads", "1",
    ]  # fmt: skip
    result = CliRunner().invoke(transfer, arguments)
    assert result.exit_code == 0, result.output
    assert "mask of" in result.output
    assert "own masks against other domains'" in result.output
    written = Path(result.output.strip().splitlines()[-1])
    assert json.loads(written.read_text())["domains"] == ["house", "music"]
    assert written.with_name("transfer.png").is_file()
    records = list((tmp_path / "runs" / "records").glob("*/run.json"))
    assert [json.loads(r.read_text())["status"] for r in records] == ["done"]


def test_the_command_refuses_one_domain_in_a_sentence(backbone_dir: Path, data_file: Path, tmp_path: Path) -> None:
    """Nothing is trained."""
    result = CliRunner().invoke(
        transfer, ["--data", str(data_file), "--backbone", str(backbone_dir), "--runs", str(tmp_path / "runs")]
    )
    assert result.exit_code == 2
    assert "transfer needs at least two domains; the file has: house" in result.output
    assert not (tmp_path / "runs").exists()
