"""`tombola tickets`: a ticket's way from registered to promoted and back, over a real gateway."""

import json
from pathlib import Path

import click
import msgspec
import pytest

from routing.canary import Arm, Counts
from routing.table import Canary
from routing.verdict import judge
from server.cli.canary import part, show_standing
from server.overseer import CanaryStanding
from tests.server.cli.house import House
from tests.tiny import tiny_bundle
from tickets.bundle import ticket_id

pytestmark = pytest.mark.redis

OLD, NEW = tiny_bundle("fast", 0.9), tiny_bundle("fast", 0.95, scale=2.0)


@pytest.fixture
def two(house: House, tenant: str, admin_key: str, tmp_path: Path) -> tuple[str, str]:
    """Two tickets of one tier in domain home: the first promoted, the second registered."""
    for name, data in (("old", OLD), ("new", NEW)):
        (tmp_path / f"{name}.ticket").write_bytes(data)
    house.ok("register", tmp_path / "old.ticket", "--promote", key=admin_key)
    house.ok("register", tmp_path / "new.ticket", key=admin_key)
    return ticket_id(OLD), ticket_id(NEW)


def states(house: House, key: str) -> dict[str, str]:
    return {row["ticket"]: row["state"] for row in house.json("tickets", "list", key=key)["tickets"]}


def test_list_and_show_say_what_stands(house: House, tenant: str, admin_key: str, two: tuple[str, str]) -> None:
    old, new = two
    listed = house.ok("tickets", "list", "--domain", "home", key=admin_key)
    assert old[:12] in listed
    assert "promoted" in listed
    shown = house.ok("tickets", "show", new[:8], key=admin_key)
    assert new in shown
    assert "registered" in shown
    assert "examined in confinement" in shown or "policy" in shown
    assert house.json("tickets", "show", new, key=admin_key)["report"]["ticket"] == new
    assert house.json("tickets", "list", "--domain", "none", key=admin_key)["tickets"] == []


def test_promote_rollback_and_promote_again(house: House, tenant: str, admin_key: str, two: tuple[str, str]) -> None:
    old, new = two
    said = house.ok("tickets", "promote", new[:12], "--reason", "better", key=admin_key)
    assert f"ticket {new[:12]} is promoted in domain home, tier fast" in said
    assert "tombola tickets rollback home --tier fast" in said
    assert states(house, admin_key) == {old: "registered", new: "promoted"}
    said = house.ok("tickets", "rollback", "home", "--reason", "worse", key=admin_key)
    assert old[:12] in said
    assert states(house, admin_key) == {old: "promoted", new: "registered"}


def test_a_canary_is_begun_shown_and_withdrawn(house: House, tenant: str, admin_key: str, two: tuple[str, str]) -> None:
    old, new = two
    said = house.ok("tickets", "canary", new[:12], "--share", "5%", key=admin_key)
    assert f"ticket {new[:12]} answers 0.05 of domain home" in said
    shown = house.ok("tickets", "canary", "--domain", "home", key=admin_key)
    assert f"{new[:12]}, canary, 0.05 of the requests of {old[:12]}" in shown
    assert house.json("tickets", "canary", "--domain", "home", key=admin_key)["canary"]["ticket"] == new
    assert "is registered" in house.ok("tickets", "withdraw", new, key=admin_key)
    assert "has no canary" in house.ok("tickets", "canary", "--domain", "home", key=admin_key)


def test_watching_ends_when_the_canary_does(house: House, tenant: str, admin_key: str, two: tuple[str, str]) -> None:
    """There is none: the watch says so and ends instead of going on for ever."""
    assert "has no canary" in house.ok("tickets", "canary", "--domain", "home", "--watch", key=admin_key)


def test_a_retired_ticket_is_gone_and_may_come_back(
    house: House, tenant: str, admin_key: str, two: tuple[str, str], tmp_path: Path
) -> None:
    old, new = two
    assert "Say --yes" in house.fails("tickets", "retire", new, key=admin_key, code=2)
    assert f"ticket {new[:12]} is retired" in house.ok("tickets", "retire", new, "--yes", key=admin_key)
    assert "unknown_ticket" in house.fails("tickets", "show", new, key=admin_key)
    said = house.ok("register", tmp_path / "new.ticket", "--canary", "0.2", key=admin_key)
    assert "it is canary" in said
    assert f"tombola tickets canary --watch --tenant {tenant} --domain home" in said
    assert states(house, admin_key) == {old: "promoted", new: "canary"}


def test_an_illegal_move_is_a_conflict_in_the_servers_words(
    house: House, tenant: str, admin_key: str, two: tuple[str, str]
) -> None:
    old, _ = two
    assert "[conflict, request " in house.fails("tickets", "withdraw", old, key=admin_key)


def test_another_tenants_ticket_is_unknown(house: House, admin_key: str, two: tuple[str, str]) -> None:
    house.ok("tenants", "create", "stranger")
    said = house.fails("tickets", "show", two[0], "--tenant", "stranger", key=admin_key)
    assert "unknown_tenant" in said


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), ("100%", 1.0), ("1", 1.0)])
def test_a_share_is_a_part_of_all_requests(text: str, share: float) -> None:
    assert part(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["0", "0%", "101%", "-1%", "five", "", "%", "nan"])
def test_what_is_no_share_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.BadParameter):
        part(text)


def test_a_canarys_standing_is_shown_with_its_questions_and_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    """The document is the overseer's own, as the route sends it."""
    counts = Counts(canary=Arm(asks=400, errors=80), current=Arm(asks=400, errors=1))
    standing = CanaryStanding(
        tenant="acme", domain="home", ticket="ab" * 32, current="cd" * 32, mode="canary", share=0.1,
        is_automatic=True, started_at=1_790_000_000.0, counts=counts, verdict=judge(counts),
    )  # fmt: skip
    canary = Canary(ticket="ab" * 32, current="cd" * 32, share=0.1, is_automatic=True, started_at=1_790_000_000.0)
    show_standing(json.loads(msgspec.json.encode({"canary": canary, "standing": standing})), "home")
    shown = capsys.readouterr().out
    for fact in (
        "abababababab, canary, 0.1 of the requests of cdcdcdcdcdcd", "canary 400 asks, 80 errors, 0 late",
        "bad: ", "promoted by itself", "errors", "agreement", "2026-09-21 14:13:20 UTC",
    ):  # fmt: skip
        assert fact in shown, fact
