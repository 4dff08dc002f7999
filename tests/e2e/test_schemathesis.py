"""Schemathesis finds no 5xx that is not documented, no undocumented status or code, and no answer off its schema."""

import pytest

from tests.e2e.fuzz_api import fuzz, rounds
from tests.e2e.installation import Start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SECONDS = 6
LEAST_CASES = 50


def test_every_operation_answers_as_it_is_described(start: Start) -> None:
    """Bounded rounds for each kind of caller; `make fuzz-api` runs for longer."""
    installation = start("--workers", "1", "--gateways", "1").wait_until_up()
    for one in rounds(installation):
        outcome = fuzz(installation, one, SECONDS)
        print(f"{outcome.name}: {outcome.cases} cases")
        assert outcome.is_good, outcome.output
        assert outcome.cases >= LEAST_CASES, outcome.output
