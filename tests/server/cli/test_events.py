"""`tombola events`: the audit log as an operator and as a tenant see it, once and as it grows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.cli import events
from tests.server.cli.house import House

pytestmark = pytest.mark.redis
ROOT = Path(__file__).parents[3]


def told(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_an_operator_sees_all_the_newest_last(house: House, tenant: str) -> None:
    house.ok("tenants", "limits", tenant, "--rate", "5")
    last = told(house.ok("events", "--count", "2", "--json"))
    assert [event["action"] for event in last] == ["tenant.create", "tenant.change"]
    assert {event["tenant"] for event in last} == {tenant}
    lines = house.ok("events", "--count", "1").splitlines()
    assert "operator/" in lines[0]
    assert f"tenant.change {tenant}" in lines[0]
    assert lines[1:] == ["    limits.rate_per_s: none -> 5.0"], "what has changed, and nothing else"


def test_a_tenants_key_sees_its_own_without_naming_itself(house: House, tenant: str, admin_key: str) -> None:
    house.ok("tenants", "create", f"{tenant}-other")
    seen = told(house.ok("events", "--json", "--count", "100", key=admin_key))
    assert {event["tenant"] for event in seen} == {tenant}
    assert {event["action"] for event in seen} >= {"tenant.create"}
    assert "unknown_tenant" in house.fails("events", "--tenant", f"{tenant}-other", key=admin_key)


def test_more_events_than_one_page_holds_are_read_in_order(
    house: House, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAGE", 4)
    for i in range(10):
        house.ok("tenants", "limits", tenant, "--tickets", str(i))
    seen = told(house.ok("events", "--tenant", tenant, "--json", "--count", "9"))
    assert [event["after"]["limits"]["tickets"] for event in seen] == list(range(1, 10))
    assert len(told(house.ok("events", "--tenant", tenant, "--json", "--count", "99"))) == 11


def test_no_key_and_no_hash_is_ever_in_an_event(house: House, tenant: str) -> None:
    key = house.json("tenants", "key", "new", tenant)["key"]
    seen = house.ok("events", "--tenant", tenant, "--json")
    assert key not in seen
    assert "key.create" in seen


def test_following_shows_what_happens_from_then_on_each_event_once(house: House, tenant: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOMBOLA_")}
    follower = subprocess.Popen(
        [sys.executable, "-u", "-m", "server", "events", "--tenant", tenant, "--follow", "--json", "--count", "1"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**environment, "TOMBOLA_URL": house.url, "TOMBOLA_KEY": house.operator_key},
    )  # fmt: skip
    try:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["action"] == "tenant.create"
        house.ok("tenants", "suspend", tenant, "--yes")
        house.ok("tenants", "resume", tenant)
        after = [json.loads(follower.stdout.readline()) for _ in range(2)]
        assert [event["action"] for event in after] == ["tenant.suspend", "tenant.resume"]
    finally:
        follower.terminate()
        follower.communicate(timeout=10)
