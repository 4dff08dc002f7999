"""Documents: what authors may write, what becomes of it, and how each mistake is named."""

import json
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.document import (
    MAX_DOCUMENT_BYTES,
    DocumentError,
    check,
    dump_json,
    from_data,
    load_json,
    parse_json,
    parse_toml,
    read_document,
)
from routing.keys import key_hash, tenant_of
from routing.table import Cascade, Table, Tier
from tests.routing.tables import ACCURATE, ACME_KEY, BALANCED, FAST, GLOBEX_KEY, OTHER, example_table

AUTHORED = f"""
[[families.banking]]
id = "{FAST}"
tier = "fast"
quality = 0.90
service_ms = 2

[[families.banking]]
id = "{ACCURATE}"
tier = "accurate"
quality = 0.97
service_ms = 20.0

[tenants.acme]
keys = ["{ACME_KEY}"]

[tenants.acme.domains.banking]
family = "banking"
default_tier = "fast"
tiers.accurate = {{ deadline_ms = 100, quality_floor = 0.95 }}
tiers.fast = {{ deadline_ms = 10 }}
"""


def cascade(**changes: object) -> dict[str, object]:
    """A good cascade of the banking family, but for the changes."""
    return {"small": FAST, "large": ACCURATE, "threshold": 0.9, "accuracy": 0.96, **changes}


def canary(**changes: object) -> dict[str, object]:
    """The banking family's fast ticket on trial against its balanced one, but for the changes."""
    return {"ticket": FAST, "current": BALANCED, **changes}


def authored() -> dict[str, object]:
    """A good document as parsed data, to be spoiled."""
    data = json.loads(dump_json(example_table()))
    assert isinstance(data, dict)
    return data


class TestReading:
    def test_a_toml_document_becomes_the_table_it_describes(self) -> None:
        table = parse_toml(AUTHORED.encode())
        banking = table.tenants["acme"].domains["banking"]
        assert banking.tiers == {
            "accurate": Tier(deadline_ms=100.0, quality_floor=0.95),
            "fast": Tier(deadline_ms=10.0),
        }
        assert (banking.family, banking.default_tier) == ("banking", "fast")

    def test_families_are_put_in_order_of_cost(self) -> None:
        """Routing steps down this order, so it must not depend on how a person lists tickets."""
        table = parse_toml(AUTHORED.encode())
        assert [ticket.id for ticket in table.families["banking"]] == [ACCURATE, FAST]

    def test_a_key_in_clear_is_hashed_and_is_nowhere_in_the_table(self) -> None:
        table = parse_toml(AUTHORED.encode())
        assert tenant_of(table, ACME_KEY) == "acme"
        assert ACME_KEY not in repr(table)
        assert ACME_KEY.encode() not in dump_json(table)

    def test_keys_and_key_hashes_may_stand_side_by_side_and_repeat(self) -> None:
        digests = [key_hash(GLOBEX_KEY), key_hash(ACME_KEY)]
        table = from_data({"tenants": {"acme": {"keys": [ACME_KEY, ACME_KEY], "key_hashes": digests}}})
        assert table.tenants["acme"].key_hashes == [key_hash(ACME_KEY), key_hash(GLOBEX_KEY)]

    def test_shares_and_policies_are_read(self) -> None:
        written = AUTHORED.replace(
            f'keys = ["{ACME_KEY}"]', f'keys = ["{ACME_KEY}"]\nweight = 2.5\nreserved_bytes = 1000000'
        ).replace(
            'default_tier = "fast"',
            'default_tier = "fast"\npolicy = "cascade"\n'
            f'cascade = {{ small = "{FAST}", large = "{ACCURATE}", threshold = 0.8, accuracy = 0.96 }}',
        )
        acme = parse_toml(written.encode()).tenants["acme"]
        assert (acme.weight, acme.reserved_bytes) == (2.5, 1_000_000)
        banking = acme.domains["banking"]
        assert banking.policy == "cascade"
        assert banking.cascade == Cascade(small=FAST, large=ACCURATE, threshold=0.8, accuracy=0.96)

    def test_shares_and_policies_may_be_left_out(self) -> None:
        """Documents that were written before there were any mean what is usual."""
        acme = parse_toml(AUTHORED.encode()).tenants["acme"]
        assert (acme.weight, acme.reserved_bytes) == (1.0, 0)
        assert (acme.domains["banking"].policy, acme.domains["banking"].cascade) == ("best", None)

    def test_an_empty_document_is_an_empty_table(self) -> None:
        assert parse_toml(b"") == Table() == parse_json(b"{}")

    def test_json_says_the_same_as_toml(self, tmp_path: Path) -> None:
        (tmp_path / "table.toml").write_text(AUTHORED)
        (tmp_path / "table.json").write_bytes(dump_json(parse_toml(AUTHORED.encode())))
        assert read_document(tmp_path / "table.json") == read_document(tmp_path / "table.toml")


