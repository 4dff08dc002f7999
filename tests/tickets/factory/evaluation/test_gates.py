"""Gates: read strictly, checked in order, named where they fail."""

from pathlib import Path

import pytest

from tickets.factory.evaluation.gates import GateError, check, load_gates

DOCUMENT = {"accuracy": {"loss_points": 1.5}, "out_of_scope": {"kept": 0.95}, "flag": True}


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
        ('[other]\nnumber = "speed.ms"\nat_most = 1', False, "other: speed.ms was not measured"),
        ('[other]\nnumber = "speed.ms"\nat_most = 1\noptional = true', True, "was not measured"),
        ('[other]\nnumber = "flag"\nat_most = 1', False, "flag was not measured"),
        ('[other]\nnumber = "accuracy"\nat_most = 1', False, "accuracy was not measured"),
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
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    """File, gate and field."""
    with pytest.raises(GateError) as caught:
        load_gates(gates(tmp_path, text))
    assert complaint in str(caught.value)


def test_the_default_gates_say_why() -> None:
    """Each has a reason that a person can read."""
    assert all(gate.why for gate in load_gates())
