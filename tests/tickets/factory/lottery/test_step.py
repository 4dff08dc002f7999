"""Steps as people write them."""

import pytest

from tickets.factory.lottery.step import Step, parse_step

READ = [
    ("0", Step(), 0), ("500it", Step(0, 500), 500), ("3ep", Step(3), 51), ("1ep200it", Step(1, 200), 217),
    (" 2ep ", Step(2), 34), ("0ep", Step(), 0), ("0it", Step(), 0),
]  # fmt: skip


@pytest.mark.parametrize(("text", "step", "number"), READ, ids=[text for text, *_ in READ])
def test_what_is_read(text: str, step: Step, number: int) -> None:
    """With 17 steps an epoch; what a step is shown as is read as the same step again."""
    assert parse_step(text) == step
    assert step.resolve(17) == number
    assert parse_step(str(step)) == step


@pytest.mark.parametrize("text", ["", "500", "ep", "3 ep", "-1it", "200it1ep", "1.5ep", "it"])
def test_what_is_not(text: str) -> None:
    """The complaint shows what can be written."""
    with pytest.raises(ValueError, match="1ep200it"):
        parse_step(text)