class TestJson:
    def test_what_is_dumped_loads_again_by_either_way(self) -> None:
        table = msgspec.structs.replace(example_table(), version=7)
        assert load_json(dump_json(table)) == parse_json(dump_json(table, indent=2)) == table

    def test_equal_tables_give_equal_bytes(self) -> None:
        table = example_table()
        turned = msgspec.structs.replace(table, tenants=dict(reversed(table.tenants.items())))
        assert dump_json(table) == dump_json(turned)

    def test_a_stored_table_is_checked_like_an_authored_one(self) -> None:
        with pytest.raises(DocumentError, match=r"families\.banking: a family needs at least one ticket"):
            load_json(b'{"families": {"banking": []}}')

    @pytest.mark.parametrize("field", ["families", "tenants", "extra", "format", "version"])
    def test_a_stored_table_of_the_wrong_shape_is_refused(self, field: str) -> None:
        with pytest.raises(DocumentError, match="document: "):
            load_json(json.dumps({field: "wrong"}).encode())


# (path of the spoiled place, its new value, what the error must say)
MISTAKES = [
    ("extra", 1, "extra: unknown field (known: format, version, families, tenants)"),
    ("format", 2, "format: invalid enum value 2"),
    ("families", [], "families: expected a table of names, got list"),
    ("families.banking", {}, "families.banking: expected a list, got dict"),
    ("families.banking", [], "families.banking: a family needs at least one ticket"),
    ("families.Bad Name", [], 'families."Bad Name": expected `str` matching regex'),
    ("families.banking.1.id", "abc", "families.banking[1].id: expected `str` matching regex"),
    ("families.banking.1.id", FAST + "\n", "families.banking[1].id: expected `str` matching regex"),
    ("families.banking.1.id", ACCURATE, "families.banking[1].id: the same ticket as families.banking[0]"),
    ("families.banking.2.quality", 1.5, "families.banking[2].quality: expected `float` <= 1.0"),
    ("families.banking.2.service_ms", 0, "families.banking[2].service_ms: expected `float` > 0.0"),
    ("families.banking.2.service_ms", 10**400, "families.banking[2]"),
    ("families.banking.2.speed", 3, "families.banking[2]: object contains unknown field `speed`"),
    ("tenants.acme", "me", "tenants.acme: expected a table of names, got str"),
    ("tenants.acme", {}, "tenants.acme: needs keys or key_hashes"),
    ("tenants.acme.secret", "x",
     "tenants.acme.secret: unknown field (known: keys, key_hashes, domains, weight, reserved_bytes)"),
    ("tenants.acme.keys", "tk_", "tenants.acme.keys: expected a list, got str"),
    ("tenants.acme.key_hashes", ["zz"], "tenants.acme.key_hashes[0]: expected `str` matching regex"),
    ("tenants.acme.keys", [GLOBEX_KEY], "key_hashes: tenant acme has the same key"),
    ("tenants.acme.domains", 1, "tenants.acme.domains: expected a table of names, got int"),
    ("tenants.acme.domains.banking.family", "cooking",
     "tenants.acme.domains.banking.family: no family 'cooking' in this document (families: banking, travel)"),
    ("tenants.acme.domains.banking.family", 3, "tenants.acme.domains.banking.family: expected `str`, got `int`"),
    ("tenants.acme.domains.banking.default_tier", "gold",
     "tenants.acme.domains.banking.default_tier: no tier 'gold' in this domain (tiers: accurate, balanced, fast,"),
    ("tenants.acme.domains.banking.tiers", {}, "tenants.acme.domains.banking.tiers: a domain needs at least one tier"),
    ("tenants.acme.domains.banking.tiers.fast.deadline_ms", 0,
     "tenants.acme.domains.banking.tiers.fast.deadline_ms: expected `float` > 0.0"),
    ("tenants.acme.domains.banking.tiers.fast.deadline_ms", "10",
     "tenants.acme.domains.banking.tiers.fast.deadline_ms: expected `float`, got `str`"),
    ("tenants.acme.domains.banking.tiers.fast.quality_floor", float("nan"),
     "tenants.acme.domains.banking.tiers.fast.quality_floor: expected `float` >= 0.0"),
    ("tenants.acme.domains.banking.tiers.fast", {},
     "tenants.acme.domains.banking.tiers.fast: object missing required field `deadline_ms`"),
    ("tenants.acme.weight", 0, "tenants.acme.weight: expected `float` >= 0.01"),
    ("tenants.acme.weight", "heavy", "tenants.acme.weight: expected `float`, got `str`"),
    ("tenants.acme.reserved_bytes", -1, "tenants.acme.reserved_bytes: expected `int` >= 0"),
    ("tenants.acme.reserved_bytes", 0.5, "tenants.acme.reserved_bytes: expected `int`, got `float`"),
    ("tenants.acme.domains.banking.policy", "cheapest",
     "tenants.acme.domains.banking.policy: invalid enum value 'cheapest'"),
    ("tenants.acme.domains.banking.policy", "cascade",
     "tenants.acme.domains.banking.cascade: policy cascade needs one"),
    ("tenants.acme.domains.banking.cascade", {"small": FAST},
     "tenants.acme.domains.banking.cascade: object missing required field `large`"),
    ("tenants.acme.domains.banking.cascade", cascade(threshold=1.5),
     "tenants.acme.domains.banking.cascade.threshold: expected `float` <= 1.0"),
    ("tenants.acme.domains.banking.cascade", cascade(extra=1),
     "tenants.acme.domains.banking.cascade: object contains unknown field `extra`"),
    ("tenants.acme.domains.banking.cascade", cascade(small=OTHER),
     "tenants.acme.domains.banking.cascade.small: no ticket dddddddddddd... in family 'banking'"),
    ("tenants.acme.domains.banking.cascade", cascade(large=OTHER),
     "tenants.acme.domains.banking.cascade.large: no ticket dddddddddddd... in family 'banking'"),
    ("tenants.acme.domains.banking.cascade", cascade(small=ACCURATE, large=BALANCED),
     "tenants.acme.domains.banking.cascade.small: at 20 ms it is not cheaper than the large ticket at 10 ms"),
    ("tenants.acme.domains.banking.cascade", cascade(small=FAST, large=FAST),
     "tenants.acme.domains.banking.cascade.small: at 2 ms it is not cheaper than the large ticket at 2 ms"),
    ("families.banking.2.state", "retired", "families.banking[2].state: invalid enum value 'retired'"),
    ("families.banking.2.state", "canary",
     "families.banking[2].state: no domain of this family has a canary that names this ticket"),
    ("families.Acme/banking", [], 'families."Acme/banking": expected `str` matching regex'),
    ("families.a/b/c", [], 'families."a/b/c": expected `str` matching regex'),
    ("tenants.acme.domains.banking.canary", canary(),
     "tenants.acme.domains.banking.canary.ticket: ticket cccccccccccc... is promoted, not canary"),
    ("tenants.acme.domains.banking.canary", canary(ticket=OTHER),
     "tenants.acme.domains.banking.canary.ticket: no ticket dddddddddddd... in family 'banking'"),
    ("tenants.acme.domains.banking.canary", canary(current=OTHER),
     "tenants.acme.domains.banking.canary.current: no ticket dddddddddddd... in family 'banking'"),
    ("tenants.acme.domains.banking.canary", canary(share=2),
     "tenants.acme.domains.banking.canary.share: expected `float` <= 1.0"),
    ("tenants.acme.domains.banking.former", [{"tier": "fast", "tickets": [OTHER]}],
     "tenants.acme.domains.banking.former[0].tickets: no ticket dddddddddddd... in family 'banking'"),
]  # fmt: skip


