"""`tombola tenants`: tenants and their keys, made, bounded, suspended and deleted over a real gateway."""

import stat
from pathlib import Path

import pytest

from server.cli.options import Bound
from server.cli.tenant_keys import Span
from tests.server.cli.house import House
from tests.server.gateways import wait_until
from tickets.signing import new_private, public_text, write_public

pytestmark = pytest.mark.redis


class TestCreate:
    def test_a_tenant_is_made_with_its_limits_and_its_key_is_shown(self, house: House) -> None:
        said = house.ok("tenants", "create", "made-1", "--rate", "200", "--daily", "1000", "--ticket-bytes", "4GB")
        assert "its admin key, shown this once:  tk_" in said
        assert "rate_per_s 200" in said
        row = house.json("tenants", "show", "made-1")
        assert row["limits"]["daily_requests"] == 1000
        assert row["limits"]["ticket_bytes"] == 4_000_000_000

    def test_a_key_file_is_the_owners_alone_and_the_key_is_not_shown(self, house: House, tmp_path: Path) -> None:
        path = tmp_path / "made.key"
        said = house.ok("tenants", "create", "made-2", "--key-file", path)
        key = path.read_text().strip()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert key.startswith("tk_")
        assert key not in said
        wait_until(lambda: house.status(key) == 200)
        assert "made-2" in house.ok("tenants", "list", key=str(path))

    def test_a_key_file_that_exists_is_kept_and_nothing_is_made(self, house: House, tmp_path: Path) -> None:
        path = tmp_path / "mine"
        path.write_text("precious")
        assert "not replaced; nothing was made" in house.fails("tenants", "create", "made-3", "--key-file", path)
        assert path.read_text() == "precious"
        assert "unknown_tenant" in house.fails("tenants", "show", "made-3")

    def test_a_refusal_leaves_no_key_file_behind(self, house: House, tenant: str, tmp_path: Path) -> None:
        path = tmp_path / "new.key"
        assert "already" in house.fails("tenants", "create", tenant, "--key-file", path)
        assert not path.exists()

    def test_a_tenants_own_key_makes_no_tenants(self, house: House, admin_key: str) -> None:
        assert "[forbidden, request " in house.fails("tenants", "create", "made-4", key=admin_key)


class TestChanges:
    def test_a_limit_is_set_the_others_stay_and_none_takes_it_away(self, house: House, tenant: str) -> None:
        house.ok("tenants", "limits", tenant, "--rate", "50", "--concurrency", "4")
        house.ok("tenants", "limits", tenant, "--rate", "none", "--weight", "2")
        row = house.json("tenants", "show", tenant)
        assert (row["limits"]["rate_per_s"], row["limits"]["concurrency"], row["weight"]) == (None, 4, 2.0)
        assert "no limit" in house.ok("tenants", "limits", tenant)

    def test_signers_and_gates_join_the_policy_and_leave_it(self, house: House, tenant: str, tmp_path: Path) -> None:
        public = public_text(new_private())
        write_public(tmp_path / "release.pub", "release", public)
        other = public_text(new_private())
        house.ok(
            "tenants", "policy", tenant, "--require-signature", "--signer", tmp_path / "release.pub", "--signer",
            f"other={other}", "--min-quality", "0.9",
        )  # fmt: skip
        policy = house.json("tenants", "policy", tenant, "--drop-signer", "other")
        assert policy["requires_signature"] is True
        assert policy["signers"] == {"release": public}
        assert policy["min_quality"] == 0.9
        policy = house.json("tenants", "policy", tenant, "--no-require-signature", "--min-quality", "none")
        assert (policy["requires_signature"], policy["min_quality"]) == (False, None)

    def test_a_signer_that_is_none_is_a_usage_error(self, house: House, tenant: str, tmp_path: Path) -> None:
        for wrong in ("release=AAAA", tmp_path / "none.pub"):
            assert "--signer" in house.fails("tenants", "policy", tenant, "--signer", wrong, code=2)
        assert "there is no signer 'x'" in house.fails("tenants", "policy", tenant, "--drop-signer", "x")

    def test_a_suspended_tenant_is_refused_until_it_is_resumed(self, house: House, tenant: str, admin_key: str) -> None:
        house.ok("tenants", "suspend", tenant, "--yes")
        wait_until(lambda: house.status(admin_key) == 403)
        said = house.fails("tenants", "list", key=admin_key)
        assert "suspended" in said
        assert "tombola tenants resume" in said
        assert "suspended" in house.ok("tenants", "list")
        house.ok("tenants", "resume", tenant)
        wait_until(lambda: house.status(admin_key) == 200)

    def test_deleting_asks_and_where_nobody_can_be_asked_it_wants_a_word(self, house: House, tenant: str) -> None:
        assert "Say --yes" in house.fails("tenants", "delete", tenant, code=2)
        house.ok("tenants", "show", tenant)
        house.ok("tenants", "delete", tenant, "--yes")
        assert "unknown_tenant" in house.fails("tenants", "show", tenant)


