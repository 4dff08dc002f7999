"""What the model index says of tickets that are not promoted."""

import asyncio

import httpx
import msgspec
import pytest

from tests.server.gateways import ACME_KEY, installation, publish, tiny_table, wait_until

pytestmark = pytest.mark.redis


def test_a_version_that_is_not_promoted_is_ready_and_says_whom_it_answers(redis_url: str, namespace: str) -> None:
    with installation(redis_url, namespace) as house:
        table = tiny_table(house.accurate, house.fast)
        accurate, fast = table.families["home"]
        family = [msgspec.structs.replace(accurate, state="registered"), fast]
        with httpx.Client(base_url=house.url, headers={"Authorization": f"Bearer {ACME_KEY}"}) as client:

            def index() -> dict[str, dict[str, str]]:
                return {entry["version"]: entry for entry in client.post("/v2/repository/index").json()}

            assert {entry["reason"] for entry in index().values()} == {""}
            asyncio.run(publish(redis_url, namespace, msgspec.structs.replace(table, families={"home": family})))
            wait_until(lambda: index()[house.accurate[:12]]["reason"] != "")
            entry = index()[house.accurate[:12]]
            assert (entry["state"], entry["reason"]) == (
                "READY",
                "not promoted: it answers only who names this version",
            )
            assert index()[house.fast[:12]]["reason"] == ""