class TestTrialsAndOwners:
    def test_a_canary_and_what_it_is_compared_with_are_read(self) -> None:
        data = authored()
        spoil(data, ["families", "banking", "2", "state"], "canary")
        spoil(data, ["tenants", "acme", "domains", "banking", "canary"], canary(share=0.2))
        table = from_data(data)
        (running,) = table.canaries.values()
        assert (running.ticket, running.current, running.share, running.mode) == (FAST, BALANCED, 0.2, "canary")
        assert [ticket.id for ticket in table.promoted_first["banking"]] == [ACCURATE, BALANCED]

    def test_what_a_canary_is_compared_with_must_be_promoted(self) -> None:
        data = authored()
        spoil(data, ["families", "banking", "2", "state"], "canary")
        spoil(data, ["families", "banking", "1", "state"], "registered")
        spoil(data, ["tenants", "acme", "domains", "banking", "canary"], canary())
        with pytest.raises(DocumentError, match=r"canary\.current: ticket b{12}\.\.\. is registered, not promoted"):
            from_data(data)

    def test_a_family_of_a_tenants_registrations_is_for_that_tenant_alone(self) -> None:
        data = authored()
        families = data["families"]
        assert isinstance(families, dict)
        families["acme/banking"] = families["banking"]
        spoil(data, ["tenants", "acme", "domains", "banking", "family"], "acme/banking")
        assert from_data(data).tenants["acme"].domains["banking"].family == "acme/banking"
        spoil(data, ["tenants", "globex", "domains", "travel", "family"], "acme/banking")
        with pytest.raises(DocumentError, match="for acme alone"):
            from_data(data)

    def test_other_tenants_families_are_not_named_among_the_known_ones(self) -> None:
        data = authored()
        families = data["families"]
        assert isinstance(families, dict)
        families["acme/banking"] = families["banking"]
        spoil(data, ["tenants", "globex", "domains", "travel", "family"], "nothing")
        with pytest.raises(DocumentError) as refused:
            from_data(data)
        assert "acme/banking" not in str(refused.value)


