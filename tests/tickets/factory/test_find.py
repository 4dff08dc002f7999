"""A whole family from a tiny backbone: made, reproducible, resumable, proven, refused when it must be."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tickets import bundle as bundles
from tickets.evidence import read_evidence
from tickets.factory.evaluate_command import evaluate
from tickets.factory.find_command import find
from tickets.factory.plan import parse_tiers
from tickets.pack_command import pack
from tickets.reference import Reference, reproduce_samples

pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

TIERS = "big=2x2x64,small=1x1x32"


def arguments(data: Path, backbone: Path, out: Path, runs: Path, *more: str) -> list[str]:
    return [
        "--data", str(data), "--domain", "house", "--tiers", TIERS, "--backbone", str(backbone), "--out", str(out),
        "--runs", str(runs), "--epochs", "3", "--dense-epochs", "3", "--vocabulary", "215", "--rank", "24",
        "--teachers", "2", "--threads", "1", "--measure-seconds", "2", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def family(data_file: Path, backbone_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a family that `tombola find` made."""
    root = tmp_path_factory.mktemp("family")
    result = CliRunner().invoke(find, arguments(data_file, backbone_dir, root / "out", root / "runs"))
    assert result.exit_code == 0, result.output
    return root


def test_every_ticket_verifies_reproduces_its_samples_and_names_its_lineage(family: Path) -> None:
    """Each child names the ticket of the tier before as its parent, and what it was made from."""
    big, small = (bundles.read(family / "out" / f"house-{tier}.ticket") for tier in ("big", "small"))
    assert small.manifest.lineage.parent == big.id
    assert big.manifest.lineage.parent is None
    for ticket in (big, small):
        assert reproduce_samples(Reference(ticket)) == 12
        assert ticket.manifest.lineage.data.keys() == {"train", "validation", "test"}
        assert ticket.manifest.verdict == "pruned"
    assert small.manifest.structure is not None
    assert (small.manifest.structure.heads, small.manifest.structure.ffn_neurons) == ([1], [32])


def test_the_report_holds_every_model_and_its_controls(family: Path) -> None:
    """Dense parent, both controls and each tier, with intervals, in JSON, Markdown and a plot."""
    document = json.loads((family / "out" / "family.json").read_text())
    models = document["reports"]["house"]["models"]
    assert set(models) == {"tf-idf-linear-svm", "dense-parent", "zero-layer-control", "house-big", "house-small"}
    for name, entry in models.items():
        low, high = entry["in_scope_accuracy_ci"]
        assert low <= entry["in_scope_accuracy"] <= high, name
    assert models["dense-parent"]["speed"]["speedup"] == [1.0, 1.0, 1.0]
    assert "house-small" in (family / "out" / "REPORT.md").read_text()
    assert (family / "out" / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_no_sentence_of_the_data_travels_in_a_ticket(family: Path, data_file: Path) -> None:
    """Samples are made-up word sequences; no training text stands in the bundle."""
    content = (family / "out" / "house-big.ticket").read_bytes()
    for line in data_file.read_text().splitlines()[1:]:
        assert line.split(",")[0].encode() not in content


def stage_files(runs: Path) -> dict[Path, int]:
    """When each file of a stage was written; records and locks are written by every run."""
    files = (p for p in runs.rglob("*") if p.is_file() and p.suffix != ".lock" and "records" not in p.parts)
    return {p: p.stat().st_mtime_ns for p in files}


def test_the_same_seed_gives_the_same_weights_and_doing_it_again_reuses_everything(
    family: Path, data_file: Path, backbone_dir: Path, tmp_path: Path
) -> None:
    """A fresh run folder arrives at the same graph to the bit; the old one is not trained again."""
    fresh = CliRunner().invoke(find, arguments(data_file, backbone_dir, tmp_path / "out", tmp_path / "runs"))
    assert fresh.exit_code == 0, fresh.output
    for tier in ("big", "small"):
        first = bundles.read(family / "out" / f"house-{tier}.ticket").members["model.onnx"]
        assert bundles.read(tmp_path / "out" / f"house-{tier}.ticket").members["model.onnx"] == first
    before = stage_files(tmp_path / "runs")
    again = CliRunner().invoke(find, arguments(data_file, backbone_dir, tmp_path / "out", tmp_path / "runs"))
    assert again.exit_code == 0
    assert stage_files(tmp_path / "runs") == before


def test_a_killed_run_goes_on_and_arrives_at_the_same_ticket(
    family: Path, data_file: Path, backbone_dir: Path, tmp_path: Path
) -> None:
    """Killed once the first checkpoint is written; the same command then finishes what was begun."""
    command = [sys.executable, "-m", "tickets", "find",
               *arguments(data_file, backbone_dir, tmp_path / "out", tmp_path / "runs")]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ.copy())
    runs = tmp_path / "runs"
    while process.poll() is None and not any((*runs.glob("*/checkpoint.pt"), *runs.glob("*/done.json"))):
        time.sleep(0.005)  # a checkpoint goes when its stage is done: a busy machine may miss it
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "family.json").exists()

    result = CliRunner().invoke(find, arguments(data_file, backbone_dir, tmp_path / "out", tmp_path / "runs"))

    assert result.exit_code == 0, result.output
    wanted = bundles.read(family / "out" / "house-small.ticket").members["model.onnx"]
    assert bundles.read(tmp_path / "out" / "house-small.ticket").members["model.onnx"] == wanted


