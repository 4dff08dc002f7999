"""server.starter: what a fresh installation serves, from a folder of tickets."""

import json
from pathlib import Path
from typing import Any

import pytest

from routing.keys import key_hash, tenant_of
from server.starter import StarterError, default_table, example_text, fill, packaged, read_index
from tests.tiny import tiny_bundle
from tickets.bundle import TicketId, parse
from tickets.registry import Registry

KEY = "tk_0123456789abcdef"


def starter(folder: Path, families: dict[str, Any] | None = None) -> Path:
    """A folder with two tickets of one family (they differ in quality), and its family.json."""
    folder.mkdir(exist_ok=True)
    (folder / "a.ticket").write_bytes(tiny_bundle("accurate", quality=0.968))
    (folder / "f.ticket").write_bytes(tiny_bundle("fast", quality=0.951, scale=0.5))
    entries = [{"file": "a.ticket", "tier": "accurate"}, {"file": "f.ticket", "tier": "fast"}]
    (folder / "family.json").write_text(json.dumps({"families": families or {"home": entries}}))
    return folder


def test_the_registry_holds_the_starters_tickets_afterwards(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    families = fill(registry, starter(tmp_path / "starter"))
    assert sorted(ticket.id for _, ticket in families["home"]) == registry.ids()
    assert fill(registry, tmp_path / "starter") == families  # again changes nothing


def test_the_default_table_lets_the_demo_tenant_ask_every_family(tmp_path: Path) -> None:
    families = fill(Registry(tmp_path / "registry"), starter(tmp_path / "starter"))
    table = default_table(families, key_hash(KEY))
    assert tenant_of(table, KEY) == "demo"
    domain = table.tenants["demo"].domains["home"]
    assert {name: tier.deadline_ms for name, tier in domain.tiers.items()} == {"accurate": 100.0, "fast": 25.0}
    assert [ticket.quality for ticket in table.families["home"]] == [0.968, 0.951]


def test_quality_counts_out_of_scope_recall_as_much_as_accuracy_where_the_evidence_has_both(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    for pairs in fill(registry, packaged()).values():
        for _, ticket in pairs:
            report = registry.get(TicketId(ticket.id)).manifest.evidence.report
            assert ticket.quality == (report["in_scope_accuracy"] + report["out_of_scope_recall"]) / 2


def test_the_packaged_families_are_better_where_they_cost_more(tmp_path: Path) -> None:
    """Routing maximises quality, so that a cheaper ticket measured as better would make the others useless."""
    families = fill(Registry(tmp_path / "registry"), packaged())
    table = default_table(families, key_hash(KEY))
    assert {name: [t.tier for t in tickets] for name, tickets in table.best_first.items()} == {
        "banking": ["accurate", "balanced", "fast"],
        "travel": ["accurate", "balanced", "fast"],
    }
    for name, domain in table.tenants["demo"].domains.items():
        assert domain.policy == "best"
        for ticket in table.families[name]:
            assert domain.tiers[ticket.tier].quality_floor <= ticket.quality


def test_a_tier_may_step_down_one_ticket_and_no_further(tmp_path: Path) -> None:
    """The floor is the next cheaper ticket's quality, rounded down to a percent."""
    families = fill(Registry(tmp_path / "registry"), starter(tmp_path / "starter"))
    tiers = default_table(families, key_hash(KEY)).tenants["demo"].domains["home"].tiers
    assert tiers["accurate"].quality_floor == 0.95
    assert tiers["fast"].quality_floor == 0.95


def test_a_floor_in_family_json_holds(tmp_path: Path) -> None:
    entries = [{"file": "a.ticket", "tier": "accurate", "quality_floor": 0.5}]
    families = fill(Registry(tmp_path / "registry"), starter(tmp_path / "starter", {"home": entries}))
    tiers = default_table(families, key_hash(KEY)).tenants["demo"].domains["home"].tiers
    assert tiers["accurate"].quality_floor == 0.5


def test_the_example_is_a_text_that_the_ticket_knows() -> None:
    assert example_text(parse(tiny_bundle())) == "rain sun"


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        ("{", "does not describe"),
        ('{"families": {"home": []}}', "names no ticket"),
        ('{"families": {"home": [{"file": "../a.ticket", "tier": "fast"}]}}', "file in the same folder"),
        ('{"families": {"home": [{"tier": "fast"}]}}', "file"),
        ('{"families": {"HOME": [{"file": "a.ticket", "tier": "fast"}]}}', "does not describe"),
    ],
)
def test_a_bad_index_is_refused_with_its_reason(tmp_path: Path, index: str, complaint: str) -> None:
    (tmp_path / "family.json").write_text(index)
    with pytest.raises(StarterError, match=complaint):
        read_index(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StarterError, match="cannot read the starter family"):
        read_index(tmp_path / "nowhere")


def test_a_missing_or_damaged_ticket_is_refused_by_name(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    folder = starter(tmp_path / "starter", {"home": [{"file": "gone.ticket", "tier": "fast"}]})
    with pytest.raises(StarterError, match=r"gone\.ticket, which is not there"):
        fill(registry, folder)
    (folder / "gone.ticket").write_bytes(b"x" * 100)
    with pytest.raises(StarterError, match="not a usable ticket"):
        fill(registry, folder)
    assert registry.ids() == []
