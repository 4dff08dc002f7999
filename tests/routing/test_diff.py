"""The differences of two tables: every kind of change is said, at its path, and nothing else is."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.diff import Difference, diff, shorten
from routing.document import check
from routing.keys import key_hash
from routing.table import Canary, Cascade, Domain, FamilyTicket, Table, Tenant, Tier
from tests.routing.tables import ACCURATE, BALANCED, FAST, OTHER, example_table

TABLE = example_table()
replace = msgspec.structs.replace


def lines(old: Table | None, new: Table) -> list[str]:
    return [str(difference) for difference in diff(old, new)]


def with_acme(**changes: object) -> Table:
    return replace(TABLE, tenants={**TABLE.tenants, "acme": replace(TABLE.tenants["acme"], **changes)})


def with_banking(**changes: object) -> Table:
    return with_acme(domains={"banking": replace(TABLE.tenants["acme"].domains["banking"], **changes)})


def with_fast(**changes: object) -> Table:
    family = [replace(t, **changes) if t.id == FAST else t for t in TABLE.families["banking"]]
    return replace(TABLE, families={**TABLE.families, "banking": family})


def without_balanced() -> Table:
    family = [t for t in TABLE.families["banking"] if t.id != BALANCED]
    return replace(TABLE, families={**TABLE.families, "banking": family})


AT = "tenants.acme.domains.banking"
CHANGES: dict[str, tuple[Table, list[str]]] = {
    "a state": (with_fast(state="registered"), ["families.banking.cccccccccccc.state: promoted -> registered"]),
    "what it replaces": (
        with_fast(replaces=[OTHER]),
        ["families.banking.cccccccccccc.replaces: none -> dddddddddddd..."],
    ),
    "a ticket that went": (
        without_balanced(),
        ["families.banking.bbbbbbbbbbbb: removed: ticket: tier balanced, promoted, quality 0.95, 10 ms"],
    ),
    "a family": (
        replace(
            TABLE,
            families={**TABLE.families, "acme/x": [FamilyTicket(id=FAST, tier="f", quality=0.5, service_ms=1.0)]},
        ),
        ['families."acme/x": a new family of f cccccccccccc...'],
    ),
    "a deadline": (
        example_table(fast=Tier(deadline_ms=12.5)),
        [f"{AT}.tiers.fast.deadline_ms: 10 -> 12.5"],
    ),
    "a tier": (
        example_table(new=Tier(deadline_ms=7.0, quality_floor=0.5)),
        [f"{AT}.tiers.new: a new tier: within 7 ms, quality >= 0.5"],
    ),
    "a policy": (with_banking(policy="tier"), [f"{AT}.policy: best -> tier"]),
    "a canary": (
        with_banking(canary=Canary(ticket=FAST, current=BALANCED)),
        [
            f"{AT}.canary: a new canary: ticket cccccccccccc..., current bbbbbbbbbbbb..., share 0.1, mode canary, "
            "is_automatic no, started_at 0"
        ],
    ),
    "a weight": (with_acme(weight=2.0), ["tenants.acme.weight: 1 -> 2"]),
    "a tenant": (
        replace(TABLE, tenants={**TABLE.tenants, "new": Tenant()}),
        ["tenants.new: a new tenant without domains"],
    ),
    "a domain": (
        with_acme(domains={**TABLE.tenants["acme"].domains, "b": TABLE.tenants["globex"].domains["travel"]}),
        ["tenants.acme.domains.b: a new domain on family travel"],
    ),
}


@pytest.mark.parametrize(("new", "expected"), CHANGES.values(), ids=CHANGES)
def test_every_kind_of_change_is_said_at_its_path(new: Table, expected: list[str]) -> None:
    assert lines(TABLE, new) == expected


@pytest.mark.parametrize("new", [new for new, _ in CHANGES.values()], ids=CHANGES)
def test_there_and_back_are_the_same_places(new: Table) -> None:
    """What was added is removed on the way back, at the same paths."""
    opposite = {"added": "removed", "removed": "added", "changed": "changed"}
    there = {(d.path, d.kind) for d in diff(TABLE, new)}
    assert {(d.path, opposite[d.kind]) for d in diff(new, TABLE)} == there


def test_equal_tables_have_no_differences_whatever_their_versions() -> None:
    assert diff(TABLE, TABLE) == []
    assert diff(TABLE, replace(TABLE, version=9)) == []


def test_without_an_old_table_everything_is_new() -> None:
    assert {d.kind for d in diff(None, TABLE)} == {"added"}
    assert len(diff(None, TABLE)) == 4


def test_a_key_that_is_exchanged_is_shown_by_the_beginning_of_its_hash_only() -> None:
    old, new = TABLE.tenants["acme"].key_hashes[0], key_hash("tk_something_else_0123456789")
    assert lines(TABLE, with_acme(key_hashes=[new])) == [
        f"tenants.acme.key_hashes: a new key {new[:12]}...",
        f"tenants.acme.key_hashes: removed: key {old[:12]}...",
    ]


def test_a_change_inside_a_cascade_is_said_field_by_field() -> None:
    rule = Cascade(small=FAST, large=ACCURATE, threshold=0.5, accuracy=0.9)
    old, new = with_banking(cascade=rule), with_banking(cascade=replace(rule, threshold=0.75, large=BALANCED))
    found = diff(old, new)
    assert [d.path for d in found] == [f"{AT}.cascade.large", f"{AT}.cascade.threshold"]
    assert found[1] == Difference(
        path=f"{AT}.cascade.threshold", kind="changed", words="0.5 -> 0.75", before=0.5, after=0.75
    )


def test_names_with_dots_are_quoted_so_that_a_path_reads_one_way_only() -> None:
    new = replace(TABLE, tenants={**TABLE.tenants, "a.domains.b": Tenant()})
    assert lines(TABLE, new) == ['tenants."a.domains.b": a new tenant without domains']


def test_only_long_hexadecimal_is_shortened() -> None:
    assert shorten("ab" * 32) == "abababababab..."
    assert [shorten(text) for text in ("fast", "abcdef", "home")] == ["fast", "abcdef", "home"]


EDITS: list[Callable[[Table], Table]] = [
    lambda t: replace(t, tenants={name: item for name, item in t.tenants.items() if name != "globex"}),
    lambda t: replace(t, tenants={**t.tenants, "third": Tenant(weight=3.0)}),
    lambda t: replace(
        t,
        tenants={
            **t.tenants,
            "acme": Tenant(
                domains={"x": Domain(family="travel", default_tier="only", tiers={"only": Tier(deadline_ms=1.0)})}
            ),
        },
    ),
    lambda t: replace(
        t, families={**t.families, "more": [FamilyTicket(id=FAST, tier="f", quality=0.5, service_ms=1.0)]}
    ),
    lambda t: replace(t, families={**t.families, "travel": [replace(x, bytes=7) for x in t.families["travel"]]}),
]


@given(st.lists(st.sampled_from(EDITS), max_size=5))
def test_there_are_no_differences_exactly_where_the_tables_are_equal(edits: list[Callable[[Table], Table]]) -> None:
    new = TABLE
    for edit in edits:
        new = check(edit(new))
    assert bool(diff(TABLE, new)) == (new != TABLE)