def test_evaluate_gives_the_numbers_of_the_report(family: Path, data_file: Path) -> None:
    """The packed ticket, measured from its file, repeats what its evidence says."""
    ticket = family / "out" / "house-small.ticket"
    result = CliRunner().invoke(evaluate, [str(ticket), "--data", str(data_file), "--json"])
    assert result.exit_code == 0, result.output
    measured = json.loads(result.output)
    recorded = bundles.read(ticket).manifest.evidence.report
    for key in ("in_scope_accuracy", "out_of_scope_recall", "out_of_scope_auroc"):
        assert measured[key] == recorded[key]


@pytest.mark.parametrize(
    ("gate", "status", "says"),
    [
        ('at_most = 4e9\nnumber = "cost.bytes"', 0, "size"),
        ('at_most = 10\nnumber = "cost.bytes"', 1, "size"),
        ('at_least = 2.0\nnumber = "cost.speedup"', 1, "not measured"),
    ],
)
def test_evaluate_checks_the_gates_it_is_given(
    family: Path, data_file: Path, tmp_path: Path, gate: str, status: int, says: str
) -> None:
    """With a parent or without; what was not measured is no pass."""
    gates = tmp_path / "gates.toml"
    gates.write_text(f"[size]\n{gate}\n")
    call = [str(family / "out" / "house-small.ticket"), "--data", str(data_file), "--gates", str(gates)]
    result = CliRunner().invoke(evaluate, call)
    assert result.exit_code == status, result.output
    assert says in result.output
    beside = CliRunner().invoke(evaluate, [*call, "--parent", str(family / "out" / "house-big.ticket")])
    assert beside.exit_code == status, beside.output


def test_the_dense_parent_is_a_ticket_where_it_is_asked_for(
    family: Path, data_file: Path, backbone_dir: Path, tmp_path: Path
) -> None:
    """And `evaluate --parent` against it tells what the report tells."""
    shutil.copytree(family / "runs", tmp_path / "runs")
    out = tmp_path / "out"
    call = arguments(data_file, backbone_dir, out, tmp_path / "runs", "--dense")
    result = CliRunner().invoke(find, call)
    assert result.exit_code == 0, result.output
    dense = bundles.read(out / "house-dense.ticket")
    assert (dense.manifest.name, dense.manifest.tier, dense.manifest.verdict) == ("house-dense", None, "dense")
    assert reproduce_samples(Reference(dense)) == 12
    asked = [str(out / "house-small.ticket"), "--data", str(data_file), "--parent", str(out / "house-dense.ticket")]
    compared = json.loads(CliRunner().invoke(evaluate, [*asked, "--json"]).output)["evaluation"]
    report = json.loads((out / "family.json").read_text())["reports"]["house"]
    assert compared["accuracy"] == report["models"]["house-small"]["evaluation"]["accuracy"]
    assert [tier["tier"] for tier in report["tiers"]] == ["big", "small"]


