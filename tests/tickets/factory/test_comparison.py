"""What differs between runs, and the numbers that they are compared by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tickets.factory.pages import examples
from tickets.factory.comparison import compare_runs
from tickets.factory.numbers import at, flat, headline, number, numbers, numbers_of
from tickets.factory.record import RunRecord

pytestmark = [pytest.mark.torch]

KEYS = st.sampled_from(["tiers", "models", "levels", "domains", "accuracy", "summary", "patterns", "matching_density"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def with_accuracy(value: float, low: float, high: float, **description: object) -> RunRecord:
    model = {"in_scope_accuracy": value, "in_scope_accuracy_ci": [low, high]}
    whole = examples.record("find", {"models": {"dense-parent": model}})
    return examples.record("find", whole.result, description=dict(whole.description) | description)


def test_only_what_differs_in_the_descriptions_is_told() -> None:
    found = compare_runs([with_accuracy(0.9, 0.8, 1, seed=0), with_accuracy(0.9, 0.8, 1, seed=1, extra={"a": 2})])
    assert [(field.name, field.values) for field in found.asked] == [("seed", ("0", "1")), ("extra.a", (None, "2"))]
    assert found.ran == ()


@pytest.mark.parametrize(
    ("second", "apart"), [((0.85, 0.80, 0.89), True), ((0.91, 0.88, 0.93), False), ((0.97, 0.96, 0.98), True)]
)
def test_intervals_that_leave_a_gap_are_apart(second: tuple[float, float, float], apart: bool) -> None:
    found = compare_runs([with_accuracy(0.92, 0.90, 0.94), with_accuracy(*second)])
    (result,) = [result for result in found.results if result.name == "dense-parent/in_scope_accuracy"]
    assert result.apart == (None, apart)
    assert result.differences[0] == 0.0
    assert result.differences[1] == pytest.approx(second[0] - 0.92)


def test_a_number_without_an_interval_is_neither_apart_nor_not() -> None:
    a, b = (examples.record("transfer", {"domains": ["x"], "accuracy": [[v]]}) for v in (0.9, 0.8))
    (result,) = compare_runs([a, b]).results
    assert (result.name, result.apart) == ("accuracy/x/x", (None, None))


def test_a_run_compared_with_itself_differs_in_nothing() -> None:
    record = examples.record("find", examples.found())
    found = compare_runs([record, record])
    assert found.asked == found.ran == ()
    assert found.alone == 0
    assert {difference for result in found.results for difference in result.differences} == {0.0}


def test_numbers_of_one_run_only_are_counted() -> None:
    found = compare_runs([with_accuracy(0.9, 0.8, 1), examples.record("lottery", examples.lottery(levels=2))])
    assert found.results == ()
    assert found.alone == 1 + len(numbers_of(examples.record("lottery", examples.lottery(levels=2))))


def test_one_run_is_not_a_comparison() -> None:
    with pytest.raises(ValueError, match="at least two runs"):
        compare_runs([examples.record("find")])


def test_levels_are_steps_and_seeds_are_intervals() -> None:
    found = {(n.name, n.step): n for n in numbers_of(examples.record("lottery", examples.lottery(levels=3)))}
    seeds = examples.lottery(levels=3)["levels"][2]["branches"]["ticket"]["accuracy"]
    last = found["ticket/accuracy", 2]
    assert last.value == pytest.approx(sum(seeds) / 3)
    assert (last.low, last.high) == (min(seeds), max(seeds))
    assert found["density", 2].value == pytest.approx(0.64)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (examples.record("find", examples.found()), "3 of 4 tickets win: accurate, balanced, fast"),
        (examples.record("lottery", examples.lottery()), "mlp: matches dense down to 10.7% of its weights"),
        (examples.record("lottery", {"network": "mlp", "levels": [{"level": 0}]}), "mlp: matches dense at no density"),
        (examples.record("transfer", examples.transferred()),
         "5 domains at density 0.41, own masks +1.61 points against others'"),
        (examples.record("find", status="failed", error="disk full\nTraceback"), "disk full"),
        (examples.record("find"), ""),
    ],
)  # fmt: skip
def test_a_headline_says_the_result_in_a_few_words(record: RunRecord, words: str) -> None:
    assert headline(record) == words


@given(st.sampled_from(["find", "lottery", "transfer", "patterns", "other"]), st.dictionaries(KEYS, JSON))
def test_whatever_a_result_holds_numbers_are_finite_and_nothing_breaks(kind: str, result: dict[str, object]) -> None:
    record = examples.record(kind, result)
    assert all(number(n.value) is not None for n in numbers_of(record))
    assert isinstance(headline(record), str)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_a_flat_document_holds_texts_only(document: dict[str, object]) -> None:
    assert all(isinstance(value, str) for value in flat(document).values())


def test_looking_deep_never_fails() -> None:
    document = {"a": [{"b": 1}], "c": "text"}
    assert at(document, "a", 0, "b") == 1
    assert [at(document, *path) for path in (("a", 3), ("a", "b"), ("c", 0), ("x", "y"), ("a", 0, "b", "c"))] == [
        None
    ] * 5
    assert numbers([1, True, None, "2", float("nan"), 3.5]) == [1.0, 3.5]
    assert numbers(4) == [4.0]
