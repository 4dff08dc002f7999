"""What is sent: weights, seeds, the bytes of a request, the files texts and mixes come from."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.sentences import BANKING, TRAVEL
from loadtest.workload import Target, Workload, WorkloadError, cross, parse_weights, read_mix, read_texts

FAST = Target(tenant="acme", key="tk_a", domain="banking", tier="fast", weight=3)
SLOW = Target(tenant="globex", key="tk_g", domain="travel", tier="accurate", weight=1)


def split(payload: bytes) -> tuple[str, dict[str, object]]:
    head, body = payload.split(b"\r\n\r\n", 1)
    assert f"Content-Length: {len(body)}" in head.decode()
    return head.decode(), json.loads(body)


@given(st.text(), st.one_of(st.none(), st.floats(1, 1000)))
def test_a_request_is_the_http_message_it_should_be(text: str, deadline_ms: float | None) -> None:
    """Any text survives, and the content length is right."""
    workload = Workload([FAST], [text], base_path="/prefix", host="localhost:1", deadline_ms=deadline_ms)
    head, body = split(next(workload.requests(0)).payload)
    assert head.startswith("POST /prefix/v1/classify HTTP/1.1\r\nHost: localhost:1\r\n")
    assert "Authorization: Bearer tk_a\r\n" in head
    assert body.pop("deadline_ms", None) == deadline_ms
    assert body == {"domain": "banking", "tier": "fast", "text": text}


def test_no_tier_leaves_the_choice_to_the_server() -> None:
    target = Target(tenant="acme", key="tk_a", domain="banking")
    assert "tier" not in split(next(Workload([target]).requests(0)).payload)[1]


@given(st.integers())
def test_the_same_seed_sends_the_same_bytes(seed: int) -> None:
    first, second = (list(itertools.islice(Workload([FAST, SLOW]).requests(seed), 50)) for _ in range(2))
    assert first == second


def test_seeds_differ() -> None:
    first, second = (list(itertools.islice(Workload([FAST, SLOW]).requests(seed), 50)) for seed in (1, 2))
    assert first != second


def test_targets_are_drawn_by_weight_with_their_own_texts() -> None:
    drawn = list(itertools.islice(Workload([FAST, SLOW]).requests(0), 4000))
    counts = Counter(request.target.tenant for request in drawn)
    assert counts["acme"] / 4000 == pytest.approx(0.75, abs=0.03)
    for request in drawn:
        assert split(request.payload)[1]["text"] in (BANKING if request.target is FAST else TRAVEL)


def test_a_preflight_covers_every_target_once() -> None:
    assert [request.target for request in Workload([FAST, SLOW]).examples()] == [FAST, SLOW]


def test_built_in_texts_are_distinct_and_not_empty() -> None:
    assert len(set(BANKING + TRAVEL)) == len(BANKING + TRAVEL) >= 60
    assert all(text.strip() == text and len(text.split()) >= 4 for text in BANKING + TRAVEL)


def test_cross_multiplies_tenants_domains_and_tiers() -> None:
    targets = cross({"a": "tk_1", "b": "tk_2"}, {"banking": 2.0}, {"fast": 3.0, "slow": 1.0})
    found = [(t.tenant, t.tier, t.weight) for t in targets]
    assert found == [("a", "fast", 6.0), ("a", "slow", 2.0), ("b", "fast", 6.0), ("b", "slow", 2.0)]


def test_weights_are_parsed() -> None:
    assert parse_weights(["fast=3", "slow"], "--tier") == {"fast": 3.0, "slow": 1.0}


@pytest.mark.parametrize("item", ["fast=much", "=3"])
def test_a_weight_that_cannot_be_read_is_refused_by_name(item: str) -> None:
    with pytest.raises(WorkloadError, match="--tier"):
        parse_weights([item], "--tier")


@pytest.mark.parametrize(
    "fields",
    [{"key": "tk\r\nX-Evil: 1"}, {"key": ""}, {"key": "clé"}, {"weight": 0}, {"weight": -1}, {"domain": ""}],
)
def test_a_target_that_cannot_be_sent_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Target(**({"tenant": "a", "key": "k", "domain": "d"} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one two\n\nthree\nthree\n"),
        ("a.csv", 'id,text\n1,one two\n2,\n3,"three"\n4,three\n'),
        ("a.json", '["one two", {"text": "three"}, {"text": "three", "label": "x"}]'),
        ("a.jsonl", '{"text": "one two"}\n\n"three"\n{"text": "three"}\n'),
    ],
)
def test_texts_are_read_from_each_kind_of_file(tmp_path: Path, name: str, content: str) -> None:
    """Empty texts go, duplicates stay."""
    path = tmp_path / name
    path.write_text(content)
    assert read_texts(path) == ["one two", "three", "three"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"\n \n", "no text"),
        ("a.csv", b"id,words\n1,x\n", "no column named text; found id, words"),
        ("a.csv", b"", "no column named text"),
        ("a.json", b'{"text": "x"}', "a list of texts"),
        ("a.json", b"[1]", "without a text"),
        ("a.json", b"[", "Expecting"),
        ("a.jsonl", b'{"label": "x"}\n', "without a text"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_text_file_that_cannot_be_used_says_why(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WorkloadError, match=says):
        read_texts(path)


def test_a_mix_names_targets_and_takes_keys_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "mix.toml"
    path.write_text(
        '[[target]]\ntenant = "acme"\nkey_env = "ACME"\ndomain = "banking"\ntier = "fast"\nweight = 3\n'
        '[[target]]\ntenant = "globex"\nkey = "tk_g"\ndomain = "travel"\n'
    )
    first, second = read_mix(path, {"ACME": "tk_a"})
    assert first == FAST
    assert second == Target(tenant="globex", key="tk_g", domain="travel")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no \\[\\[target\\]\\]"),
        ("[[target]]\ntenant = 'a'\nkey = 'k'\n", "domain"),
        ("[[target]]\ntenant = 'a'\nkey = 'k'\ndomain = 'd'\ncolour = 'red'\n", "colour"),
        ("[[target]]\ntenant = 'a'\nkey_env = 'NOT_SET'\ndomain = 'd'\n", "NOT_SET is not set"),
        ("[[target]]\ntenant = 'a'\nkey = 'k'\ndomain = 'd'\nweight = 'x'\n", "weight"),
        ("target = 3", "array"),
        ("[[target", "Expected"),
    ],
)
def test_a_mix_that_cannot_be_used_says_why(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "mix.toml"
    path.write_text(content)
    with pytest.raises(WorkloadError, match=says):
        read_mix(path, {})
