"""Data is read, checked and split as documented; bad files are refused with a sentence that names the fault."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickets.factory.data import DomainData, build
from tickets.factory.formats import load_rows
from tickets.factory.leaks import exact_leaks, jaccard, near_groups, near_leaks, shingles
from tickets.factory.rows import DataError, Row

GOOD = [
    Row(f"{verb} the {thing} number {i}", label, split, domain)
    for label, verb, thing, domain in [
        ("open", "open", "door", "house"), ("play", "play", "song", "house"),
        ("book", "book", "flight", "travel"), ("oos", "ponder", "sky", ""),
    ]
    for i, split in enumerate(["train"] * 6 + ["validation"] * 2 + ["test"] * 2)
]  # fmt: skip


def house(rows: list[Row]) -> DomainData:
    return build(rows, "house", seed=0)


def test_other_domains_and_out_of_scope_rows_are_told_apart() -> None:
    """Targets index the domain's labels; everything else is one past the last label, with its kind."""
    data = house(GOOD)
    assert data.labels == ("open", "play")
    assert data.classes == 3
    assert {k: data.test.kinds.count(k) for k in ("in", "near", "out")} == {"in": 4, "near": 2, "out": 2}
    assert set(data.test.of_kind("near").targets.tolist()) == {2}
    assert all("flight" in text for text in data.test.of_kind("near").texts)


def test_a_domain_without_out_of_scope_texts_has_no_such_class() -> None:
    """Then the score is the largest label probability."""
    assert house([r for r in GOOD if r.domain == "house"]).classes == 2


def test_a_whole_data_set_is_one_domain() -> None:
    """Labels of all domains are in scope; only the data's own out-of-scope texts are not."""
    data = build(GOOD, "all", seed=0)
    assert data.domain == "all"
    assert data.labels == ("book", "open", "play")
    assert data.classes == 4
    assert {k: data.test.kinds.count(k) for k in ("in", "near", "out")} == {"in": 6, "near": 0, "out": 2}


def test_a_domain_that_is_called_all_is_that_domain() -> None:
    """Data that uses the word keeps its meaning."""
    rows = [replace(r, domain="all") if r.domain == "house" else r for r in GOOD]
    assert build(rows, "all", seed=0).labels == ("open", "play")


def test_data_without_domains_is_one_domain_of_any_name() -> None:
    """Such as Banking77: one column of texts, one of intents, nothing out of scope."""
    rows = [replace(r, domain="") for r in GOOD if r.label != "oos"]
    first, second = build(rows, "all", seed=0), build(rows, "banking77", seed=0)
    assert first.labels == second.labels == ("book", "open", "play")
    assert first.classes == second.classes == 3
    assert first.digests() == second.digests()


def test_missing_splits_are_made_from_the_seed_and_cover_every_label() -> None:
    """The same seed gives the same split, another seed another one."""
    rows = [Row(r.text, r.label, "", r.domain) for r in GOOD]
    first, again, other = build(rows, "house", 1), build(rows, "house", 1), build(rows, "house", 2)
    assert first.digests() == again.digests() != other.digests()
    assert {0, 1} <= set(first.test.targets.tolist())
    assert not set(first.train.texts) & set(first.test.texts)


def test_duplicates_conflicts_and_leaks_are_dropped_and_named() -> None:
    """Nothing is dropped in silence."""
    leak = Row(next(r.text for r in GOOD if r.split == "test" and r.label == "open").upper(), "open", "train", "house")
    many = [Row(f"fill {i}", "open", "train", "house") for i in range(200)]
    data = house([*GOOD, *many, GOOD[0], leak, Row(GOOD[1].text, "play", "train", "house")])
    assert leak.text not in data.train.texts
    assert GOOD[1].text not in data.train.texts
    assert any("duplicate" in note for note in data.notes)
    assert any("validation or test" in note for note in data.notes)