class TestKeys:
    def test_a_key_is_made_listed_rotated_and_revoked(self, house: House, tenant: str) -> None:
        made = house.json("tenants", "key", "new", tenant, "--role", "register", "--label", "ci", "--expires-in", "90d")
        assert made["expires_at"] - made["created_at"] == pytest.approx(90 * 86_400, abs=2)
        listed = house.ok("tenants", "key", "list", tenant)
        assert made["id"] in listed
        assert "ci" in listed
        assert made["key"] not in listed
        rotated = house.json("tenants", "key", "rotate", tenant, made["id"], "--grace", "1h")
        assert (rotated["role"], rotated["label"]) == ("register", "ci")
        ids = {row["id"] for row in house.json("tenants", "key", "list", tenant)["keys"]}
        assert {made["id"], rotated["id"]} <= ids, "the old one lives through its grace"
        house.ok("tenants", "key", "revoke", tenant, rotated["id"], "--yes")
        wait_until(lambda: house.status(rotated["key"]) == 401)

    def test_the_operators_own_keys_are_made_the_same_way(self, house: House) -> None:
        made = house.json("tenants", "key", "new", "@operator", "--label", "second")
        assert made["role"] == "operator"
        wait_until(lambda: house.status(made["key"]) == 200)
        house.ok("tenants", "key", "revoke", "@operator", made["id"], "--yes")

    def test_an_unknown_key_is_named_with_its_code(self, house: House, tenant: str) -> None:
        assert "unknown_key" in house.fails("tenants", "key", "revoke", tenant, "0" * 12, "--yes")

    def test_another_tenants_keys_are_as_unknown_as_nobodys(self, house: House, admin_key: str, tenant: str) -> None:
        house.ok("tenants", "create", f"{tenant}-other")
        said = {
            house.fails("tenants", "key", "list", name, key=admin_key).replace(name, "NAME").partition(", request")[0]
            for name in (f"{tenant}-other", f"{tenant}-none")
        }
        assert len(said) == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [("4GB", 4 * 10**9), ("1.5 MiB", 3 << 19), ("500kb", 500_000), ("12", 12), ("none", "none"), ("None", "none")],
)
def test_bounds_are_numbers_with_units_or_none(text: str, number: object) -> None:
    assert Bound(int).convert(text, None, None) == number


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("15m", 900), ("12h", 43_200), ("1.5d", 129_600), ("2w", 1_209_600)]
)
def test_stretches_of_time_have_units(text: str, seconds: float) -> None:
    assert Span().convert(text, None, None) == seconds


@pytest.mark.parametrize("arguments", [("--rate", "fast"), ("--burst", "1.5"), ("--ticket-bytes", "4 apples")])
def test_what_is_no_bound_is_a_usage_error(house: House, tenant: str, arguments: tuple[str, ...]) -> None:
    assert "neither a number nor 'none'" in house.fails("tenants", "limits", tenant, *arguments, code=2)