def test_find_measures_cost_before_it_judges(family: Path, data_file: Path, backbone_dir: Path, tmp_path: Path) -> None:
    """So a gate on bytes or speed is checked; and other gates are another run."""
    gates = tmp_path / "gates.toml"
    gates.write_text('[size]\nnumber = "cost.bytes"\nat_most = 10\n[rate]\nnumber = "cost.texts_per_s"\nat_least = 1\n')
    runs = tmp_path / "runs"
    shutil.copytree(family / "runs", runs)
    before = set((runs / "records").iterdir())
    call = arguments(data_file, backbone_dir, tmp_path / "out", runs, "--gates", str(gates))
    result = CliRunner().invoke(find, call)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "family.json").read_text())["reports"]["house"]
    for tier in report["tiers"]:
        assert [(gate["gate"], gate["passed"]) for gate in tier["gates"]] == [("size", False), ("rate", True)]
    assert len(set((runs / "records").iterdir()) - before) == 1


def test_whatever_stage_was_about_to_end_it_is_built_over(
    family: Path, data_file: Path, backbone_dir: Path, tmp_path: Path
) -> None:
    """All files of every stage are there but the word that it is done, and a checkpoint that a power cut emptied."""
    runs = tmp_path / "runs"
    shutil.copytree(family / "runs", runs)
    for done in runs.glob("*/done.json"):
        done.unlink()
        (done.parent / "checkpoint.pt").write_bytes(b"")
    result = CliRunner().invoke(find, arguments(data_file, backbone_dir, tmp_path / "out", runs))
    assert result.exit_code == 0, result.output
    for tier in ("big", "small"):
        made, wanted = (bundles.read(root / "out" / f"house-{tier}.ticket") for root in (tmp_path, family))
        assert made.members["model.onnx"] == wanted.members["model.onnx"]


def test_a_whole_data_set_becomes_one_family(data_file: Path, backbone_dir: Path, tmp_path: Path) -> None:
    """Intents of every domain are labels of one ticket, and `evaluate` measures it on the same texts."""
    header, *rows = data_file.read_text().splitlines()
    apart = [row.removesuffix("house") + "street" if ",open_door," in row else row for row in rows]
    data = tmp_path / "two.csv"
    data.write_text("\n".join([header, *apart]) + "\n")
    call = arguments(data, backbone_dir, tmp_path / "out", tmp_path / "runs", "--copies", "2")
    call[call.index("house")] = "all"
    found = CliRunner().invoke(find, call)
    assert found.exit_code == 0, found.output
    ticket = tmp_path / "out" / "all-small.ticket"
    assert bundles.read(ticket).manifest.labels == ["open_door", "play_song", "set_alarm"]
    result = CliRunner().invoke(evaluate, [str(ticket), "--data", str(data), "--json"])
    assert result.exit_code == 0, result.output
    measured, recorded = json.loads(result.output), bundles.read(ticket).manifest.evidence.report
    assert measured["out_of_scope_recall"] == recorded["out_of_scope_recall"]
    assert "other_domains_recall" not in measured


def test_pack_makes_a_bundle_of_a_model_of_ones_own(family: Path, tmp_path: Path) -> None:
    """Manifest, graph and further files, verified as they are packed."""
    ticket = bundles.read(family / "out" / "house-small.ticket")
    import msgspec

    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(ticket.manifest))
    (tmp_path / "tokenizer.json").write_bytes(ticket.members["tokenizer.json"])
    (tmp_path / "graph.onnx").write_bytes(ticket.members["model.onnx"])
    out = tmp_path / "mine.ticket"
    good = ["--manifest", str(tmp_path / "manifest.json"), "--member", str(tmp_path / "tokenizer.json"), "-o", str(out)]
    assert CliRunner().invoke(pack, [str(tmp_path / "graph.onnx"), *good]).exit_code == 0
    assert bundles.read(out).manifest == ticket.manifest
    without = CliRunner().invoke(pack, [str(tmp_path / "graph.onnx"), *good[:2], "-o", str(tmp_path / "no.ticket")])
    assert without.exit_code == 2
    assert "tokenizer.json" in without.output
    assert not (tmp_path / "no.ticket").exists()


def test_evidence_travels_only_where_it_is_asked_for(
    family: Path, data_file: Path, backbone_dir: Path, tmp_path: Path
) -> None:
    """The stages of the first run are found again; the tickets differ by the member alone."""
    more = arguments(data_file, backbone_dir, tmp_path / "out", family / "runs", "--evidence")
    result = CliRunner().invoke(find, more)
    assert result.exit_code == 0, result.output
    before, after = (bundles.read(root / "out" / "house-small.ticket") for root in (family, tmp_path))
    assert "evidence.json" not in before.members
    evidence = read_evidence(after)
    assert evidence is not None
    assert evidence.parent is not None
    assert set(evidence.labels) == {*after.manifest.labels, None}
    assert len(evidence.parent) == len(evidence.texts) == len(set(evidence.texts))
    assert {name: bytes(after.members[name]) for name in before.members} == {
        name: bytes(data) for name, data in before.members.items()
    }


