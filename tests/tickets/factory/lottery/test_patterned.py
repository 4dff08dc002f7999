"""A dense parent pruned to patterns: zeros held through training, exported and checked, compared with dense."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the factory's libraries are not installed")

import torch
from click.testing import CliRunner, Result

from tickets.factory.lottery.masks import load_masks
from tickets.factory.lottery.onnx_zeros import check_graph, zero_share
from tickets.factory.lottery.patterned import pattern_masks, prunable
from tickets.factory.lottery.patterns import PatternError, check_pattern, parse_pattern
from tickets.factory.lottery.patterns_command import patterns
from tickets.factory.models import load_model

pytestmark = [pytest.mark.torch, pytest.mark.timeout(180)]

WANTED = ("2:4", "block:16x16@0.5", "any@0.5")


def invoke(data: Path, backbone: Path, root: Path, *more: str) -> Result:
    return CliRunner().invoke(
        patterns,
        ["--data", str(data), "--domain", "house", "--backbone", str(backbone), "--runs", str(root / "runs"),
         "--out", str(root / "out"), "--epochs", "1", "--dense-epochs", "1", "--seeds", "1", "--vocabulary", "215",
         "--threads", "1", *more],
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(data_file: Path, backbone_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of all patterns in two rounds."""
    root = tmp_path_factory.mktemp("patterns")
    result = invoke(data_file, backbone_dir, root, "--patterns", ",".join(WANTED), "--rounds", "2")
    assert result.exit_code == 0, result.output
    assert "block:16x16@0.5" in result.output
    return root


def described(root: Path, name: str) -> Mapping[str, Path]:
    """The stage folders of a name, by the pattern of their description."""
    out = {}
    for path in root.glob(f"runs/{name}-*/description.json"):
        out[json.loads(path.read_text())["inputs"]["pattern"]] = path.parent
    return out


def test_pruned_weights_are_exactly_zero_after_training(found: Path) -> None:
    """The saved model keeps its masks, and its matrices the pattern; the last mask lies within the round before."""
    stages = described(found, "pattern")
    assert {*WANTED, "3:4", "dense"} <= stages.keys()
    for name in WANTED:
        model, _ = load_model(stages[name])
        masks = load_masks(stages[name] / "masks.npz")
        assert masks.keys() == prunable(model).keys()
        for parameter, weight in prunable(model).items():
            assert not weight[~masks[parameter]].any(), parameter
            assert weight[masks[parameter]].all(), parameter
            check_pattern(weight.numpy(), parse_pattern(name), parameter)
    first, last = (load_masks(stages[name] / "masks.npz") for name in ("3:4", "2:4"))
    assert not any((last[name] & ~first[name]).any() for name in first)


def test_the_graphs_keep_their_pattern_in_both_forms(found: Path) -> None:
    """Written for the user with the pattern in their metadata; half of the matrices' weights are zero."""
    for name in ("2-4", "block-16x16-at-0.5", "any-at-0.5"):
        for form in ("fp32", "int8"):
            graph = (found / "out" / f"house-{name}-{form}.onnx").read_bytes()
            assert len(check_graph(graph).matrices) == 12
            assert zero_share(graph) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(PatternError, match="records no pattern"):
        check_graph((found / "out" / "house-dense-fp32.onnx").read_bytes())


def test_the_numbers_are_the_hits_of_the_stages(found: Path) -> None:
    """Means over seeds and paired differences, for both forms, with intervals."""
    result = json.loads((found / "out" / "patterns.json").read_text())
    assert list(result["patterns"]) == ["dense", *WANTED]
    stages = described(found, "zeros")
    dense = np.load(stages["None"] / "hits-int8.npy")
    for name in WANTED:
        entry = result["patterns"][name]
        assert entry["density"] == 0.5
        hits = np.load(stages[name] / "hits-int8.npy")
        assert entry["int8"]["in_scope_accuracy"] == pytest.approx(hits.mean(), abs=1e-5)
        against = entry["int8"]["against_dense"]
        assert against["points"] == pytest.approx(100 * (hits.mean() - dense.mean()), abs=1e-3)
        assert against["points_ci"][0] <= against["points"] <= against["points_ci"][1]
        assert entry["fp32"]["bytes"] > entry["int8"]["bytes"]


def test_doing_it_again_reuses_every_stage(found: Path, data_file: Path, backbone_dir: Path) -> None:
    """Nothing is trained a second time."""
    before = {p: p.stat().st_mtime_ns for p in (found / "runs").rglob("*.safetensors")}
    result = invoke(data_file, backbone_dir, found, "--patterns", ",".join(WANTED), "--rounds", "2")
    assert result.exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in (found / "runs").rglob("*.safetensors")} == before


def test_masks_name_the_matrix_that_does_not_divide() -> None:
    """By its parameter's name."""
    with pytest.raises(PatternError, match=r"layers\.2\.up\.weight: 6 inputs do not divide by 4"):
        pattern_masks({"layers.2.up.weight": torch.ones(4, 6)}, parse_pattern("2:4"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--patterns", "2:4,half"], "cannot read pattern 'half'; write 2:4"),
        (["--patterns", ""], "cannot read pattern ''"),
        (["--patterns", "block:48x48@0.5"], "layers.0.qkv.weight: 64 inputs do not divide by 48"),
        (["--domain", "garden"], "no rows of domain 'garden'"),
    ],
)
def test_bad_calls_say_what_is_wrong(
    data_file: Path, backbone_dir: Path, tmp_path: Path, change: list[str], says: str
) -> None:
    """Exit status 2 and a sentence; nothing is trained."""
    result = invoke(data_file, backbone_dir, tmp_path, *change)
    assert not list(tmp_path.glob("runs/dense-*"))
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.output.split())
