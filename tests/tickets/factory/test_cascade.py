"""`tombola cascade` on two real bundles: one that does not know some words, one that knows them all."""

import json
import tomllib
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper

from routing.table import Cascade
from tests.tiny import LABELS, SPECIALS, WORDS, tiny_bundle, tiny_manifest, tiny_onnx, tiny_tokenizer
from tickets import bundle as bundles
from tickets.bundle import pack, parse
from tickets.factory.cascade import answers, counted
from tickets.factory.cascade_command import cascade
from tickets.factory.data import build
from tickets.factory.formats import load_rows
from tickets.manifest import Evidence, Lineage
from tickets.reference import Reference

DIM = ("band", "bulb")
"""Words that the small ticket does not know: it is unsure of texts that are made of them."""


def forgetful(**changes: object) -> bytes:
    """A tiny ticket whose votes for DIM are zero."""
    model = onnx.load_from_string(tiny_onnx())
    votes = numpy_helper.to_array(model.graph.initializer[0]).copy()
    for word in DIM:
        votes[len(SPECIALS) + list(WORDS).index(word)] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(votes, "votes"))
    members = {"model.onnx": model.SerializeToString(), "tokenizer.json": tiny_tokenizer()}
    given: dict[str, object] = {"evidence": Evidence(quality=0.8, service_ms=0.05)} | changes
    return pack(msgspec.structs.replace(tiny_manifest("small"), **given), members)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Data of 400 texts a split (every fourth label text in DIM words), and the two tickets."""
    rows = ["text,label,split,domain"]
    for split in ("train", "validation", "test"):
        for i in range(400):
            word = list(WORDS)[i % len(WORDS)]
            label = [*LABELS, "oos"][WORDS[word]]
            rows.append(f"{word} {split} {i},{label},{split},{'' if label == 'oos' else 'home'}")
        rows.append(f"rain from elsewhere {split},other,{split},away")
    (tmp_path / "home.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "small.ticket").write_bytes(forgetful())
    (tmp_path / "large.ticket").write_bytes(tiny_bundle())
    return {name: tmp_path / name for name in ("home.csv", "small.ticket", "large.ticket")}


def run(places: dict[str, Path], *more: str, small: str = "small.ticket", large: str = "large.ticket") -> Result:
    arguments = ["--data", str(places["home.csv"]), "--domain", "home"]
    arguments += ["--small", str(places[small]), "--large", str(places[large])]
    return CliRunner().invoke(cascade, [*arguments, *more])


def test_the_small_ticket_answers_what_it_knows_and_the_large_one_the_rest(places: dict[str, Path]) -> None:
    """A quarter of the texts goes on to the large ticket; nothing is lost on fresh texts."""
    result = run(places, "--within", "1", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    for split in (found["validation"], found["test"]):
        assert split["texts"] == [300, 100]  # the text of another domain does not count
        assert split["cascade"]["answered_by_small"] == 0.75
        assert split["large"]["accuracy"] == split["cascade"]["accuracy"] == 1.0
        assert split["small"]["accuracy"] < 0.9
    assert found["cost_ms"] == pytest.approx([0.05, 0.1, 0.05 + 0.25 * 0.1])


def test_the_entry_it_prints_is_one_that_routing_reads(places: dict[str, Path]) -> None:
    """Standard output is TOML for the named tenant, and nothing else."""
    result = run(places, "--hold", "0.95", "--tenant", "acme")
    assert result.exit_code == 0, result.output
    entry = tomllib.loads(result.stdout)["tenants"]["acme"]["domains"]["home"]["cascade"]
    read = msgspec.convert(entry, Cascade)
    assert read.small == bundles.read(places["small.ticket"]).id
    assert read.large == bundles.read(places["large.ticket"]).id
    assert read.accuracy == 0.95
    assert 0.25 < read.threshold < 0.9  # unsure is 1/4 each; sure of one word is more


def test_texts_are_answered_in_their_own_order(places: dict[str, Path]) -> None:
    """They run sorted by length; every figure is of the text it stands beside."""
    data = build(load_rows(places["home.csv"]), "home", 0)
    examples = counted(data.test)
    reference = Reference(parse(forgetful()))
    said = answers(reference, examples, data.labels)
    for at in (0, 7, 123, 399):
        alone = reference.classify([examples.texts[at]])
        assert said.confidence[at] == pytest.approx(alone.confidence[0], abs=1e-6)
        dim = examples.texts[at].split()[0] in DIM
        assert bool(said.right[at]) is not dim


def test_confidence_is_the_largest_probability_that_of_no_scope_included(places: dict[str, Path]) -> None:
    """A text that is surely out of scope is a sure one."""
    said = Reference(bundles.read(places["large.ticket"])).classify(["tax law", "rain sun"])
    assert said.confidence[0] > 0.99 > 0.01 > said.probability[0]
    assert said.confidence[1] == said.probability[1]
    assert np.all(said.confidence >= said.probability)


def test_other_domains_stand_in_where_the_data_has_no_out_of_scope_texts(places: dict[str, Path]) -> None:
    """Else a cascade could lose every foreign text unseen."""
    text = places["home.csv"].read_text().splitlines()
    places["home.csv"].write_text("\n".join(line for line in text if ",oos," not in line) + "\n")
    assert counted(build(load_rows(places["home.csv"]), "home", 0).test).kinds.count("near") == 1


REFUSALS: list[tuple[dict[str, str], list[str], str]] = [
    ({"large": "small.ticket"}, [], "same one"),
    ({"small": "large.ticket", "large": "small.ticket"}, [], "not better than the small one"),
    ({}, ["--hold", "0.999"], "it takes 2995"),
    ({}, ["--within", "0.1"], "it takes 2995"),
    ({}, ["--hold", "0.9", "--within", "1"], "not both"),
    ({"large": "none.ticket"}, [], "none.ticket"),
    ({}, ["--domain", "garden"], "of domain 'home', not 'garden'"),
    ({"large": "other-labels.ticket"}, [], "different labels: only one of them has 'heat', 'lights'"),
    ({"large": "turned.ticket"}, [], "different labels in another order"),
]


@pytest.mark.parametrize(("tickets", "options", "says"), REFUSALS, ids=[says for *_, says in REFUSALS])
def test_what_makes_no_cascade_is_refused_with_one_sentence(
    places: dict[str, Path], tmp_path: Path, tickets: dict[str, str], options: list[str], says: str
) -> None:
    """Exit status 2, nothing on standard output."""
    places["none.ticket"] = tmp_path / "none.ticket"
    for name, labels in (("other-labels", ["weather", "music", "heat"]), ("turned", LABELS[::-1])):
        places[f"{name}.ticket"] = tmp_path / f"{name}.ticket"
        places[f"{name}.ticket"].write_bytes(forgetful(labels=labels))
    result = run(places, *options, **tickets)
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_a_ticket_of_other_training_texts_is_doubted(places: dict[str, Path]) -> None:
    """It may have seen the validation texts; the starter's own tickets and this data go without the note."""
    foreign = Lineage(backbone="none", data={"train": "0" * 64})
    places["small.ticket"].write_bytes(forgetful(lineage=foreign))
    result = run(places, "--json")
    assert result.exit_code == 0, result.output
    (note,) = json.loads(result.stdout)["notes"]
    assert "the small ticket was made from other training texts" in note


def test_a_ticket_without_a_price_leaves_the_cost_open(places: dict[str, Path]) -> None:
    """Imported tickets may state no service time."""
    places["small.ticket"].write_bytes(forgetful(evidence=Evidence(quality=0.8)))
    result = run(places)
    assert result.exit_code == 0, result.output
    assert "expected cost: unknown" in result.stderr


def test_a_cascade_that_saves_nothing_says_so(places: dict[str, Path]) -> None:
    """A small ticket that costs nearly what the large one does."""
    places["small.ticket"].write_bytes(forgetful(evidence=Evidence(quality=0.8, service_ms=0.09)))
    assert "ask it alone" in run(places).stderr