class TestMistakes:
    @pytest.mark.parametrize(("path", "value", "says"), MISTAKES)
    def test_each_is_named_with_its_path(self, path: str, value: object, says: str) -> None:
        data = authored()
        spoil(data, path.split("."), value)
        with pytest.raises(DocumentError) as refused:
            from_data(data)
        assert [problem for problem in refused.value.problems if says in problem], refused.value.problems

    def test_all_are_named_at_once(self) -> None:
        data = authored()
        spoil(data, ["families", "banking", "0", "quality"], -1)
        spoil(data, ["tenants", "acme", "domains", "banking", "tiers", "fast", "deadline_ms"], -1)
        spoil(data, ["colour"], "red")
        with pytest.raises(DocumentError) as refused:
            from_data(data)
        assert len(refused.value.problems) == 3

    def test_a_spoiled_key_is_not_echoed(self) -> None:
        """It may be a real one with a typing error, and errors end in logs."""
        for bad in ("tk_short", ACME_KEY + " ", ACME_KEY + "\n", "sk_" + "a" * 40, 7):
            with pytest.raises(DocumentError, match=r"tenants\.acme\.keys\[0\]: not an API key") as refused:
                from_data({"tenants": {"acme": {"keys": [bad]}}})
            assert str(bad) not in str(refused.value)

    def test_two_tenants_cannot_have_the_same_key(self) -> None:
        same = {"keys": [ACME_KEY]}
        with pytest.raises(DocumentError, match=r"tenants\.b\.key_hashes: tenant a has the same key"):
            from_data({"tenants": {"a": same, "b": same}})

    @pytest.mark.parametrize("data", [None, 1, "text", [], [1]])
    def test_a_document_must_be_a_table(self, data: object) -> None:
        with pytest.raises(DocumentError, match="document: expected a table of names"):
            from_data(data)

    @pytest.mark.parametrize(
        "data",
        [b"{", b"\xff\xfe", b'{"a": NaN}', b'{"families": {}, "families": {}}', b"[" * 100_000, b"1" * 5_000, b"\x00"],
    )
    def test_bytes_that_are_no_json_are_refused(self, data: bytes) -> None:
        with pytest.raises(DocumentError):
            parse_json(data)

    @pytest.mark.parametrize("data", [b"= 1", b"\xff", b"a = [" * 5_000, b"[a]\n[a]", b"a = 1\na = 2", b"\x00"])
    def test_bytes_that_are_no_toml_are_refused(self, data: bytes) -> None:
        with pytest.raises(DocumentError):
            parse_toml(data)

    @pytest.mark.parametrize("parse", [parse_json, parse_toml, load_json])
    def test_a_document_over_the_size_limit_is_refused_unread(self, parse: object) -> None:
        assert callable(parse)
        with pytest.raises(DocumentError, match="more than 16777216 bytes"):
            parse(b" " * (MAX_DOCUMENT_BYTES + 1))

    def test_a_file_that_is_not_there_is_an_os_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_document(tmp_path / "none.toml")


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
places = st.sampled_from([path for path, _, _ in MISTAKES])


@given(junk)
def test_any_data_gives_a_table_or_a_document_error(data: object) -> None:
    with suppress(DocumentError):
        assert isinstance(from_data(data), Table)


@given(places, junk)
def test_any_value_at_any_place_gives_a_checked_table_or_a_document_error(path: str, value: object) -> None:
    data = authored()
    spoil(data, path.split("."), value)
    try:
        table = from_data(data)
    except DocumentError as error:
        str(error).encode()  # printable, whatever stood in the document
    else:
        assert load_json(dump_json(table)) == check(table) == table


@given(st.permutations([ACCURATE, BALANCED, FAST]))
def test_the_order_in_which_tickets_are_written_says_nothing(order: list[str]) -> None:
    table = example_table()
    by_id = {ticket.id: ticket for ticket in table.families["banking"]}
    families = {**table.families, "banking": [by_id[ticket] for ticket in order]}
    assert check(msgspec.structs.replace(table, families=families)) == table


def spoil(data: object, path: list[str], value: object) -> None:
    """Put ``value`` at the place that the path names."""
    for part in path[:-1]:
        data = data[int(part)] if isinstance(data, list) else data[part]  # type: ignore[index]
    last = path[-1]
    data[int(last) if isinstance(data, list) else last] = value  # type: ignore[index]
