"""Gates: read strictly, checked in order, named where they fail."""

from pathlib import Path

import pytest

from tickets.factory import evaluation
from tickets.factory.evaluation.gates import GateError, check, load_gates, number_at
from tickets.factory.evaluation.schema import numbers

DOCUMENT = {
    "accuracy": {"loss_points": 1.5, "parent": True, "in_scope": -0.0}, "out_of_scope": {"kept": 0.95},
    "cost": {"bytes": 9_920_294},
}  # fmt: skip


def gates(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gates.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "passed", "said"),
    [
        ('[loss]\nnumber = "accuracy.loss_points"\nat_most = 2', True, "loss passed: accuracy.loss_points is 1.5"),
        (
            '[loss]\nnumber = "accuracy.loss_points"\nat_most = 1\nwhy = "because"', False,
            "loss failed: accuracy.loss_points is 1.5, at most 1 is allowed (because)",
        ),
        ('[kept]\nnumber = "out_of_scope.kept"\nat_least = 0.95', True, "kept passed"),
        ('[kept]\nnumber = "out_of_scope.kept"\nat_least = 0.96', False, "at least 0.96 is allowed"),
        ('[late]\nnumber = "cost.p99_ms"\nat_most = 1', False, "late failed: cost.p99_ms was not measured, at most 1"),
        ('[late]\nnumber = "cost.p99_ms"\nat_most = 1\noptional = true', True, "late passed: cost.p99_ms was not"),
        ('[flag]\nnumber = "accuracy.parent"\nat_most = 1', False, "accuracy.parent was not measured"),
        ('[zero]\nnumber = "accuracy.in_scope"\nat_most = 0', True, "is 0, at most 0 is allowed"),
        ('[size]\nnumber = "cost.bytes"\nat_most = 4_000_000', False, "is 9,920,294, at most 4,000,000 is allowed"),
    ],
)  # fmt: skip
def test_a_gate_says_what_was_measured(tmp_path: Path, text: str, passed: bool, said: str) -> None:
    """Limits belong to what passes; what is missing fails unless it is optional."""
    (checked,) = check(DOCUMENT, load_gates(gates(tmp_path, text)))
    assert checked.passed is passed
    assert said in str(checked)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "gates.toml holds no gate"),
        ("[a", "gates.toml is not TOML"),
        ("a = 1", "'a' is not a gate"),
        ('[a]\nnumber = "x"', "exactly one of `at_most` and `at_least`"),
        ('[a]\nnumber = "x"\nat_most = 1\nat_least = 0', "exactly one of"),
        ("[a]\nat_most = 1", "give `number`"),
        ('[a]\nnumber = "x"\nat_most = "1"', "gate 'a': at_most cannot be '1'"),
        ('[a]\nnumber = "x"\nat_most = true', "at_most cannot be True"),
        ('[a]\nnumber = "x"\nat_most = 1\nlimit = 3', "unknown field 'limit'; there are: number"),
        ('[a]\nnumber = "agreement.share"\nat_least = nan', "gate 'a': at_least cannot be nan"),
        ('[a]\nnumber = "agreement.share"\nat_most = inf', "gate 'a': at_most cannot be inf"),
        (
            '[a]\nnumber = "acuracy.loss_point"\nat_most = 1\noptional = true',
            "gate 'a': there is no number 'acuracy.loss_point'; did you mean accuracy.loss_points",
        ),
        ('[a]\nnumber = "agreement"\nat_most = 1', "in agreement there are: agreement.share, agreement.churn"),
        ('[a]\nnumber = "speed.ms"\nat_most = 1', "numbers begin with: accuracy, agreement, calibration"),
        ('[a]\nnumber = "accuracy.loss_points_ci"\nat_most = 1', "did you mean accuracy.loss_points"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    """File, gate and field."""
    with pytest.raises(GateError) as caught:
        load_gates(gates(tmp_path, text))
    assert complaint in str(caught.value)


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    """As other files that cannot be used."""
    path = tmp_path / "gates.toml"
    path.write_bytes(b"\xff\xfe[a]")
    with pytest.raises(GateError, match=r"gates\.toml is not TOML: it is not UTF-8 text"):
        load_gates(path)


def test_only_a_number_is_found_at_a_path() -> None:
    """Neither a part of the document, nor a truth value, nor what is not there."""
    assert number_at(DOCUMENT, "accuracy.loss_points") == 1.5
    for path in ("accuracy", "accuracy.parent", "none", "cost.bytes.more"):
        assert number_at(DOCUMENT, path) is None


def test_the_examples_in_the_default_file_are_gates(tmp_path: Path) -> None:
    """What is commented out there works when the marks are taken away."""
    file = Path(evaluation.__file__).with_name("gates.toml").read_text()
    examples = file[file.index("# [size]") :].replace("# ", "").replace("#\n", "\n")
    assert [gate.number for gate in load_gates(gates(tmp_path, examples))] == ["cost.bytes", "cost.p99_ms"]


def test_no_number_is_named_twice() -> None:
    """A list of places."""
    assert len(set(numbers())) == len(numbers())


def test_the_default_gates_say_why() -> None:
    """Each has a reason that a person can read."""
    assert all(gate.why for gate in load_gates())