def plenty(split: str, count: int = 60) -> list[Row]:
    """Rows of no likeness to each other."""
    return [
        Row(f"{split} {i} asks {i * 7} things of {i * 13} kinds", label, split, "house")
        for i, label in enumerate(["open", "play"] * (count // 2))
    ]


def test_a_few_near_duplicates_stay_and_are_named_by_row() -> None:
    """Case, punctuation, an apostrophe: nearly the same; the split and its digests are as they were."""
    rows = [*plenty("train"), *plenty("validation"), *plenty("test")]
    near = Row("Whats in the house tonight?!", "open", "test", "house")
    seen = Row("what's in the house, tonight", "open", "train", "house")
    data = house([seen, *rows, near])
    assert near.text in data.test.texts
    assert seen.text in data.train.texts
    (note,) = data.notes
    assert note == ("1 of 61 test texts are near duplicates of texts to learn from and stay, e.g. row 182 of row 1")
    assert house([*rows, near]).test.digest() == data.test.digest()


def test_many_near_duplicates_are_refused_with_their_rows() -> None:
    """A test split made of the training texts with a full stop behind them."""
    train = plenty("train")
    copies = [replace(row, text=f"{row.text}.", split="test") for row in train[:8]]
    with pytest.raises(DataError, match=r"8 of 68 test texts are near duplicates .* e\.g\. row 181 .* and row 1: "):
        house([*train, *plenty("validation"), *plenty("test"), *copies])


def test_a_file_without_splits_may_say_everything_four_times() -> None:
    """Near duplicates stay on one side of the splits that are made; all labels are on all sides."""
    said = [row for row in plenty("") for _ in range(4)]
    rows = [replace(row, text=f"{row.text}{mark}") for row, mark in zip(said, itertools.cycle(["", "!", " ?", "..."]))]
    data = build(rows, "house", 0)
    sides = [{text.rstrip("!?. ") for text in part.texts} for part in (data.train, data.validation, data.test)]
    assert [len(a & b) for a, b in itertools.combinations(sides, 2)] == [0, 0, 0]
    assert [set(part.targets.tolist()) for part in (data.train, data.validation, data.test)] == [{0, 1}] * 3
    assert 0.1 < len(data.test.texts) / len(rows) < 0.2
    assert data.notes == (
        "the test split that was made keeps near duplicates on one side",
        "the validation split that was made keeps near duplicates on one side",
    )
    assert build(rows, "house", 0).digests() == data.digests() != build(rows, "house", 1).digests()


@given(st.lists(st.sampled_from(["a b c d e", "A b c d e!", "b c d e f", "x", "X", "y z", "p q r s", "p q r s t u"])))
def test_near_groups_are_what_near_duplicates_chain_together(texts: list[str]) -> None:
    """Every text is in one group; near duplicates share theirs, and nobody is in one without a near duplicate there."""
    groups = near_groups(texts, 0.5)
    assert sorted(i for group in groups for i in group) == list(range(len(texts)))
    of = {i: number for number, group in enumerate(groups) for i in group}
    near = [
        (i, j) for i, j in itertools.combinations(range(len(texts)), 2)
        if jaccard(shingles(texts[i]), shingles(texts[j])) >= 0.5
    ]  # fmt: skip
    assert all(of[i] == of[j] for i, j in near)
    for group in groups:
        assert len(group) == 1 or all(any(i in pair for pair in near) for i in group)


def test_a_test_text_that_nearly_stands_in_validation_counts_too() -> None:
    """The threshold is fitted there."""
    rows = [*plenty("train"), *plenty("validation"), *plenty("test")]
    data = house([*rows, replace(rows[60], text=f"{rows[60].text}!", split="test")])
    assert data.notes == (
        "1 of 61 test texts are near duplicates of texts to learn from and stay, e.g. row 181 of row 61",
    )


TEXTS = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=14).map(" ".join), max_size=12)


@given(TEXTS, TEXTS, st.sampled_from([0.5, 0.75, 0.9, 1.0]))
def test_near_duplicates_are_exactly_those_that_comparing_all_pairs_finds(
    train: list[str], held_out: list[str], overlap: float
) -> None:
    """The prefix filter leaves nothing out."""
    wanted = []
    for i, text in enumerate(held_out):
        found = [j for j, other in enumerate(train) if jaccard(shingles(text), shingles(other)) >= overlap]
        wanted += [(i, found[0])] if found else []
    assert near_leaks(train, held_out, overlap) == wanted


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Top-up failed?", "top up  failed", True),
        ("I can\u2019t say", "I can't say", True),
        ("\uff54\uff4f\uff50 up", "TOP UP", True),
        ("???", "!!!", False),
        ("???", " ??? ", True),
        ("pay 5 pounds", "pay 6 pounds", False),
        ("wo ist die bank", "wo war die bank", False),
    ],
)
def test_what_counts_as_nearly_the_same(one: str, other: str, same: bool) -> None:
    """Writing does not count, words do; short texts have to agree in all of them."""
    assert bool(near_leaks([one], [other])) is same