BAD_CALLS = [
    (["--tiers", "fast"], "NAME=LAYERSxHEADSxNEURONS"),
    (["--tiers", "fast=0x"], "the number must be above 0"),
    (["--tiers", "fast=2x@40"], "multiple of 32"),
    (["--tiers", "fast=2x@128"], "wider than the backbone"),
    (["--tiers", "fast=8x,slow=2x"], "go from large to small"),
    (["--tiers", "fast=100000x"], "x at most"),
    (["--gates", "no-such.toml"], "no-such.toml"),
    (["--device", "cuda"], "no CUDA device"),
    (["--device", "tpu"], "device 'tpu': use auto, cpu, cuda or cuda:N"),
    (["--tiers", "Fast=1x1x8"], "a tier cannot be called 'Fast'"),
    (["--tiers", f"{'a' * 60}=1x1x8"], "shorten the domain or the tier"),
    (["--tiers", "a=1x1x8,b=2x1x8"], "go from large to small"),
    (["--tiers", "a=9x2x64"], "larger than the backbone"),
    (["--tiers", "a=1x1x8,a=1x1x8"], "not unique"),
    (["--domain", "garden"], "no rows of domain 'garden'"),
    (["--backbone", "no/such-backbone-anywhere"], "cannot get backbone"),
]


@pytest.mark.parametrize(("change", "complaint"), BAD_CALLS, ids=[c for _, c in BAD_CALLS])
def test_bad_calls_say_what_is_wrong_and_write_nothing(
    family: Path, data_file: Path, backbone_dir: Path, tmp_path: Path, change: list[str], complaint: str
) -> None:
    """Exit status 2, one sentence, no output folder."""
    call = arguments(data_file, backbone_dir, tmp_path / "out", family / "runs", *change)
    result = CliRunner().invoke(find, call, env={"HF_HUB_OFFLINE": "1"})
    assert result.exit_code == 2, result.output
    assert complaint in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_tiers_are_read_in_order() -> None:
    """Names and asks as written."""
    asks = parse_tiers("a=3x2x64, b=1x1x32, c=8x, d=0.75ms@128, e=2.5x@64")
    assert [(ask.tier, str(ask)) for ask in asks] == [
        ("a", "3x2x64"), ("b", "1x1x32"), ("c", "8x"), ("d", "0.75ms@128"), ("e", "2.5x@64"),
    ]  # fmt: skip


def test_tiers_by_speed_with_controls_and_seeds_are_judged_and_recorded(
    data_file: Path, backbone_dir: Path, tmp_path: Path
) -> None:
    """Two seeds are too few for a verdict, and the report says so; every model of every seed is in it."""
    call = arguments(data_file, backbone_dir, tmp_path / "out", tmp_path / "runs", "--seeds", "2", "--controls")
    call[call.index(TIERS)] = "quick=1.3x"
    result = CliRunner().invoke(find, call)
    assert result.exit_code == 0, result.output
    assert "quick (1.3x): pruned. " in " ".join(result.output.split())
    report = json.loads((tmp_path / "out" / "family.json").read_text())["reports"]["house"]
    assert report["seeds"] == [0, 1]
    names = {"house-quick", *(f"house-quick-{kind}" for kind in ("random", "worst", "reinit"))}
    assert names <= report["models"].keys()
    for name in names:
        assert len(report["models"][name]["by_seed"]) == 2
    (tier,) = report["tiers"]
    assert tier["predicted_ms"] <= tier["budget_ms"]
    assert {"random", "worst", "reinit", "zero-layers", "tf-idf-linear-svm"} == tier["verdict"]["against"].keys()
    sizes = {str(report["models"][name]["structure"]["heads"]) for name in names}
    assert len(sizes) == 1
    (record,) = (tmp_path / "runs" / "records").iterdir()
    document = json.loads((record / "run.json").read_text())
    assert (document["status"], document["kind"], document["result"]["domain"]) == ("done", "find", "house")
    assert {stage["name"] for stage in document["stages"]} >= {
        "dense",
        "latency",
        "structure",
        "ticket",
        "int8",
        "zero",
    }