def test_the_same_text_is_the_same_in_any_case_and_spacing() -> None:
    """One pair for every training text, with the first held-out text that it equals."""
    assert exact_leaks(["A  b", "c", "a B"], ["x", "a b", "A B"]) == [(1, 0), (1, 2)]


BAD_ROWS = [
    ([], "no rows"),
    ([*GOOD, Row("  ", "open", "train", "house")], "empty text"),
    ([*GOOD, Row("hello", "", "train", "house")], "without a label"),
    ([r for r in GOOD if r.label != "play"], "at least two labels"),
    ([r for r in GOOD if r.domain != "house"], "no rows of domain 'house'"),
    ([r for r in GOOD if not (r.label == "play" and r.split == "test")], "no test text for: play"),
    ([r for r in GOOD if not (r.label == "play" and r.split == "train")], "labels that training never sees, only"),
    (
        [r for r in GOOD if not (r.label == "play" and r.split == "train" and "number 5" not in r.text)],
        "fewer than 4 training texts for: play",
    ),
    ([*GOOD, Row("hello there", "open", "holdout", "house")], "unknown split 'holdout'"),
    ([*GOOD, Row("hello there", " Open", "train", "house")], "differ only in case or spaces: 'open'"),
    ([Row(r.text, r.text, "", "") for r in GOOD if r.label != "oos"], "30 texts for 30 labels are too few"),
    ([*GOOD, *(Row(r.text, "play", r.split, r.domain) for r in GOOD if r.label == "open")], "carry two labels"),
]


@pytest.mark.parametrize(("rows", "complaint"), BAD_ROWS, ids=[c for _, c in BAD_ROWS])
def test_bad_rows_are_refused(rows: list[Row], complaint: str) -> None:
    """Each fault has its own sentence."""
    with pytest.raises(DataError, match=complaint):
        house(rows)


BAD_FILES = [
    ("a.csv", b"utterance_id,label\n1,open\n", "no column 'text'"),
    ("a.csv", b"text,kind\nhello,open\n", "no column 'label'"),
    ("a.csv", b"text,label\nhello\n", "line 2: expected 2 columns"),
    ("a.csv", b"text,label\n\xff\xfe,open\n", "not UTF-8"),
    ("a.jsonl", b'{"text": "x", "label": 3}\n', "line 1: text, label"),
    ("a.jsonl", b"{nope}\n", "line 1: not JSON"),
    ("a.json", b'{"train": 5}', "train is not a list of"),
    ("a.json", b'{"train": null}', "train is not a list of"),
    ("a.json", b'{"train": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
    ("a.csv", b'text,label\n"' + b"never closed " * 20_000, "is a quotation mark left open?"),
    ("a.json", b'{"train": [["one", "two", "three"]]}', r"train\[0\] is not a"),
    ("a.json", b"[]", "expected an object"),
    ("a.parquet", b"", "unknown data format"),
]


@pytest.mark.parametrize(("name", "content", "complaint"), BAD_FILES, ids=[c for *_, c in BAD_FILES])
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    """The message names the file's line, column or entry."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        load_rows(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """No traceback for a typing error."""
    with pytest.raises(DataError, match=r"no such data file: .*nowhere\.csv"):
        load_rows(tmp_path / "nowhere.csv")


def test_clinc_layout_takes_domains_from_the_file_beside_it(tmp_path: Path) -> None:
    """oos_* lists join their split; intents get the domain that lists them."""
    (tmp_path / "data.json").write_text(json.dumps({
        "train": [["fly me", "book"]], "oos_train": [["hm", "oos"]], "val": [["sing", "play"]],
    }))  # fmt: skip
    (tmp_path / "domains.json").write_text('{"travel": ["book"], "house": ["play"]}')
    assert load_rows(tmp_path / "data.json") == [
        Row("fly me", "book", "train", "travel"), Row("hm", "oos", "train", ""), Row("sing", "play", "val", "house"),
    ]  # fmt: skip
